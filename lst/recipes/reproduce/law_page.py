"""The page of ``lst reproduce law``, and its summary for the terminal."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lst.recipes.report.page import page
from lst.recipes.report.plots import MUTED, WIDTH_IN, plot_settings, series_colour, svg_element
from lst.recipes.reproduce.formats import LawFile, Ran, RepetitionRecord
from lst.recipes.reproduce.pages import ran_section
from lst.recipes.scaling.formats import FitFile
from lst.recipes.scaling.page import Drawing, ScalingSection, fit_sections, write_drawings
from lst.recipes.scaling.tables import NONE, Table, gain_table, interval_text
from lst.storage import Folder, write_text

PAGE_FILE = "law.html"
UNITS = {"speech_bits": "bits a unit", "text_bits": "bits a byte"}


def write_law_page(out: Folder, found: LawFile, fits: FitFile | None) -> None:
    """Writes the page and an SVG file of each plot."""
    parts = [ran_section(found["ran"]), _floor_section(found), _repetition_section(found["repetition"])]
    sections = [part for part in parts if part.tables or part.drawings or part.notes]
    sections += fit_sections(fits) if fits else []
    write_drawings(out, sections)
    html = page("lst.recipes.reproduce", PAGE_FILE, sections, found=found, written=datetime.now(timezone.utc))
    write_text(out / PAGE_FILE, html)


def law_as_text(found: LawFile) -> str:
    """The summary that the command prints."""
    parts = [_ran_text(found["ran"]), found["why_no_law"]]
    parts += [table.text() for table in (floor_table(found), gain_table(found["gains"])) if table.rows]
    parts += [repetition_table(one).text() for one in found["repetition"]]
    return "\n\n".join(filter(None, parts))


def _ran_text(ran: list[Ran]) -> str:
    return "\n".join(f"{one['grid']}: {one['num_finished']} of {one['num_models']} models are finished" for one in ran)


def floor_table(found: LawFile) -> Table:
    """The floor of each law beside the known entropy."""
    header = ["law", "E", "known entropy", "interval of E", "best model", "unit", "notes"]
    rows = []
    for one in found["floors"]:
        known = f"{one['known_low']:.4f}"
        if one["known_high"] > one["known_low"] * (1 + 1e-9):
            known += f" to {one['known_high']:.4f}"
        verdict = one["verdict"] if one["verdict"] == "not determined" else f"{one['verdict']} it"
        name = f"{one['arm']}, {one['loss']}"
        cells = [interval_text(one["E"]), known, verdict, f"{one['least_loss']:.4f}", UNITS.get(one["loss"], "")]
        rows.append([name, *cells, one["note"]])
    return Table("", header, rows)


def repetition_table(found: RepetitionRecord) -> Table:
    """Repeated models of an arm beside fresh ones."""
    header = [
        found["arm"],
        "D",
        "passes",
        "bits a unit",
        "bits a unit, fresh",
        "fresh data of equal loss",
        "its share of D",
    ]
    rows = []
    for one in found["models"]:
        fresh = NONE if one["fresh_loss"] is None else f"{one['fresh_loss']:.4f}"
        effective = one["effective"]
        share = NONE if effective is None else f"{effective['value'] / one['D']:.2f}"
        rows.append(
            [
                one["size"],
                f"{one['D']:,.0f}",
                f"{one['passes']:.1f}",
                f"{one['loss']:.4f}",
                fresh,
                interval_text(effective, 3),
                share,
            ]
        )
    return Table("", header, rows)


def _floor_section(found: LawFile) -> ScalingSection:
    known = found["known"]
    lead = (
        f"Speech and stories are drawn from a known model, so the entropy of the {known['num_utterances']:,} "
        f"held-out stories ({known['num_units']:,} units, {known['num_bytes']:,} bytes) is known: a sum over all "
        "stories, durations, silences and noise. It counts what models are scored on: of each unit, that the "
        "speech goes on and which unit it is. A law whose interval of E holds this number has found the floor. "
        "The entropy is that of the same stories as the losses, so that their choice changes nothing."
    )
    table = floor_table(found)
    notes = [found["why_no_law"]] if found["why_no_law"] else []
    return ScalingSection(
        "floor", "The floor and the known entropy", template="section.html", lead=lead, tables=[table], notes=notes
    )


def _repetition_section(found: list[RepetitionRecord]) -> ScalingSection:
    notes = [f"{one['arm']}: R* = {interval_text(one['decay'], 3)} passes." for one in found if one["decay"]]
    return ScalingSection(
        "repetition",
        "What repetition does to data",
        template="section.html",
        lead="Models of the middle size that hear the prepared stories again and again, beside those that never hear a "
        "rendition twice. Data of equal loss is read off the fresh models; a dash lies outside of what was trained. R* "
        "says after how many repetitions their worth has decayed: D′ = U + U·R*·(1 − exp(−R/R*)).",
        tables=[repetition_table(one) for one in found],
        drawings=[
            Drawing("repetition", repetition_plot(found), "Left: bits a unit over data. Right: worth of repeated data.")
        ]
        if found
        else [],
        notes=notes,
    )


@plot_settings()
def repetition_plot(found: list[RepetitionRecord]) -> Markup:
    """Losses of repeated and of fresh models over data, and the worth of a repeated unit over passes."""
    figure = Figure(figsize=(WIDTH_IN, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, one in enumerate(found):
        colour, models = series_colour(index), one["models"]
        fresh = [model for model in models if model["fresh_loss"] is not None]
        left.plot([m["D"] for m in models], [m["loss"] for m in models], "o-", color=colour, label=one["arm"])
        left.plot([m["D"] for m in fresh], [m["fresh_loss"] for m in fresh], "--", color=colour)
        worth = [(m["passes"], m["effective"]["value"] / m["D"]) for m in models if m["effective"] is not None]
        right.plot([passes for passes, _ in worth], [share for _, share in worth], "o", color=colour)
        if one["decay"] is not None and models:
            passes = np.geomspace(1, max(2.0, *(m["passes"] for m in models)), 80)
            decay = one["decay"]["value"]
            right.plot(passes, (1 - decay * np.expm1(-(passes - 1) / decay)) / passes, color=colour, linewidth=1)
    right.axhline(1, color=MUTED, linewidth=1)
    left.set(title="bits a unit; dashed: fresh", xlabel="data, units and bytes", xscale="log")
    right.set(title="fresh data of equal loss / data", xlabel="passes", xscale="log")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(figure, "repetition", "losses of repeated and fresh models, and the worth of repeated data")
