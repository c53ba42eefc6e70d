"""Plots of a fit, drawn as the report's are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lst.recipes.report.page import superscript
from lst.recipes.report.plots import INK, MARKERS, MUTED, WIDTH_IN, plot_settings, series_colour, svg_element
from lst.recipes.scaling.accuracy import accuracy_at
from lst.recipes.scaling.formats import AccuracyRecord, FitFile, FitRecord, GainRecord, Interval

_DASHES = (0, (4, 3))


def _set_log(axes: Axes, *names: str) -> None:
    """Logarithmic scales whose labels are plain text: 10⁶, and between decades 2·10⁶ and 5·10⁶ where few are seen."""
    for name in names:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        low, high = axis.get_view_interval()
        is_short = high < 30 * low
        axis.set_major_formatter(_decade)
        axis.set_minor_formatter(_decade if is_short else NullFormatter())
        if is_short:
            axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))


def _decade(value: float, _: object) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10**exponent)
    return f"{'' if factor == 1 else f'{factor}·'}10{superscript(exponent)}"


def _marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def _limits(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits; open ones are NaN, which matplotlib leaves out."""
    sides = [[np.nan if one[side] is None else one[side] for one in intervals] for side in ("low", "high")]
    return np.array(sides[0], float), np.array(sides[1], float)


def _draw_band(
    axes: Axes, x: np.ndarray, intervals: Sequence[Interval], is_extrapolated: np.ndarray, colour: str, label: str = ""
) -> None:
    """A line with its band; dashed where it is extrapolated."""
    values = np.array([one["value"] for one in intervals])
    low, high = _limits(intervals)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, values, color=colour, linewidth=1.2, linestyle=_DASHES)
    axes.plot(x, np.where(is_extrapolated, np.nan, values), color=colour, label=label or None)


@plot_settings()
def law_plot(fit: FitRecord, unit: str, place: int) -> Markup:
    """Losses and the least loss of each budget on the left, sizes and the best size on the right."""
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    budgets = fit["frontier"]["budgets"]
    flops = np.array([budget["flops"] for budget in budgets])
    is_extrapolated = np.array([budget["is_extrapolated"] for budget in budgets])
    _draw_band(left, flops, [budget["loss"] for budget in budgets], is_extrapolated, series_colour(0))
    _draw_band(right, flops, [budget["N"] for budget in budgets], is_extrapolated, series_colour(0))
    rows = fit["residuals"]
    c, n = np.array([row["C"] for row in rows]), np.array([row["N"] for row in rows])
    left.plot(c, [row["loss"] for row in rows], "o", color=series_colour(1), markersize=3.5, alpha=0.8)
    right.plot(c, n, "o", color=series_colour(1), markersize=3.5, alpha=0.8)
    left.axhline(fit["E"]["value"], color=MUTED, linewidth=1, linestyle=_DASHES)
    left.annotate("E", (0.01, fit["E"]["value"]), xycoords=("axes fraction", "data"), va="bottom", color=MUTED)
    left.set(title=f"{fit['loss']}, {unit}", xlabel="training FLOPs")
    right.set(title="parameters", xlabel="training FLOPs")
    _set_log(left, "x")
    _set_log(right, "x", "y")
    # What the points do not determine may lie anywhere: the axes are those of the points.
    losses = [row["loss"] for row in rows]
    low, high = min(fit["E"]["value"], *losses), max(losses)
    left.set_ylim(low - 0.06 * (high - low) - 1e-9, high + 0.06 * (high - low) + 1e-9)
    right.set_ylim(n.min() / 10, 30 * n.max())
    return svg_element(figure, f"law-{place}", f"{fit['loss']} over training FLOPs, with the law's frontier")


