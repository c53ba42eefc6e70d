"""Accuracy of speech against text, a point a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lst.evaluation.results import Accuracy
from lst.recipes.report.plots import GRID, INK, MARKERS, MUTED, SERIES, plot_settings, series_colour, svg_element
from lst.recipes.runs.listing import short_number

MAX_NAMED = 16
# Areas of the markers of the smallest and the largest model, in points².
AREAS = (36.0, 170.0)


class Point(NamedTuple):
    """A model: its name, patching strategy with the index of its colour, size, and both accuracies."""

    name: str
    strategy: str
    colour: int
    num_parameters: int
    text: Accuracy
    speech: Accuracy


@plot_settings()
def speech_against_text(points: Sequence[Point], chance: float, name: str) -> Markup:
    """A scatter with the diagonal, on which speech is chosen as well as text; lines of chance; names at the right."""
    figure = Figure(figsize=(9.0, 5.4), layout="constrained")
    axes = figure.subplots()
    ends = [100 * found[key] for point in points for found in (point.text, point.speech) for key in ("low", "high")]
    low, high = max(0.0, min([*ends, 100 * chance]) - 3), min(100.0, max([*ends, 100 * chance]) + 3)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)))
    for line in (axes.axhline, axes.axvline):
        line(100 * chance, color=GRID, linewidth=1.4)
    for point in points:
        _draw(axes, point, points)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="text → text, accuracy in %", aspect="equal")
    axes.set_ylabel("speech → speech, accuracy in %")
    _draw_names(axes, points, (low, high))
    figure.legend(handles=_legend(points), loc="outside lower center", ncols=4)
    description = "accuracy of speech against text, a point a model, with the diagonal on which both are alike"
    return svg_element(figure, name, description)


def _area(point: Point, points: Sequence[Point]) -> float:
    """Area of a marker, on the logarithm of the size."""
    sizes = np.log([one.num_parameters for one in points])
    share = (np.log(point.num_parameters) - sizes.min()) / np.ptp(sizes) if np.ptp(sizes) else 0.5
    return float(AREAS[0] + share * (AREAS[1] - AREAS[0]))


def _marker(point: Point) -> str:
    return MARKERS[point.colour // len(SERIES) % len(MARKERS)]


def _draw(axes: Axes, point: Point, points: Sequence[Point]) -> None:
    colour = series_colour(point.colour)
    x, y = 100 * point.text["accuracy"], 100 * point.speech["accuracy"]
    axes.plot([100 * point.text["low"], 100 * point.text["high"]], [y, y], color=colour, linewidth=0.9, alpha=0.6)
    axes.plot([x, x], [100 * point.speech["low"], 100 * point.speech["high"]], color=colour, linewidth=0.9, alpha=0.6)
    axes.scatter(x, y, s=_area(point, points), color=colour, marker=_marker(point), zorder=3, alpha=0.85, clip_on=False)


def _draw_names(axes: Axes, points: Sequence[Point], limits: tuple[float, float]) -> None:
    """Names right of the plot from top to bottom, with a line to each point, so that they never lie on one another."""
    if len(points) > MAX_NAMED:
        return
    low, high = limits
    ordered = sorted(points, key=lambda point: (-point.speech["accuracy"], point.text["accuracy"]))
    # As high as their points where there is room, else as near as a line of text allows.
    gap = (high - low) / MAX_NAMED
    heights: list[float] = []
    for number, point in enumerate(ordered):
        lowest = low + gap * (len(ordered) - number - 0.5)
        wanted = max(100 * point.speech["accuracy"], lowest)
        heights.append(min(wanted, heights[-1] - gap if heights else high))
    for point, height in zip(ordered, heights, strict=True):
        x, y = 100 * point.text["accuracy"], 100 * point.speech["accuracy"]
        right = high + 0.04 * (high - low)
        line: Any = {"color": series_colour(point.colour), "linewidth": 0.6, "alpha": 0.6, "clip_on": False}
        axes.plot([x, high, right], [y, height, height], **line)
        axes.text(right + 0.01 * (high - low), height, point.name[:48], va="center", color=INK, fontsize=8.5)


def _legend(points: Sequence[Point]) -> list[Line2D]:
    """Colours of the strategies, and the sizes of the smallest and the largest model."""
    of_strategies = {point.strategy: point for point in points}
    handles = [
        Line2D([], [], linestyle="", marker=_marker(point), color=series_colour(point.colour), label=strategy or "–")
        for strategy, point in of_strategies.items()
    ]
    handles.append(Line2D([], [], color=MUTED, linestyle=(0, (5, 3)), label="speech as good as text"))
    by_size = sorted(points, key=lambda point: point.num_parameters)
    for point in dict.fromkeys((by_size[0].num_parameters, by_size[-1].num_parameters)):
        own = next(one for one in points if one.num_parameters == point)
        size = {"markersize": _area(own, points) ** 0.5, "markerfacecolor": "none", "color": MUTED}
        handles.append(Line2D([], [], linestyle="", marker="o", label=f"{short_number(point)} parameters", **size))
    return handles
