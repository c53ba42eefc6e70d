"""Curves of the synthetic tasks, drawn as the report's other plots are; also as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lst.recipes.report.plots import (
    MUTED,
    WIDTH_IN,
    plot_settings,
    running_mean,
    series_colour,
    smoothing_window,
    svg_element,
    thinned,
    whole_numbers,
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
def seed_curves_plot(task: str, curves: Sequence[SeedCurve], colours: dict[str, int], chance: float) -> Markup:
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
    accuracy.set(title="test accuracy, %", ylim=(0, 102))
    loss.set(title="training loss, nats a target", ylim=(0, None))
    for panel in (accuracy, loss):
        panel.set(xlabel="steps", xlim=(0, None))
        panel.xaxis.set_major_locator(whole_numbers(6))
    drawn.legend(*accuracy.get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return svg_element(drawn, f"curves-{task.replace('_', '-')}", f"{task}: test accuracy and training loss over steps")
