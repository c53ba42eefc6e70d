"""Curves of the synthetic tasks, drawn as the report's other plots are; also as files of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lst.recipes.report.page import STYLE, Html
from lst.recipes.report.plots import (
    MUTED,
    WIDTH_IN,
    plot_settings,
    running_mean,
    series_colour,
    smoothing_window,
    svg_element,
    thinned,
)


@dataclass(frozen=True)
class SeedCurve:
    """What one training wrote: the loss of each step, and the test accuracy (0 to 1) at some of them."""

    name: str
    steps: np.ndarray
    losses: np.ndarray
    scored_steps: np.ndarray
    accuracies: np.ndarray


@plot_settings()
def seed_curves_plot(task: str, curves: Sequence[SeedCurve], colours: dict[str, int], chance: float) -> Html:
    """Test accuracy and training loss over steps: a colour a model, a line a seed."""
    drawn = Figure(figsize=(WIDTH_IN, 3.4), layout="constrained")
    accuracy, loss = drawn.subplots(1, 2)
    named: set[str] = set()
    for curve in curves:
        label = None if curve.name in named else curve.name
        named.add(curve.name)
        colour = series_colour(colours[curve.name])
        dots = {"marker": "o", "markersize": 2.5} if len(curve.scored_steps) <= 40 else {}
        accuracy.plot(curve.scored_steps, 100 * curve.accuracies, color=colour, label=label, alpha=0.85, **dots)
        x, y = thinned(curve.steps, running_mean(curve.losses, smoothing_window(len(curve.losses))))
        loss.plot(x, y, color=colour, alpha=0.85)
    accuracy.axhline(100 * chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    accuracy.set_ylim(0, 102)
    accuracy.set_title("test accuracy, %")
    loss.set_title("training loss, nats a target")
    loss.set_ylim(bottom=0)
    for panel in (accuracy, loss):
        panel.set_xlabel("steps")
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    drawn.legend(*accuracy.get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(drawn, f"curves-{task.replace('_', '-')}", f"{task}: test accuracy and training loss over steps")


def standalone_svg(plot: Html) -> str:
    """A plot as a file of its own, in the page's light colours and a common font."""
    root = STYLE[STYLE.index(":root") : STYLE.index("}")]
    variables = dict(re.findall(r"(--[\w-]+): ([^;]+);", root))
    svg = re.sub(r"var\((--[\w-]+)\)", lambda match: variables[match.group(1)], plot)
    # A double quote would end the attribute that the font is named in.
    svg = svg.replace(variables["--sans"], "sans-serif")
    attributes = f'xmlns="http://www.w3.org/2000/svg" style="background: {variables["--paper"]}"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1) + "\n"
