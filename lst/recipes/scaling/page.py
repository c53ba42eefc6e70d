"""``lst scale plot``: one HTML page and SVG files of ``fit.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from markupsafe import Markup

from lst.configs.scaling_schema import ScalingConfig
from lst.errors import UserError, one_line
from lst.recipes.report.page import Section, page
from lst.recipes.report.plots import standalone_svg
from lst.recipes.scaling import plots, tables
from lst.recipes.scaling.formats import FitFile
from lst.storage import Folder, absolute, read_json, write_text

PAGE_FILE = "scaling.html"


@dataclass(frozen=True)
class Drawing:
    """A plot, the name of its SVG file, and what it shows."""

    name: str
    plot: Markup
    caption: str


@dataclass(frozen=True, kw_only=True)
class ScalingSection(Section):
    """A part of the page.

    Attributes:
        lead: what it is about.
        tables: in order.
        drawings: below the tables.
        notes: warnings.
    """

    lead: str
    tables: Sequence[tables.Table] = ()
    drawings: Sequence[Drawing] = ()
    notes: Sequence[str] = ()


def scale_plot(config: ScalingConfig) -> str:
    """Draws the page of a fit that lies in ``out`` again; returns its place."""
    out = absolute(config.out)
    found = read_json(out / "fit.json", FitFile, "the fit", "Make it with lst scale fit points=FILE.csv out=FOLDER.")
    found["loss_unit"] = config.fit.loss_unit or found["loss_unit"]
    try:
        write_page(out, found)
    # Numbers that fit no drawing: the file was changed by hand, or damaged.
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{out / 'fit.json'} holds what no page can show ({one_line(str(error))[:200]}): make it again with lst "
            "scale fit"
        ) from None
    return f"page: {out / PAGE_FILE}"


def plot_plan(config: ScalingConfig) -> list[str]:
    """The plan of ``lst scale plot``, as lines of text."""
    out = absolute(config.out)
    read_json(out / "fit.json", FitFile, "the fit", "Make it with lst scale fit points=FILE.csv out=FOLDER.")
    return [f"would write {out / PAGE_FILE}"]


def write_page(out: Folder, found: FitFile) -> None:
    """Writes the page and an SVG file of each plot."""
    sections = fit_sections(found)
    write_drawings(out, sections)
    html = page("lst.recipes.scaling", "scaling.html", sections, found=found, written=datetime.now(timezone.utc))
    write_text(out / PAGE_FILE, html)


def write_drawings(out: Folder, sections: Sequence[ScalingSection]) -> None:
    """Writes an SVG file of each plot."""
    for section in sections:
        for drawing in section.drawings:
            write_text(out / f"{drawing.name}.svg", standalone_svg(drawing.plot))


def fit_sections(found: FitFile) -> list[ScalingSection]:
    """The parts of the page that have something to show."""
    parts = [_laws(found), _losses(found), _isoflop(found), _gains(found), _accuracy(found), _residuals(found)]
    return [section for section in parts if section.tables or section.drawings]


def _laws(found: FitFile) -> ScalingSection:
    fits = found["fits"]
    return ScalingSection(
        "laws",
        "The law",
        template="section.html",
        lead="L(N, D) = E + A / N^alpha + B / D^beta, by the summed Huber loss on log losses; 95 % intervals by "
        "profile likelihood. For a budget of C FLOPs it gives the best size N* and the best amount of data D*.",
        tables=[tables.law_table(fits), *map(tables.budget_table, fits)],
        drawings=[
            Drawing(
                f"law-{place}",
                plots.law_plot(fit, found["loss_unit"], place),
                f"{tables.fit_name(fit)}: losses of the runs, and the law's least loss for each budget with its 95 % "
                "band; dashed where it is extrapolated. Right: the best size, and the sizes that were trained.",
            )
            for place, fit in enumerate(fits)
        ],
        notes=[*found["without_law"], *(f"{tables.fit_name(f)}: {flag}" for f in fits for flag in f["flags"])],
    )


def _losses(found: FitFile) -> ScalingSection:
    names = dict.fromkeys(name for run in found["runs"] for name in run["losses"])
    return ScalingSection(
        "losses",
        "Losses of all runs",
        template="section.html",
        lead="Every row of the table, by FLOPs, by data and by parameters.",
        drawings=[
            Drawing(f"runs-{name}", plots.runs_plot(found, name), f"{name}, in {found['loss_unit']}.") for name in names
        ],
    )


def _isoflop(found: FitFile) -> ScalingSection:
    fits = [fit for fit in found["fits"] if fit["isoflop"]]
    return ScalingSection(
        "isoflop",
        "IsoFLOP parabolas",
        template="section.html",
        lead="Runs of one budget, and a parabola over log N through them. The law's section is no parabola, so its "
        "minimum is biased: the table shows by how much, by a parabola through the law's own losses at the same sizes.",
        tables=[tables.isoflop_table(fit) for fit in fits],
        drawings=[
            Drawing(
                f"isoflop-{place}",
                plots.isoflop_plot(fit, found["loss_unit"], place),
                f"{tables.fit_name(fit)}: a colour a budget. Circles mark minima, crosses what the law says.",
            )
            for place, fit in enumerate(fits)
        ],
    )


def _gains(found: FitFile) -> ScalingSection:
    gains = [gain for gain in found["gains"] if gain["points"]]
    return ScalingSection(
        "gains",
        "Compute-equivalent gain",
        template="section.html",
        lead="C_base(L) / C_arm(L): how many times the FLOPs the base needs for the loss that the arm reaches, each on "
        "its own frontier. Above 1, the arm saves compute.",
        tables=[tables.gain_table(found["gains"])] if found["gains"] else [],
        drawings=[Drawing("gains", plots.gain_plot(gains), "With 95 % bands; dashed where either arm is extrapolated.")]
        if gains
        else [],
    )


def _accuracy(found: FitFile) -> ScalingSection:
    records = found["accuracy"]
    return ScalingSection(
        "accuracy",
        "Accuracy as a function of bits",
        template="section.html",
        lead="A logistic curve from chance to a ceiling. The onset is where it has left chance by a tenth of its way: "
        "there a model begins to choose by content.",
        tables=[tables.accuracy_table(records)] if records else [],
        drawings=[
            Drawing("accuracy-bits", plots.accuracy_plot(records, "bits"), "Accuracy against held-out bits."),
            Drawing("accuracy-flops", plots.accuracy_plot(records, "flops"), "The same against training FLOPs."),
        ]
        if records
        else [],
    )


def _residuals(found: FitFile) -> ScalingSection:
    return ScalingSection(
        "residuals",
        "Residuals and search",
        template="section.html",
        lead="What the law leaves, how it was found, and how well laws fitted without the largest runs predict them.",
        tables=[tables.noise_table(found["fits"]), tables.search_table(found["fits"])],
        drawings=[
            Drawing(
                f"residuals-{place}",
                plots.residual_plot(fit, place),
                f"{tables.fit_name(fit)}: log loss less log of the law, in per cent.",
            )
            for place, fit in enumerate(found["fits"])
        ],
    )
