"""``OUT/card.html``: the card of a benchmark as one page, made of the files of its folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from lst.data.prepared import LEFT_OUT_FILE
from lst.data.shards import LeftOut
from lst.evaluation.benchmark import Benchmark, BenchmarkCard
from lst.evaluation.benchmark.card import misheard, wer_of
from lst.evaluation.benchmark.formats import Clip
from lst.evaluation.benchmark.page import card_facts, checks, how_spoken
from lst.recipes.report.benchmark_items import browsed_items
from lst.recipes.report.page import Section, page
from lst.recipes.report.plots import WIDTH_IN, plot_settings, series_colour, svg_element
from lst.recipes.report.questions import LETTERS, BrowsedQuestion
from lst.storage import read_jsonl, write_text
from lst.storage.locks import folder_lock

HTML_FILE = "card.html"
NUM_ITEMS, MOST_LISTED, NUM_WORST = 8, 50, 20


@dataclass(frozen=True)
class VoiceRow:
    """The clips of a voice.

    Attributes:
        name: of the voice.
        num_clips, num_faulty: all, and those whose checks found something.
        speech_s: of all.
        durations_s: shortest, median and longest clip.
        levels_db: lowest, median and highest level.
        peak: largest magnitude.
        num_words, wer, num_misheard: what a recogniser heard: words, errors a word, clips above the limit; else None.
    """

    name: str
    num_clips: int
    num_faulty: int
    speech_s: float
    durations_s: tuple[float, float, float]
    levels_db: tuple[float, float, float]
    peak: float
    num_words: int | None = None
    wer: float | None = None
    num_misheard: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClipsSection(Section):
    """The clips by voice; ``how`` they were made, and what they were checked for."""

    card: BenchmarkCard
    voices: Sequence[VoiceRow]
    how: str
    checks: str


@dataclass(frozen=True, kw_only=True)
class FailuresSection(Section):
    """What failed: items that are left out, and clips that were understood worst, each of ``num_`` in all."""

    card: BenchmarkCard
    left_out: Sequence[LeftOut]
    num_left_out: int
    worst: Sequence[Clip]
    num_misheard: int


@dataclass(frozen=True, kw_only=True)
class ItemsSection(Section):
    """Some items of ``num_all``; ``silence`` says why a part has no sound."""

    questions: Sequence[BrowsedQuestion]
    num_all: int
    silence: str
    letters: str = LETTERS


def write_card_page(folder: Path) -> Path:
    """Writes the page of a whole benchmark into its folder unless it is there; returns its path."""
    path = folder / HTML_FILE
    with folder_lock(folder, work="built", remedy="or wait until it is built"):
        text = card_html(Benchmark(folder, verify_hash=False))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return path


def card_html(benchmark: Benchmark) -> str:
    """The page; the same folder gives the same bytes."""
    card, clips = benchmark.card, list(benchmark.clips.values())
    badge = card["speech"] if clips else ""
    left_out = list(read_jsonl(benchmark.folder / LEFT_OUT_FILE, LeftOut))
    listed = [benchmark.clips[one["id"]] for one in misheard(clips, card["max_wer"])] if "recogniser" in card else []
    listed.sort(key=lambda clip: -wer_of(clip["num_word_errors"], clip["num_words"]))
    questions, silence = browsed_items(benchmark, NUM_ITEMS, card["seed"], lambda _: [])
    sections: list[Section] = [Section("facts", "What it holds", badge)]
    if clips:
        plots = {"durations": durations_plot(clips)}
        sections.append(
            ClipsSection(
                *("clips", "Clips", badge),
                plots=plots,
                card=card,
                voices=voice_rows(card, clips),
                how=how_spoken(card),
                checks=checks(card),
            )
        )
    sections += [
        FailuresSection(
            *("failures", "What failed"),
            card=card,
            left_out=left_out[:MOST_LISTED],
            num_left_out=len(left_out),
            worst=listed[:NUM_WORST],
            num_misheard=len(listed),
        ),
        ItemsSection(
            *("items", "Items, one by one", badge),
            template="card_items.html",
            questions=questions,
            num_all=len(benchmark.questions),
            silence=silence,
        ),
    ]
    return page(
        "lst.recipes.benchmark_card", "benchmark_card.html", sections, card=card, facts=card_facts(card), badge=badge
    )


def voice_rows(card: BenchmarkCard, clips: Sequence[Clip]) -> list[VoiceRow]:
    """A row for each speaker."""
    by_voice: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_voice[clip["speaker"]].append(clip)
    rows = []
    for name, own in by_voice.items():
        durations_s, levels_db = ([clip[key] for clip in own] for key in ("duration_s", "level_db"))
        found = card.get("voices", {}).get(name)
        rows.append(
            VoiceRow(
                name,
                len(own),
                sum(bool(clip["fault"]) for clip in own),
                sum(durations_s),
                _spread(durations_s),
                _spread(levels_db),
                max(clip["peak"] for clip in own),
                *((found["num_words"], wer_of(found["num_word_errors"], found["num_words"])) if found else ()),
                *((found["num_misheard"],) if found else ()),
            )
        )
    return rows


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), float(np.median(values)), max(values)


@plot_settings()
def durations_plot(clips: Sequence[Clip]) -> Markup:
    """How long contexts and endings are."""
    groups = {
        "contexts": [clip["duration_s"] for clip in clips if clip["id"].endswith(("-context", "-other"))],
        "endings": [clip["duration_s"] for clip in clips if not clip["id"].endswith(("-context", "-other"))],
    }
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    axes = figure.subplots()
    longest = max(clip["duration_s"] for clip in clips)
    edges = np.linspace(0, longest * 1.001, 41)
    for number, (name, values) in enumerate(groups.items()):
        if values:
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            label = f"{name}, mean {np.mean(values):.2f} s"
            axes.stairs(shares, edges, fill=True, color=series_colour(number), alpha=0.55, label=label)
    axes.set(
        xlabel=f"seconds, in bins of {edges[1]:.2g} s", ylabel="% of each kind", xlim=(0, edges[-1]), ylim=(0, None)
    )
    axes.legend(loc="upper right")
    return svg_element(figure, "durations", "histogram of the durations of contexts and of endings")