@plot_settings()
def runs_plot(found: FitFile, loss: str) -> Markup:
    """A loss of all runs against FLOPs, data and parameters, a colour an arm."""
    figure = Figure(figsize=(WIDTH_IN, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    arms = list(dict.fromkeys(run["arm"] for run in found["runs"]))
    for index, arm in enumerate(arms):
        runs = [run for run in found["runs"] if run["arm"] == arm and loss in run["losses"]]
        for panel, measure in zip(panels, ("C", "D", "N"), strict=True):
            panel.plot(
                [run[measure] for run in runs],  # type: ignore[literal-required]
                [run["losses"][loss] for run in runs],
                _marker(index // 6),
                color=series_colour(index),
                markersize=4,
                alpha=0.8,
                label=arm,
            )
    for panel, name in zip(panels, ("training FLOPs", "data, units and bytes", "parameters"), strict=True):
        panel.set(xlabel=name)
        _set_log(panel, "x")
    panels[0].set_title(f"{loss}, {found['loss_unit']}")
    if len(arms) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(figure, f"runs-{loss}", f"{loss} of all runs over FLOPs, data and parameters")


@plot_settings()
def isoflop_plot(fit: FitRecord, unit: str, place: int) -> Markup:
    """Losses over sizes with a parabola for each budget."""
    assert fit["isoflop"] is not None
    figure = Figure(figsize=(WIDTH_IN, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, found in enumerate(fit["isoflop"]["budgets"]):
        colour = series_colour(index)
        sizes = np.array(found["N"])
        grid = np.geomspace(sizes.min(), sizes.max(), 80)
        curve = np.polynomial.polynomial.polyval(np.log(grid) - found["centre"], found["coefficients"])
        axes.plot(sizes, found["losses"], "o", color=colour, markersize=3.5)
        axes.plot(grid, curve, color=colour, linewidth=1.1, label=f"{found['flops']:.2g} FLOPs")
        if found["N_best"] is not None and found["loss_best"] is not None:
            axes.plot(found["N_best"], found["loss_best"], "o", markersize=9, color=colour, markerfacecolor="none")
        if sizes.min() <= found["N_law"] <= sizes.max():
            on_curve = np.polynomial.polynomial.polyval(np.log(found["N_law"]) - found["centre"], found["coefficients"])
            axes.plot(found["N_law"], on_curve, "x", markersize=7, color=INK)
    axes.set(title=f"{fit['loss']}, {unit}", xlabel="parameters")
    _set_log(axes, "x")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(figure, f"isoflop-{place}", f"{fit['loss']} over parameters, a parabola for each budget")


@plot_settings()
def gain_plot(gains: Sequence[GainRecord]) -> Markup:
    """Compute-equivalent gains over the base's FLOPs, a panel a loss."""
    losses = list(dict.fromkeys(gain["loss"] for gain in gains))
    arms = list(dict.fromkeys(gain["arm"] for gain in gains))
    figure = Figure(figsize=(WIDTH_IN, 3.4), layout="constrained")
    panels = figure.subplots(1, len(losses), sharey=True, squeeze=False)[0]
    for gain in gains:
        points = gain["points"]
        _draw_band(
            panels[losses.index(gain["loss"])],
            np.array([point["base_flops"] for point in points]),
            [point["gain"] for point in points],
            np.array([point["is_extrapolated"] for point in points]),
            series_colour(arms.index(gain["arm"])),
            gain["arm"],
        )
    inside = [point["gain"]["value"] for gain in gains for point in gain["points"] if not point["is_extrapolated"]]
    for panel, loss in zip(panels, losses, strict=True):
        panel.axhline(1, color=MUTED, linewidth=1, linestyle=_DASHES, zorder=1)
        panel.set(title=loss, xlabel=f"FLOPs of {gains[0]['base'] or 'the base'}")
        _set_log(panel, "x")
        if inside:
            # Extrapolated gains may be of any size: they must not flatten the others.
            panel.set_ylim(0.5 * min(1, *inside), 1.5 * max(1, *inside))
    panels[0].set_ylabel("times the arm's FLOPs")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(figure, "gains", "compute-equivalent gain of each arm over FLOPs")


@plot_settings()
def accuracy_plot(records: Sequence[AccuracyRecord], measure: str) -> Markup:
    """Accuracies over ``bits`` or ``flops``: a panel a direction, a colour a stratum, a marker an arm."""
    directions = list(dict.fromkeys(record["direction"] for record in records))
    strata = list(dict.fromkeys(record["stratum"] for record in records))
    arms = list(dict.fromkeys(point["arm"] for record in records for point in record["points"]))
    figure = Figure(figsize=(WIDTH_IN, 3.4), layout="constrained")
    panels = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
    for record in records:
        panel = panels[directions.index(record["direction"])]
        colour = series_colour(strata.index(record["stratum"]))
        for index, arm in enumerate(arms):
            points = [point for point in record["points"] if point["arm"] == arm]
            x = [point["bits"] if measure == "bits" else point["flops"] for point in points]
            y = [100 * point["accuracy"] for point in points]
            panel.plot(x, y, _marker(index), color=colour, markersize=3.5, alpha=0.7)
        panel.plot([], [], color=colour, label=record["stratum"])
        panel.axhline(100 * record["chance"], color=MUTED, linewidth=1, linestyle=_DASHES, zorder=1)
        if measure == "bits":
            _draw_curve(panel, record, colour)
        panel.set(title=record["direction"], xlabel=record["bits"] if measure == "bits" else "training FLOPs")
        if measure == "flops":
            _set_log(panel, "x")
    panels[0].set_ylabel("accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(arms) > 1:
        for index, arm in enumerate(arms):
            handles += panels[0].plot([], [], _marker(index), color=MUTED, markersize=4)
            labels.append(arm)
    figure.legend(handles, labels, loc="outside upper left", ncols=6)
    return svg_element(figure, f"accuracy-{measure}", f"accuracy over {measure} by direction and stratum")


def _draw_curve(panel: Axes, record: AccuracyRecord, colour: str) -> None:
    """The fitted curve and its onset."""
    bits = [point["bits"] for point in record["points"]]
    grid = np.linspace(min(bits), max(bits), 120)
    curve = accuracy_at(record, grid)
    if curve is None or record["onset"] is None:
        return
    panel.plot(grid, 100 * curve, color=colour, linewidth=1.2)
    if grid[0] <= record["onset"]["value"] <= grid[-1]:
        panel.axvline(record["onset"]["value"], color=colour, linewidth=0.9, linestyle=_DASHES)


@plot_settings()
def residual_plot(fit: FitRecord, place: int) -> Markup:
    """Residuals in per cent over the law's loss, over N and over D."""
    figure = Figure(figsize=(WIDTH_IN, 2.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    rows = fit["residuals"]
    residuals = [100 * row["log_residual"] for row in rows]
    for panel, key, name in zip(panels, ("fitted", "N", "D"), ("the law's loss", "parameters", "data"), strict=True):
        panel.axhline(0, color=MUTED, linewidth=1)
        panel.plot([row[key] for row in rows], residuals, "o", color=series_colour(0), markersize=3.5, alpha=0.8)  # type: ignore[literal-required]
        panel.set(xlabel=name)
        if key != "fitted":
            _set_log(panel, "x")
    panels[0].set_ylabel("residual, %")
    return svg_element(figure, f"residuals-{place}", "residuals over the law's loss, parameters and data")
