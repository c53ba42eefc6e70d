"""A plot of ``lst reproduce lst``: the accuracy of each seed, by arm and direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lst.evaluation.results import DIRECTIONS, Direction
from lst.recipes.report.plots import MUTED, WIDTH_IN, plot_settings, series_colour, svg_element
from lst.recipes.reproduce.formats import GroupRecord

CHANCE = 50.0
# Height of a row of dots, and how far the dots of a row spread, in rows.
ROW_IN, SPREAD = 0.26, 0.5


@plot_settings()
def seeds_plot(groups: Sequence[GroupRecord], stratum: str) -> Markup:
    """A dot a seed, a panel a direction; a line from the lower to the upper end of the mean's interval."""
    asked = [one for one in DIRECTIONS if all(stratum in group["by_seed"][one] for group in groups)]
    figure = Figure(figsize=(WIDTH_IN, 0.9 + ROW_IN * len(groups)), layout="constrained")
    panels = figure.subplots(1, len(asked), sharex=True, sharey=True, squeeze=False)[0]
    for panel, direction in zip(panels, asked, strict=True):
        _draw(panel, groups, direction, stratum)
    panels[0].set_yticks(range(len(groups)), [name_of(group) for group in groups])
    panels[0].invert_yaxis()
    panels[0].set_xlim(min(CHANCE, panels[0].get_xlim()[0]) - 2, 102)
    return svg_element(figure, f"seeds-{stratum}", f"accuracy in %, false ending with another {stratum}: each seed")


def name_of(group: GroupRecord) -> str:
    """As rows of tables and plots call a group."""
    return f"{group['grid']}: {group['arm']}, {group['size']}"


def _draw(panel: Axes, groups: Sequence[GroupRecord], direction: Direction, stratum: str) -> None:
    arms = list(dict.fromkeys(group["arm"] for group in groups))
    panel.axvline(CHANCE, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for row, group in enumerate(groups):
        colour = series_colour(arms.index(group["arm"]))
        values = 100 * np.array(group["by_seed"][direction][stratum])
        places = row + SPREAD * (np.arange(len(values)) - (len(values) - 1) / 2) / max(1, len(values))
        mean = group["accuracy"][direction][stratum]
        if mean["low"] is not None and mean["high"] is not None:
            ends = [100 * max(0.0, mean["low"]), 100 * min(1.0, mean["high"])]
            panel.plot(ends, [row, row], color=colour, alpha=0.35)
        panel.plot(values, places, "o", color=colour, markersize=3)
    panel.set(title=direction)
