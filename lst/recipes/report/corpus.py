"""The report's data: an utterance and its patches, patch lengths, the corpus in numbers, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lst.data.prepared import LEFT_OUT_FILE
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.recipes.report.page import Html, Section, bold, caption, code, element, figure, head, joined, paragraph, table
from lst.recipes.report.plots import PatchStrip, patch_length_plot, unit_frequency_plot, utterance_plot
from lst.recipes.report.record import RunRecord
from lst.recipes.report.statistics import PATCHINGS, patch_length_histograms, speech_patch_lengths

SPLITS = ("train", "valid", "text")
SAMPLE_RATE_HZ = 16_000
WINDOW_S = 4.0
# A shorter pause is no sight; a silence this long is looked for.
LEAST_SILENCE_FRAMES = 3
NUM_SHOWN_LEFT_OUT = 20
STRIP_NAMES = {"none": "none", "static": "static", "aligned": "aligned", "aligned merged": "aligned,\nsilences merged"}


def hours_text(hours: float) -> str:
    """Hours; minutes or seconds where there are few."""
    if hours >= 1:
        return f"{hours:,.2f} h"
    return f"{60 * hours:.1f} min" if 60 * hours >= 1 else f"{3600 * hours:.1f} s"


# A row of a table of numbers: key, name, and how its value is written.
NumberRow = tuple[str, str, Callable[[Any], str]]
STATISTICS_ROWS: tuple[NumberRow, ...] = (
    ("num_utterances", "utterances or texts", "{:,}".format),
    ("hours", "speech", hours_text),
    ("num_speakers", "speakers", "{:,}".format),
    ("num_words", "words", "{:,}".format),
    ("num_units", "speech units", "{:,}".format),
    ("units_per_second", "units a second", "{:.2f}".format),
    ("words_per_second", "words a second", "{:.2f}".format),
    ("silence_share", "silence, share of units", "{:.1%}".format),
    ("mean_word_units", "mean word, units", "{:.2f}".format),
    ("mean_silence_units", "mean silence, units", "{:.2f}".format),
    ("num_distinct_units", "different units", "{:,}".format),
    ("unit_perplexity", "unit perplexity", "{:.1f}".format),
)
_SPOKEN_ONLY = {"hours", "num_speakers", "num_units", "num_distinct_units"}


def patches_section(run: RunRecord) -> Section:
    """One utterance under each strategy, and how long patches are."""
    patching = run.config.patching
    histograms = patch_length_histograms(run.train, patching)
    names = {"static": "static", "aligned": "aligned", "aligned merged": "aligned, silences merged"}
    unit_ms = 1000 / run.frame_rate_hz
    intro = paragraph(
        f"Speech units come {run.frame_rate_hz} a second, {unit_ms:g} ms each. Without patches the model reads them "
        f"one by one; static patching joins {patching.static_size} at a time; aligned patching makes a patch of each "
        "word, with silences as patches of their own or joined to the word before. Text is never grouped."
    )
    lengths = figure(
        patch_length_plot({names[name]: counts for name, counts in histograms.items()}, run.frame_rate_hz),
        bold("How long patches are"),
        f", in units, over the training utterances ({run.speech}) cut as speech alone. Mind the different scales; the "
        "dashed line is the mean. Of static patches only the last of an utterance is shorter than the rest; aligned "
        "patches are as long as words are. The rightmost bar holds all longer ones, at most 0.5 % of the patches.",
    )
    return Section("patches", "Patches", joined(intro, _utterance_figure(run), lengths), run.badge)


def _utterance_figure(run: RunRecord) -> Html:
    utterance = next((u for u in run.valid if u.words and run.has_audio(u)), None)
    if utterance is None:
        return paragraph(
            "The picture of an utterance is left out: no audio of a held-out utterance is where the manifest says.",
            class_="note",
        )
    try:
        waveform = run.waveform_of(utterance)
    except LstError as error:
        return paragraph("The picture of an utterance is left out: ", str(error), class_="note")
    window_s = choose_window(utterance, run.frame_rate_hz, min(len(waveform) / SAMPLE_RATE_HZ, utterance.duration_s))
    strips = [
        PatchStrip(
            STRIP_NAMES[name],
            speech_patch_lengths(utterance, name, run.config.patching),
            _silent_patches(utterance, run.config.patching.max_patch) if name == "aligned" else None,
        )
        for name in PATCHINGS
    ]
    plot = utterance_plot(utterance, waveform, SAMPLE_RATE_HZ, window_s, strips, run.frame_rate_hz)
    return figure(
        plot,
        bold("A held-out utterance, cut four ways. "),
        f"Above, {window_s[1] - window_s[0]:.1f} s of the waveform ({run.speech}, ",
        code(utterance.id),
        ") with each "
        "word over its span and silences shaded, as the aligner found them. Below, on the same time axis, a block is a "
        "patch: one position of the backbone. Neighbours differ in shade only to be told apart; in the aligned strip "
        "the silences have the colour that they have above. To the right, patches a second over the whole utterance.",
    )


def choose_window(utterance: Utterance, frame_rate_hz: int, audio_s: float) -> tuple[float, float]:
    """A few seconds from a word's start to a word's or silence's end, with a silence between words if there is one.

    Returns:
        Start and end in seconds, within ``audio_s``.
    """
    segments = utterance.segments()
    end_frame = utterance.num_frames
    chosen = segments
    for first, segment in enumerate(segments):
        if segment.word < 0:
            continue
        inside = [s for s in segments[first:] if s.end_frame <= segment.start_frame + WINDOW_S * frame_rate_hz]
        if chosen is segments:
            # The first word's window, unless a later one is better.
            chosen = inside or [segment]
        is_full = segment.start_frame + WINDOW_S * frame_rate_hz <= end_frame
        if is_full and any(s.word < 0 and s.end_frame - s.start_frame >= LEAST_SILENCE_FRAMES for s in inside[:-1]):
            chosen = inside
            break
    start_s, end_s = chosen[0].start_frame / frame_rate_hz, chosen[-1].end_frame / frame_rate_hz
    end_s = min(end_s, start_s + WINDOW_S, audio_s)
    return min(start_s, max(0.0, end_s - 0.1)), end_s


def _silent_patches(utterance: Utterance, max_patch: int) -> np.ndarray:
    """Which patches of aligned patching are silences, bool [num_patches]."""
    found: list[bool] = []
    for segment in utterance.segments():
        num_units = segment.end_frame - segment.start_frame
        pieces = -(-num_units // max_patch) if max_patch else min(num_units, 1)
        found += [segment.word < 0] * pieces
    return np.array(found, bool)


def corpus_section(run: RunRecord) -> Section:
    """The corpus in numbers, unit frequencies, and what was left out."""
    statistics = run.statistics
    text = caption(
        bold("The corpus"),
        f": {run.data.index['description']}. All rates and lengths are of {run.speech}; words and "
        "silences are as the aligner found them. Perplexity is the number of equally frequent units that would be as "
        f"hard to guess, of {run.data.codec.num_units} in the codebook.",
    )
    frequencies = figure(
        unit_frequency_plot(
            statistics["train"]["unit_counts"], statistics["valid"]["unit_counts"], run.data.codec.num_units
        ),
        bold("How often each speech unit occurs"),
        f" in {run.speech}, sorted by the training split; the line is the same units in held-out speech. A line "
        "far from the bars would mean that held-out speech sounds different; bars at zero would be units "
        "that were never used.",
    )
    content = joined(statistics_table(statistics), text, frequencies, *_left_out(run))
    return Section("corpus", "Corpus", content, run.badge)


def statistics_table(statistics: dict[str, dict[str, Any]], rows: Sequence[NumberRow] = STATISTICS_ROWS) -> Html:
    """Numbers of the splits side by side, a row each; those of speech are left out of the texts' column.

    Args:
        statistics: of ``train``, ``valid`` and ``text``.
        rows: key, name and style of each number; a number that is None is shown as a dash.
    """
    header = [head(""), head("training"), head("held out"), head("text alone")]
    cells = [
        [head(name, scope="row"), *(_number(statistics[split], key, style, split) for split in SPLITS)]
        for key, name, style in rows
    ]
    return table(header, cells)


def _number(statistics: dict[str, Any], key: str, style: Callable[[Any], str], split: str) -> str:
    value = statistics[key]
    return "–" if value is None or (split == "text" and key in _SPOKEN_ONLY) else style(value)


def _left_out(run: RunRecord) -> list[Html]:
    path = run.folder.data / LEFT_OUT_FILE
    title = element("h3", "Left out")
    if not run.left_out:
        return [title, paragraph("Nothing: every utterance of the source is used.")]
    shown = run.left_out[:NUM_SHOWN_LEFT_OUT]
    rows = [[code(row["id"]), element("td", row["reason"], class_="wrap")] for row in shown]
    which = "All of them" if len(shown) == len(run.left_out) else f"The first {len(shown)}"
    return [
        title,
        paragraph(
            f"{len(run.left_out):,} utterances or texts are not used. {which}, with the reason; the full list is ",
            code(str(path)),
            ".",
        ),
        table([head("what"), head("why", class_="left")], rows),
    ]
