"""The report's plots as inline SVG: text stays text, and colours are the page's, so that they follow light and dark.

Matplotlib draws with placeholder colours, each of which becomes a variable of the page's style. Figures are made
without pyplot, and matplotlib's settings are restored after each plot.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from lst.data.utterance import Segment, Utterance
from lst.evaluation import DIRECTIONS
from lst.recipes.report.page import NUM_SERIES_COLOURS, style_sheet, superscript

INK, MUTED, GRID, PAPER, SILENCE = "#010203", "#010204", "#010205", "#010206", "#010207"
SERIES = tuple(f"#01030{index}" for index in range(1, NUM_SERIES_COLOURS + 1))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    SILENCE: "--silence",
    **{colour: f"--s{index}" for index, colour in enumerate(SERIES, 1)},
}
MARKERS = ("o", "s", "D", "^", "v")
WIDTH_IN = 9.0
MAX_CURVE_POINTS = 800
WAVEFORM_COLUMNS = 900
DIRECTION_NAMES = {"S→S": "speech → speech", "T→T": "text → text", "S→T": "speech → text", "T→S": "text → speech"}

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lst",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "none",
}


@contextmanager
def plot_settings() -> Iterator[None]:
    """Draws in the page's style; restores matplotlib's settings afterwards."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # The reader's browser chooses the font, so what matplotlib's lacks is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def series_colour(index: int) -> str:
    """Placeholder of a series' colour; after the last colour they start again."""
    return SERIES[index % len(SERIES)]


def whole_numbers(num_ticks: int) -> MaxNLocator:
    """Places at most ``num_ticks`` intervals between ticks at whole numbers."""
    return MaxNLocator(num_ticks, integer=True, steps=[1, 2, 5, 10])


def svg_element(figure: Figure, name: str, description: str) -> Markup:
    """A figure as an ``<svg>`` element. Its ids begin with ``name``; colours and font are the page's.

    Args:
        figure: drawn with ``plot_settings``.
        name: of the plot, unique within the page.
        description: for readers who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    _, view_box, svg = re.split(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', buffer.getvalue(), maxsplit=1)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        svg = re.sub(rf"((?:fill|stroke): ){colour}\b", rf"\1var({variable})", svg)
    svg = re.sub(r"font: ([^;\"]*?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", svg)
    # The one place where text is declared to be markup: matplotlib has escaped all that it was given to write.
    return Markup(f'<svg {view_box} role="img" aria-label="{escape(description)}">{svg.strip()}')


def standalone_svg(plot: str) -> str:
    """A plot as a file of its own, in the page's light colours and a common font."""
    light = re.search(r":root {(.*?)}", style_sheet(), re.DOTALL)
    assert light is not None
    variables = dict(re.findall(r"(--[\w-]+): ([^;]+);", light[1]))
    svg = re.sub(r"var\((--[\w-]+)\)", lambda match: variables[match[1]], str(plot))
    # A double quote would end the attribute that the font is named in.
    svg = svg.replace(variables["--sans"], "sans-serif")
    attributes = f'xmlns="http://www.w3.org/2000/svg" style="background: {variables["--paper"]}"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1) + "\n"


