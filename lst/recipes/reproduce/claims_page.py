"""The page of ``lst reproduce lst``, and its summary for the terminal. Accuracies are in %, differences in points."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from lst.recipes.report.page import page
from lst.recipes.reproduce.claims_plot import name_of, seeds_plot
from lst.recipes.reproduce.formats import Answer, LstFile
from lst.recipes.reproduce.pages import ran_section
from lst.recipes.scaling.formats import Interval
from lst.recipes.scaling.page import Drawing, ScalingSection, write_drawings
from lst.recipes.scaling.tables import NONE, Table
from lst.storage import Folder, write_text

PAGE_FILE = "lst.html"
# Strata that are shown seed by seed: nothing but content tells their endings apart.
PLOTTED = ("name", "thing")


def write_claims_page(out: Folder, found: LstFile) -> None:
    """Writes the page."""
    sections = [
        _claims_section(found),
        _seeds_section(found),
        ran_section(found["ran"]),
        _groups_section(found),
        _differences_section(found),
    ]
    write_drawings(out, [one for one in sections if isinstance(one, ScalingSection)])
    html = page("lst.recipes.reproduce", PAGE_FILE, sections, found=found, written=datetime.now(timezone.utc))
    write_text(out / PAGE_FILE, html)


def claims_as_text(found: LstFile) -> str:
    """The summary that the command prints."""
    ran = [f"{one['grid']}: {one['num_finished']} of {one['num_models']} models are finished" for one in found["ran"]]
    return "\n".join([*ran, "", claims_table(found).text()])


def claims_table(found: LstFile) -> Table:
    """Each claim with its verdict, and the answer at equal FLOPs."""
    header = ["claim", "questions", "verdict", "difference, points", "p (Holm)", "seeds, items"]
    header += ["at equal FLOPs", "difference, points"]
    rows = []
    for one in found["claims"]:
        answer, at_flops = one["answer"], one["at_flops"]
        cells = [one["claim"], f"{one['direction']}, {one['stratum']}", _short(one["verdict"]), _points(answer)]
        cells += [f"{answer['p_holm']:.2g}", f"{answer['num_seeds']}, {answer['num_items']}"] if answer else [NONE] * 2
        rows.append([*cells, _short(at_flops["verdict"]) if at_flops else NONE, _points(at_flops)])
    return Table("", header, rows)


def _short(verdict: str) -> str:
    """Without what each row would repeat."""
    return verdict.removesuffix(" here")


def _points(answer: Answer | None) -> str:
    if answer is None:
        return NONE
    return f"{100 * answer['value']:+.1f} ({100 * answer['low']:+.1f} to {100 * answer['high']:+.1f})"


def _percent(found: Interval | None, sign: str = "") -> str:
    """``61.2 (55.0 to 67.4)``, of a share."""
    if found is None:
        return NONE
    value = f"{100 * found['value']:{sign}.1f}"
    if found["low"] is None or found["high"] is None:
        return value
    return f"{value} ({100 * found['low']:{sign}.1f} to {100 * found['high']:{sign}.1f})"


def _claims_section(found: LstFile) -> ScalingSection:
    return ScalingSection(
        "claims",
        "Claims",
        template="section.html",
        lead="Claims, questions and scores were chosen before anything was trained. A claim holds where the whole "
        "interval of the difference lies above zero, and does not hold where it lies below one point; all else is not "
        "decided here. Intervals have seeds and questions as crossed random effects, corrected for the number of "
        "claims by Holm's method. A dash: not enough was trained.",
        tables=[claims_table(found)],
    )


def _seeds_section(found: LstFile) -> ScalingSection:
    strata = dict.fromkeys(stratum for own in _asked(found).values() for stratum in own)
    drawings = [
        Drawing(
            f"seeds-{stratum}",
            seeds_plot(found["groups"], stratum),
            f"Accuracy in % of each seed where the false ending has another {stratum}; a line is the 95 % interval of "
            "the mean over seeds and questions, and the dashed one is chance.",
        )
        for stratum in PLOTTED
        if stratum in strata
    ]
    return ScalingSection(
        "seeds",
        "Seed by seed",
        template="section.html",
        lead="One seed differs from the next by other weights and other batches. Where models are just learning to "
        "copy, seeds lie far apart, and an interval over few of them is wide.",
        tables=[_seeds_table(found)] if drawings else [],
        drawings=drawings,
    )


def _seeds_table(found: LstFile) -> Table:
    asked = [(direction, stratum) for direction, own in _asked(found).items() for stratum in own if stratum in PLOTTED]
    rows = [
        [name_of(one), *(_each(one["by_seed"][direction][stratum]) for direction, stratum in asked)]  # type: ignore[index]
        for one in found["groups"]
    ]
    return Table("Accuracy in % of each seed", ["models", *(", ".join(one) for one in asked)], rows)


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.0f}" for value in values)


def _groups_section(found: LstFile) -> ScalingSection:
    tables = []
    for direction, strata in _asked(found).items():
        header = ["models", "seeds", "FLOPs", "bits a unit", "bits a byte", *strata]
        rows = [
            [
                name_of(one),
                f"{one['num_seeds']}",
                f"{one['flops']:.3g}",
                f"{one['speech_bits']:.3f}",
                f"{one['text_bits']:.3f}",
                *(_percent(one["accuracy"][direction].get(stratum)) for stratum in strata),  # type: ignore[index]
            ]
            for one in found["groups"]
        ]
        tables.append(Table(f"Accuracy in %, {direction}", header, rows))
    numbers = sorted(set(found["num_items"].values()))
    counts = " to ".join(f"{number:,}" for number in dict.fromkeys([*numbers[:1], *numbers[-1:]]))
    return ScalingSection(
        "accuracies",
        "Accuracies",
        template="section.html",
        lead="Means over seeds with 95 % intervals over seeds and questions; chance is 50. Questions of each stratum "
        f"and direction: {counts or 'none'}.",
        tables=tables,
    )


def _differences_section(found: LstFile) -> ScalingSection:
    header = ["grid, arm, size", "questions", "difference, points"]
    rows = [
        [
            f"{one['grid']}: {one['arm']} − {one['base']}, {one['size']}",
            f"{one['direction']}, {one['stratum']}",
            _percent(one["difference"], "+"),
        ]
        for one in found["differences"]
    ]
    return ScalingSection(
        "differences",
        "All differences",
        template="section.html",
        lead="Every arm less the baseline of its grid and size. These intervals are not corrected for their number: "
        "what shows here is to be confirmed on new seeds and new stories.",
        tables=[Table("Differences", header, rows)],
    )


def _asked(found: LstFile) -> dict[str, list[str]]:
    """Strata by direction."""
    by_direction: dict[str, list[str]] = {}
    for name in found["num_items"]:
        direction, _, stratum = name.partition(", ")
        by_direction.setdefault(direction, []).append(stratum)
    return by_direction
