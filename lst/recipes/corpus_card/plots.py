"""The plots that only a corpus card has: durations, speakers and alignment scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lst.recipes.report.plots import MUTED, SERIES, WIDTH_IN, draw_splits, plot_settings, svg_element

SPLIT_COLOURS = {"train": (SERIES[0], "training"), "valid": (SERIES[1], "held out")}


@plot_settings()
def durations_plot(splits: dict[str, dict[str, Any]]) -> Markup:
    """Durations of utterances on the left, hours of each speaker by rank on the right."""
    figure = Figure(figsize=(WIDTH_IN, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    histograms = [splits[split]["duration_histogram"] for split in ("train", "valid")]
    bin_s = max((found["bin_s"] for found in histograms if found["counts"]), default=1.0)
    merged = [_merged(found["counts"], round(bin_s / found["bin_s"])) for found in histograms]
    num_bins = max(1, *map(len, merged))
    padded = [np.pad(counts, (0, num_bins - len(counts))) for counts in merged]
    draw_splits(left, padded[0], padded[1], np.arange(num_bins + 1) * bin_s)
    left.set(
        title="How long utterances are",
        xlabel=f"seconds, in bins of {bin_s:g} s",
        ylabel="% of utterances",
        xlim=(0, num_bins * bin_s),
        ylim=(0, None),
    )
    left.grid(axis="x", visible=False)
    for split, (colour, name) in SPLIT_COLOURS.items():
        speakers = splits[split]["speakers"]
        if speakers["num_speakers"]:
            minutes = 60 * np.array(speakers["hours_by_rank"])
            places = 100 * (np.array(speakers["ranks"]) - 0.5) / speakers["num_speakers"]
            right.plot(places, minutes, color=colour, label=name, marker="o", markersize=2.5)
    right.set(
        title="How much each speaker says",
        xlabel="speakers of the split by rank, %",
        xlim=(0, 100),
        ylabel="minutes",
        ylim=(0, None),
    )
    handles, names = left.get_legend_handles_labels()
    if handles:
        left.legend(handles, names, loc="best")
    return svg_element(figure, "durations", "histogram of the durations of utterances, and minutes of each speaker")


def _merged(counts: list[int], num_joined: int) -> np.ndarray:
    """Counts of bins ``num_joined`` times as wide."""
    padded = np.pad(np.array(counts, np.int64), (0, -len(counts) % num_joined))
    return padded.reshape(-1, num_joined).sum(axis=1)


@plot_settings()
def scores_plot(splits: dict[str, dict[str, Any]]) -> Markup:
    """Share of the words whose alignment score is lower, a line a split."""
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    axes = figure.subplots()
    for split, (colour, name) in SPLIT_COLOURS.items():
        if quantiles := splits[split]["word_score_quantiles"]:
            shares = [100 * float(share) for share in quantiles]
            axes.plot(list(quantiles.values()), shares, color=colour, label=name, marker="o", markersize=2.5)
    axes.axhline(50, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(ylim=(0, 100), xlabel="score of a word's alignment", ylabel="% of words below")
    axes.legend(loc="upper left")
    return svg_element(figure, "scores", "share of the words below each alignment score")