@plot_settings()
def accuracy_plot(results: Mapping[str, Mapping[str, Any]], colours: dict[str, int]) -> Markup:
    """Accuracies of each model with their intervals, a panel a direction, and the line of chance."""
    figure = Figure(figsize=(WIDTH_IN, 1.0 + 0.42 * len(results)), layout="constrained")
    panels = figure.subplots(1, len(DIRECTIONS), sharey=True, sharex=True)
    cells = [
        (panel, place, name, result["cloze"][direction])
        for direction, panel in zip(DIRECTIONS, panels, strict=True)
        for place, (name, result) in enumerate(results.items())
    ]
    for panel, place, name, found in cells:
        colour, marker = series_colour(colours[name]), MARKERS[colours[name] // len(SERIES) % len(MARKERS)]
        for normalisation, offset, face, width in (("mean", -0.14, colour, 2.0), ("sum", 0.16, PAPER, 1.0)):
            score = {key: 100 * found[normalisation][key] for key in ("accuracy", "low", "high")}
            panel.plot([score["low"], score["high"]], [place + offset] * 2, color=colour, linewidth=width)
            panel.plot(
                score["accuracy"],
                place + offset,
                marker,
                markersize=6 if normalisation == "mean" else 5,
                markerfacecolor=face,
                markeredgecolor=colour,
                markeredgewidth=1.2,
            )
    ends = [100 * found[n][key] for _, _, _, found in cells for n in ("mean", "sum") for key in ("low", "high")]
    low, high = min(50.0, *ends), max(50.0, *ends)
    margin = 0.06 * (high - low) + 1
    for direction, panel in zip(DIRECTIONS, panels, strict=True):
        panel.axvline(50, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        panel.set(title=f"{direction}  {DIRECTION_NAMES[direction]}", xlabel="accuracy, %")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    panels[0].set_yticks(range(len(results)), list(results), color=INK)
    panels[0].set(xlim=(low - margin, high + margin), ylim=(len(results) - 0.5, -0.5))
    return svg_element(figure, "accuracy", "cloze accuracy of each model in four directions, with 95 % intervals")


@dataclass(frozen=True)
class Curve:
    """What a training wrote: losses of all steps, and bits on held-out documents at some of them."""

    name: str
    steps: np.ndarray
    losses: np.ndarray
    flops: np.ndarray
    valid_steps: np.ndarray
    valid_flops: np.ndarray
    bits_per_unit: np.ndarray
    bits_per_byte: np.ndarray


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over ``window`` neighbours, fewer at the ends."""
    weights = np.ones(max(1, min(window, len(values))))
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def smoothing_window(num_steps: int) -> int:
    """Steps over which a training loss is averaged for the eye: a twenty-fifth of them, an odd number."""
    return max(1, num_steps // 25) | 1


def thinned(*arrays: np.ndarray) -> list[np.ndarray]:
    """Every n-th value of arrays of one length, so that no more than ``MAX_CURVE_POINTS`` are left."""
    stride = max(1, math.ceil(len(arrays[0]) / MAX_CURVE_POINTS))
    return [array[::stride] for array in arrays]


@plot_settings()
def curves_plot(curves: Sequence[Curve], colours: dict[str, int], of_speech: bool = True) -> Markup:
    """Training loss and held-out bits, against steps above and against training FLOPs below.

    Without ``of_speech``, bits of speech are left out; bits of text where no held-out utterance has one.
    """
    held_out = {"bits_per_unit": "held-out speech, bits a unit"} if of_speech else {}
    if not all(np.isnan(curve.bits_per_byte).all() for curve in curves if len(curve.valid_steps)):
        held_out["bits_per_byte"] = "held-out text, bits a byte"
    figure = Figure(figsize=(WIDTH_IN, 5.2), layout="constrained")
    panels = figure.subplots(2, 1 + len(held_out), sharey="col", squeeze=False)
    exponent = max(
        (3 * int(math.log10(curve.flops.max()) // 3) for curve in curves if curve.flops.max() > 0), default=0
    )
    for curve in curves:
        colour = series_colour(colours[curve.name])
        smooth = running_mean(curve.losses, smoothing_window(len(curve.losses)))
        dots = {"marker": "o", "markersize": 3} if len(curve.valid_steps) <= 40 else {}
        for row, (train_x, valid_x) in enumerate(
            ((curve.steps, curve.valid_steps), (curve.flops / 10**exponent, curve.valid_flops / 10**exponent))
        ):
            x, raw, mean = thinned(train_x, curve.losses, smooth)
            panels[row, 0].plot(x, raw, color=colour, alpha=0.28, linewidth=0.8)
            panels[row, 0].plot(x, mean, color=colour, label=curve.name)
            for panel, bits in zip(panels[row, 1:], held_out, strict=True):
                panel.plot(valid_x, getattr(curve, bits), color=colour, **dots)
    for column, title in enumerate(("training loss, nats a token", *held_out.values())):
        panels[0, column].set(title=title, xlabel="steps", xlim=(0, None))
        panels[0, column].xaxis.set_major_locator(whole_numbers(6))
        panels[1, column].set(
            xlabel="training FLOPs" + (f", 10{superscript(exponent)}" if exponent else ""), xlim=(0, None)
        )
    longest = max(len(curve.name) for curve in curves)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=max(1, 110 // (longest + 8))
    )
    return svg_element(figure, "curves", "training loss and held-out bits over steps and over training FLOPs")


@dataclass(frozen=True)
class PatchStrip:
    """One way to cut an utterance: its name, the units of each patch, and which patches are silences (or None)."""

    name: str
    lengths: np.ndarray
    is_silence: np.ndarray | None = None


@plot_settings()
def utterance_plot(
    utterance: Utterance,
    waveform: np.ndarray,
    sample_rate_hz: int,
    window_s: tuple[float, float],
    strips: Sequence[PatchStrip],
    frame_rate_hz: int,
) -> Markup:
    """Waveform, words and silences of a part of an utterance, and below them the patches of each strategy.

    Args:
        utterance: with words.
        waveform: float32 [num_samples], of the whole utterance.
        sample_rate_hz: of the waveform.
        window_s: the part that is drawn, in seconds.
        strips: how the whole utterance is cut.
        frame_rate_hz: speech units a second.
    """
    figure = Figure(
        figsize=(WIDTH_IN, 2.1 + 0.36 * len(strips)), layout=ConstrainedLayoutEngine(h_pad=0.01, hspace=0.0)
    )
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 0.36 * len(strips)])
    x, low, high = _envelope(waveform, sample_rate_hz, window_s)
    peak = max(float(np.abs([low, high]).max()), 1e-6)
    top.fill_between(x, low / peak, high / peak, color=INK, linewidth=0.3, alpha=0.75)
    top.set(xlim=window_s, ylim=(-1.05, 2.35))
    top.set_axis_off()
    _draw_strips(below, strips, window_s, frame_rate_hz)
    below.set_xlabel("seconds from the start of the utterance")
    _draw_words(figure, top, utterance, window_s, frame_rate_hz)
    return svg_element(figure, "utterance", "waveform of an utterance with its words, silences and patches")


def _envelope(
    waveform: np.ndarray, sample_rate_hz: int, window_s: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, and the lowest and highest sample in each of a few hundred columns."""
    first, last = (round(second * sample_rate_hz) for second in window_s)
    part = waveform[first:last]
    edges = np.linspace(0, len(part), min(WAVEFORM_COLUMNS, max(1, len(part))) + 1).astype(int)[:-1]
    return (first + edges) / sample_rate_hz, np.minimum.reduceat(part, edges), np.maximum.reduceat(part, edges)


def _in_window(
    segments: Iterable[Segment], window_s: tuple[float, float], frame_rate_hz: int
) -> Iterator[tuple[Segment, float, float]]:
    for segment in segments:
        start_s = max(segment.start_frame / frame_rate_hz, window_s[0])
        end_s = min(segment.end_frame / frame_rate_hz, window_s[1])
        if end_s - start_s > 1e-6:
            yield segment, start_s, end_s


def _draw_words(
    figure: Figure, axes: Axes, utterance: Utterance, window_s: tuple[float, float], frame_rate_hz: int
) -> None:
    """Words above their spans, on the lowest of three lines that has room, and silences as shaded stretches."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    line_ends_px = [-math.inf] * 3
    for segment, start_s, end_s in _in_window(utterance.segments(), window_s, frame_rate_hz):
        if segment.word < 0:
            axes.axvspan(start_s, end_s, ymax=2.15 / 3.4, color=SILENCE, linewidth=0, zorder=0)
            continue
        gap_s = min(0.006, 0.2 * (end_s - start_s))
        axes.plot([start_s + gap_s, end_s - gap_s], [1.18, 1.18], color=SERIES[0], linewidth=2.2, solid_capstyle="butt")
        axes.plot([start_s, start_s], [-1.0, 1.18], color=GRID, linewidth=0.7, zorder=0.5)
        text = axes.text((start_s + end_s) / 2, 1.3, utterance.words[segment.word].text, ha="center", va="bottom")
        box = text.get_window_extent(renderer)
        line = next((n for n, end_px in enumerate(line_ends_px) if box.x0 > end_px + 3), 0)
        line_ends_px[line] = box.x1
        text.set_y(1.3 + 0.34 * line)


def _draw_strips(axes: Axes, strips: Sequence[PatchStrip], window_s: tuple[float, float], frame_rate_hz: int) -> None:
    for place, strip in enumerate(strips):
        ends_s = np.cumsum(strip.lengths) / frame_rate_hz
        starts_s = ends_s - strip.lengths / frame_rate_hz
        shown = np.flatnonzero((ends_s > window_s[0] + 1e-6) & (starts_s < window_s[1] - 1e-6))
        left, right = np.maximum(starts_s[shown], window_s[0]), np.minimum(ends_s[shown], window_s[1])
        silent = np.zeros(len(shown), bool) if strip.is_silence is None else strip.is_silence[shown]
        axes.broken_barh(
            list(zip(left, right - left, strict=True)),
            (place - 0.33, 0.66),
            edgecolor=PAPER,
            linewidth=0.9,
            facecolor=[SILENCE if is_silent else SERIES[0] for is_silent in silent],
            alpha=np.where(silent, 1.0, np.where(shown % 2, 0.55, 0.85)),
        )
        rate = len(strip.lengths) / (strip.lengths.sum() / frame_rate_hz)
        axes.annotate(
            f"{rate:.1f} a second",
            (1.012, place),
            xycoords=("axes fraction", "data"),
            va="center",
            color=MUTED,
            fontsize=8.5,
        )
    axes.set_yticks(range(len(strips)), [strip.name for strip in strips], color=INK)
    axes.set_ylim(len(strips) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


@plot_settings()
def length_plot(
    histograms: dict[str, list[int]],
    frame_rate_hz: float,
    name: str,
    x_label: str,
    y_label: str,
    description: str,
    one_scale: bool = True,
) -> Markup:
    """Shares of each length in units, a panel a histogram, with their means.

    Args:
        histograms: by the panel's title; place i of a list counts what is i units long.
        frame_rate_hz: speech units a second.
        name: begins the drawing's ids.
        x_label, y_label: of the axes.
        description: for those who cannot see it.
        one_scale: lengths have one scale in all panels.
    """
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    panels = figure.subplots(1, len(histograms), sharex=one_scale, squeeze=False)[0]
    ends = [_quantile_length(counts, 0.995) for counts in histograms.values()]
    for panel, end, (title, counts) in zip(panels, ends, histograms.items(), strict=True):
        longest = max(ends) if one_scale else end
        shares = 100 * np.array(counts) / max(sum(counts), 1)
        lengths = np.arange(len(shares))
        shown = np.append(shares[:longest], shares[longest:].sum()) if len(shares) > longest else shares
        mean = float((shares * lengths).sum() / 100)
        # Bars with gaps as one outline: a shape a bar would make the page large and slow to draw.
        edges = (np.arange(len(shown))[:, None] + [-0.41, 0.41]).ravel()
        heights = np.stack([shown, np.zeros_like(shown)], axis=1).ravel()[:-1]
        panel.stairs(heights, edges, fill=True, color=SERIES[0], alpha=0.85)
        panel.axvline(mean, color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
        panel.set(
            title=f"{title}\nmean {mean:.2f} units, {1000 * mean / frame_rate_hz:.0f} ms",
            xlabel=x_label,
            xlim=(0, longest + 1),
            ylim=(0, None),
        )
        panel.grid(axis="x", visible=False)
        panel.xaxis.set_major_locator(whole_numbers(8))
    panels[0].set_ylabel(y_label)
    return svg_element(figure, name, description)


def _quantile_length(counts: Sequence[int], quantile: float) -> int:
    """The length up to which this share of the patches lies."""
    cumulated = np.cumsum(counts)
    return int(np.searchsorted(cumulated, quantile * cumulated[-1])) if sum(counts) else 1


@plot_settings()
def unit_frequency_plot(train_counts: Sequence[int], valid_counts: Sequence[int], num_units: int) -> Markup:
    """Share of the frames that each unit takes, the most frequent of the training split first."""
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    axes = figure.subplots()
    train, valid = (np.pad(np.array(c, float), (0, num_units - len(c))) for c in (train_counts, valid_counts))
    order = np.argsort(-train, kind="stable")
    draw_splits(axes, train[order], valid[order], np.arange(num_units + 1) + 0.5)
    axes.axhline(100 / num_units, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="all alike")
    axes.set(
        xlim=(0.5, num_units + 0.5),
        ylim=(0, None),
        xlabel="speech unit, by its rank in training",
        ylabel="% of frames",
    )
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(whole_numbers(10))
    axes.legend(ncols=3, loc="upper right")
    return svg_element(figure, "units", "how often each speech unit occurs, most frequent first")


def draw_splits(axes: Axes, train_counts: np.ndarray, valid_counts: np.ndarray, edges: np.ndarray) -> None:
    """Two histograms as shares in per cent: training filled, held out as a line; one that counts nothing is left out.

    Args:
        axes: where they are drawn.
        train_counts, valid_counts: [n].
        edges: [n + 1], of the bins.
    """
    drawn: tuple[tuple[np.ndarray, dict[str, Any]], ...] = (
        (train_counts, {"fill": True, "color": SERIES[0], "alpha": 0.75, "label": "training"}),
        (valid_counts, {"color": SERIES[1], "linewidth": 1.2, "baseline": None, "label": "held out"}),
    )
    for counts, style in drawn:
        if counts.sum():
            axes.stairs(100 * counts / counts.sum(), edges, **style)
