"""The numbers of a fit as a text for the terminal, as tables of the page, and as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lst.recipes.scaling.formats import AccuracyRecord, FitFile, FitRecord, GainRecord, Interval
from lst.recipes.scaling.law import PARAMETERS
from lst.storage import Folder, write_text

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: above it; empty for none.
        header: names of the columns.
        rows: cells; the first one of a row names it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        """Lines with columns of equal width."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def interval_text(found: Interval | None, digits: int = 4) -> str:
    """``0.348 (0.31 to 0.38)``; an open side is a dash."""
    if found is None:
        return NONE
    low, high = (NONE if limit is None else f"{limit:.{digits}g}" for limit in (found["low"], found["high"]))
    return f"{found['value']:.{digits}g} ({low} to {high})"


def fit_name(fit: FitRecord) -> str:
    """Arm and loss of a fit."""
    return f"{fit['arm']}, {fit['loss']}" if fit["arm"] else fit["loss"]


def law_table(fits: Sequence[FitRecord]) -> Table:
    """A row a law: parameters with intervals and the exponents of the frontier."""
    header = ["law", "points", *PARAMETERS, "a of N* ∝ C^a", "b of D* ∝ C^b"]
    rows = [
        [
            fit_name(fit),
            f"{fit['num_points']:,}",
            *(interval_text(fit[name]) for name in PARAMETERS),  # type: ignore[literal-required]
            interval_text(fit["frontier"]["a"]),
            interval_text(fit["frontier"]["b"]),
        ]
        for fit in fits
    ]
    return Table("", header, rows)


def search_table(fits: Sequence[FitRecord]) -> Table:
    """How each law was found: objective, starts, optima, and least squares by variable projection."""
    header = ["law", "δ", "summed Huber loss", "starts", "optima", *(f"{name}, by projection" for name in PARAMETERS)]
    rows = []
    for fit in fits:
        projection = [f"{fit['variable_projection'][name]:.4g}" for name in PARAMETERS]  # type: ignore[literal-required]
        counts = [f"{fit['num_starts']}", f"{len(fit['optima'])}"]
        rows.append([fit_name(fit), f"{fit['delta']:g}", f"{fit['objective']:.6g}", *counts, *projection])
    return Table("", header, rows)


def noise_table(fits: Sequence[FitRecord]) -> Table:
    """Noise of log losses, and errors of laws that were fitted without the largest runs."""
    header = ["law", "noise of residuals", "noise of replicates", "without", "points", "mean error", "largest error"]
    rows = []
    for fit in fits:
        replicate = fit["noise"]["replicate_sd"]
        noise = [f"{fit['noise']['residual_sd']:.3%}", NONE if replicate is None else f"{replicate:.3%}"]
        if not fit["extrapolation"]:
            rows.append([fit_name(fit), *noise, *[NONE] * 4])
        for found in fit["extrapolation"]:
            errors = [f"{found['mean_relative_error']:+.2%}", f"{found['largest_relative_error']:+.2%}"]
            rows.append([fit_name(fit), *noise, found["left_out"], f"{found['num_points']}", *errors])
    return Table("", header, rows)


def budget_table(fit: FitRecord) -> Table:
    """The best sizes by budget."""
    header = ["FLOPs", "N*", "D*", "loss", ""]
    rows = [
        [
            f"{budget['flops']:.3g}",
            *(interval_text(budget[name]) for name in ("N", "D", "loss")),
            "extrapolated" if budget["is_extrapolated"] else "",
        ]
        for budget in fit["frontier"]["budgets"]
    ]
    return Table(fit_name(fit), header, rows)


def isoflop_table(fit: FitRecord) -> Table:
    """Minima of the parabolas beside the law's."""
    header = ["FLOPs", "sizes", "N* of the parabola", "N* of the law", "parabola's bias", "why none"]
    rows = []
    for found in fit["isoflop"]["budgets"] if fit["isoflop"] else []:
        of_law = found["N_of_law"]
        cells = [f"{found['flops']:.3g}", f"{len(set(found['N']))}"]
        cells.append(NONE if found["N_best"] is None else f"{found['N_best']:.4g}")
        cells += [f"{found['N_law']:.4g}", NONE if of_law is None else f"{of_law / found['N_law'] - 1:+.1%}"]
        rows.append([*cells, found["why_not"]])
    return Table(fit_name(fit), header, rows)


def gain_table(gains: Sequence[GainRecord]) -> Table:
    """The overall gain of each arm."""
    header = ["arm", "base", "loss", "compute-equivalent gain", "frontiers"]
    rows = [
        [gain["arm"], gain["base"], gain["loss"], interval_text(gain["overall"], 3), gain["frontier"]] for gain in gains
    ]
    return Table("", header, rows)


def accuracy_table(records: Sequence[AccuracyRecord]) -> Table:
    """The onset and the ceiling of each direction and stratum."""
    header = ["direction", "stratum", "models", "chance", "onset, bits", "ceiling", "of", "notes"]
    rows = [
        [
            record["direction"],
            record["stratum"],
            f"{len(record['points'])}",
            f"{record['chance']:.3g}",
            interval_text(record["onset"]),
            interval_text(record["ceiling"], 3),
            record["bits"],
            "; ".join(record["flags"]),
        ]
        for record in records
    ]
    return Table("", header, rows)


def fit_as_text(found: FitFile) -> str:
    """The summary that the command prints."""
    parts = [law_table(found["fits"]).text()]
    parts += ["\n".join(f"{fit_name(fit)}: {flag}" for flag in fit["flags"]) for fit in found["fits"] if fit["flags"]]
    parts += ["\n".join(found["without_law"])] if found["without_law"] else []
    parts += [gain_table(found["gains"]).text()] if found["gains"] else []
    parts += [accuracy_table(found["accuracy"]).text()] if found["accuracy"] else []
    return "\n\n".join(parts)


def write_tables(out: Folder, found: FitFile) -> None:
    """Writes residuals, budgets, parabolas, gains and accuracies as CSV files; tables without rows have none."""
    tables: dict[str, list[dict[str, object]]] = {
        "residuals": [{**_of(fit), **row} for fit in found["fits"] for row in fit["residuals"]],
        "budgets": [{**_of(fit), **_flat(row)} for fit in found["fits"] for row in fit["frontier"]["budgets"]],
        "isoflop": [
            {**_of(fit), **{key: value for key, value in row.items() if not isinstance(value, list)}}
            for fit in found["fits"]
            for row in (fit["isoflop"]["budgets"] if fit["isoflop"] else [])
        ],
        "gains": [
            {"arm": gain["arm"], "base": gain["base"], "loss_column": gain["loss"], **_flat(row)}
            for gain in found["gains"]
            for row in gain["points"]
        ],
        "accuracy": [
            {"direction": record["direction"], "stratum": record["stratum"], **row}
            for record in found["accuracy"]
            for row in record["points"]
        ],
    }
    for name, rows in tables.items():
        if rows:
            write_text(out / f"{name}.csv", _csv(rows))


def _of(fit: FitRecord) -> dict[str, object]:
    return {"arm": fit["arm"], "loss_column": fit["loss"]}


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    """A record whose intervals are three columns each: ``N``, ``N_low``, ``N_high``."""
    found: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        else:
            found[key] = value
    return found


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
