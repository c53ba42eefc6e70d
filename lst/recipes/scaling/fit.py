"""``lst scale fit``: the law of every arm and loss of a table, the best sizes, gains and accuracies.

It leaves in ``out``::

    fit.json                                all numbers, unrounded: see ``lst.recipes.scaling.formats``
    residuals.csv, budgets.csv, isoflop.csv, gains.csv, accuracy.csv      the same as tables
    scaling.html, *.svg                     what ``lst scale plot`` draws
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lst.configs.scaling_schema import ScalingConfig
from lst.errors import UserError, nearest
from lst.progress import Progress, say
from lst.recipes.scaling.accuracy import accuracy_records
from lst.recipes.scaling.flags import flags_of
from lst.recipes.scaling.formats import FitFile, FitRecord, GainRecord, ResidualRecord, RunRecord
from lst.recipes.scaling.frontier import FlopsFormula, flops_formula, frontier_record
from lst.recipes.scaling.gain import Runs, compute_gain
from lst.recipes.scaling.intervals import (
    PROFILED,
    Limits,
    bootstrap,
    efficient_fit,
    noise_of,
    parameter_intervals,
    percentile_interval,
    profile_limits,
)
from lst.recipes.scaling.isoflop import isoflop_record
from lst.recipes.scaling.law import PARAMETERS, Law, extrapolations, fit_law, variable_projection
from lst.recipes.scaling.page import write_page
from lst.recipes.scaling.points import Points, read_points
from lst.recipes.scaling.surface import GRADIENT_TOLERANCE, NUM_PARAMETERS
from lst.recipes.scaling.tables import fit_as_text, write_tables
from lst.storage import absolute, locate, sha256, write_json

FIT_FILE = "fit.json"
DEFAULT_BASE, DEFAULT_UNIT = "baseline", "bits"


@dataclass(frozen=True)
class Series:
    """The points of one arm and one loss.

    Attributes:
        arm, loss: which.
        rows: [P], places of its rows in the table.
        flops: float64 [P].
        formula: of FLOPs.
    """

    arm: str
    loss: str
    rows: np.ndarray
    flops: np.ndarray
    formula: FlopsFormula

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.arm}, {self.loss}" if self.arm else self.loss


def scale_fit(config: ScalingConfig) -> str:
    """Fits a table, writes ``out``, and returns a summary.

    Raises:
        UserError: no table is given or it is faulty; no arm has as many points as the law has parameters.
    """
    points, base = _checked_points(config)
    say("; ".join(_words(points, config)))
    series = _series(points, config, base)
    fittable = [one for one in series if _num_cells(points, one, config) >= NUM_PARAMETERS]
    without_law = [
        f"{one.label}: {_num_cells(points, one, config)} different pairs of N and D are too few for a law of "
        f"{NUM_PARAMETERS} parameters"
        for one in series
        if one not in fittable
    ]
    if not fittable:
        raise UserError("no law can be fitted: " + "; ".join(without_law))
    with Progress(len(fittable) * config.fit.bootstrap_samples, "fitting the law to redrawn losses", "sample") as bar:
        fitted = {id(one): _fit_series(points, one, config, bar.advance) for one in fittable}
    records = [fitted[id(one)][0] for one in fittable]
    gains = _gains(points, series, {key: value[1:] for key, value in fitted.items()}, config, base)
    flops = _flops(points, series)
    first = records[0]
    found = FitFile(
        version=1,
        points=str(config.points),
        points_sha256=sha256(locate(config.points or "")),
        loss_unit=config.fit.loss_unit or DEFAULT_UNIT,
        seed=config.seed,
        bootstrap_samples=config.fit.bootstrap_samples,
        arm=first["arm"],
        loss=first["loss"],
        **{name: first[name] for name in PARAMETERS},  # type: ignore[typeddict-item, literal-required]
        fits=records,
        without_law=without_law,
        runs=_runs(points, flops, config),
        gains=gains,
        accuracy=accuracy_records(points, flops, config.fit.bootstrap_samples, config.seed),
    )
    out = absolute(config.out)
    write_tables(out, found)
    write_page(out, found)
    write_json(out / FIT_FILE, found)
    return f"{fit_as_text(found)}\n\nwritten to {out / FIT_FILE}; page: {out / 'scaling.html'}"


def fit_plan(config: ScalingConfig) -> list[str]:
    """The plan of ``lst scale fit``, as lines of text; raises ``UserError`` for what the command would refuse."""
    points, base = _checked_points(config)
    series = _series(points, config, base)
    counted = [
        f"  {one.label}: {len(one.rows)} points, {_num_cells(points, one, config)} different N and D" for one in series
    ]
    return [*_words(points, config), *counted, f"would write {absolute(config.out) / FIT_FILE}"]


def _checked_points(config: ScalingConfig) -> tuple[Points, str]:
    """The table, and the arm that the others are compared with."""
    if config.points is None:
        raise UserError("give a table of trained models: points=FILE.csv, with the columns N, D and loss")
    points = read_points(locate(config.points))
    if config.fit.size not in points.numbers:
        raise UserError(f"fit.size={config.fit.size}: {config.points} has no such column")
    base = config.fit.base_arm
    if base is not None and base not in points.arms:
        named = ", ".join(filter(None, points.arms)) or "none: it has no column arm"
        raise UserError(f"fit.base_arm={base}{nearest(base, points.arms)}: arms of {config.points} are {named}")
    return points, base or (DEFAULT_BASE if DEFAULT_BASE in points.arms else points.arms[0])


def _words(points: Points, config: ScalingConfig) -> list[str]:
    """What is read from the table, and what is not."""
    arms = [arm for arm in points.arms if arm]
    words = [f"{len(points):,} points" + (f" of {len(arms)} arms" if arms else "")]
    words.append(f"losses {', '.join(points.losses)} in {config.fit.loss_unit or DEFAULT_UNIT}")
    if points.unused:
        words.append(f"columns that are not used: {', '.join(points.unused)}")
    if "C" not in points.numbers:
        words.append(f"FLOPs are {config.fit.flops_factor:g}·N·D, as there is no column C")
    return words


def _series(points: Points, config: ScalingConfig, base: str) -> list[Series]:
    """Every arm and loss that has points; the base arm first."""
    found = []
    for arm in sorted(points.arms, key=lambda name: name != base):
        for loss in points.losses:
            rows = points.rows_of(arm, loss, config.fit.size)
            if len(rows):
                found.append(Series(arm, loss, rows, *_flops_of_rows(points, rows, config)))
    return found


def _flops_of_rows(points: Points, rows: np.ndarray, config: ScalingConfig) -> tuple[np.ndarray, FlopsFormula]:
    sizes, tokens = points.numbers[config.fit.size][rows], points.numbers["D"][rows]
    column = points.numbers.get("C", np.full(len(points), np.nan))[rows]
    given = column if np.isfinite(column).all() else None
    formula = flops_formula(sizes, tokens, given, config.fit.flops_factor)
    return formula.flops(sizes, tokens) if given is None else given, formula


def _num_cells(points: Points, series: Series, config: ScalingConfig) -> int:
    return points.law_points(series.rows, series.loss, config.fit.size).num_cells


def _fit_series(
    points: Points, series: Series, config: ScalingConfig, advance: Callable[[int], None]
) -> tuple[FitRecord, Law, np.ndarray]:
    """The record of one law, the law, and its bootstrap samples [S, 5]."""
    law_points = points.law_points(series.rows, series.loss, config.fit.size)
    law = fit_law(law_points, config.fit.delta)
    efficient = efficient_fit(law)
    noise = noise_of(law_points, law, efficient)
    limits: Limits = dict.fromkeys(PROFILED, (None, None))
    if efficient is not None:
        limits = profile_limits(law_points, efficient)
    num_samples = config.fit.bootstrap_samples if efficient is not None else 0
    samples = bootstrap(law, noise["used_sd"], num_samples, [config.seed, zlib.crc32(series.label.encode())], advance)
    intervals = parameter_intervals(law, limits)
    flags = flags_of(law, intervals, noise)
    if efficient is None:
        intervals["E"]["low"] = None
    drawn = law_points.values(samples)
    record = FitRecord(
        arm=series.arm,
        loss=series.loss,
        size=config.fit.size,
        num_points=len(law_points),
        num_cells=law_points.num_cells,
        **{name: intervals[name] for name in PARAMETERS},  # type: ignore[typeddict-item]
        bootstrap={
            name: percentile_interval(float(law.values[place]), drawn[:, place])
            for place, name in enumerate(PARAMETERS)
        },
        delta=law.delta,
        objective=law.objective,
        num_starts=law.num_starts,
        gradient_tolerance=GRADIENT_TOLERANCE,
        optima=law.optima,
        variable_projection=variable_projection(law_points),
        noise=noise,
        extrapolation=extrapolations(law_points, law.delta),
        frontier=frontier_record(law, series.formula, series.flops, samples, intervals["a"]),
        isoflop=isoflop_record(law, series.formula, series.flops),
        flags=flags,
        residuals=_residuals(points, series, law),
    )
    return record, law, samples


def _residuals(points: Points, series: Series, law: Law) -> list[ResidualRecord]:
    fitted = law.losses_at(law.points.num_parameters, law.points.num_tokens, law.theta[None])[0]
    return [
        ResidualRecord(
            row=points.lines[row],
            N=float(law.points.num_parameters[place]),
            D=float(law.points.num_tokens[place]),
            C=float(series.flops[place]),
            loss=float(law.points.losses[place]),
            fitted=float(fitted[place]),
            log_residual=float(law.log_residuals[place]),
        )
        for place, row in enumerate(series.rows.tolist())
    ]


def _gains(
    points: Points,
    series: list[Series],
    laws: dict[int, tuple[Law, np.ndarray]],
    config: ScalingConfig,
    base: str,
) -> list[GainRecord]:
    """Gains of every arm but the base, by each loss that both have."""

    def runs_of(one: Series) -> Runs:
        law, samples = laws.get(id(one), (None, None))
        pairs = np.stack([points.numbers[config.fit.size][one.rows], points.numbers["D"][one.rows]], 1)
        cells = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        has_samples = samples is not None and len(samples) > 0
        return Runs(
            one.arm,
            one.flops,
            points.numbers[one.loss][one.rows],
            cells,
            law,
            one.formula,
            samples if has_samples else None,
        )

    of_base = {one.loss: runs_of(one) for one in series if one.arm == base}
    return [
        compute_gain(of_base[one.loss], runs_of(one), one.loss, config.fit.bootstrap_samples, config.seed)
        for one in series
        if one.arm != base and one.loss in of_base
    ]


def _flops(points: Points, series: list[Series]) -> np.ndarray:
    """FLOPs [P] of every row of the table."""
    found = np.full(len(points), np.nan)
    for one in series:
        found[one.rows] = one.flops
    return found


def _runs(points: Points, flops: np.ndarray, config: ScalingConfig) -> list[RunRecord]:
    return [
        RunRecord(
            row=points.lines[place],
            arm=points.names["arm"][place],
            size=points.names["size"][place],
            seed=points.names["seed"][place],
            N=float(points.numbers[config.fit.size][place]),
            D=float(points.numbers["D"][place]),
            C=float(flops[place]),
            losses={
                name: float(points.numbers[name][place])
                for name in points.losses
                if np.isfinite(points.numbers[name][place])
            },
        )
        for place in range(len(points))
        if np.isfinite(flops[place])
    ]
