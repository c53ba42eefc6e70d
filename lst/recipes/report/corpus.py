"""The report's data: an utterance and its patches, patch lengths, the corpus in numbers, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.recipes.report.page import Section
from lst.recipes.report.plots import PatchStrip, length_plot, unit_frequency_plot, utterance_plot
from lst.recipes.report.record import RunRecord
from lst.recipes.report.statistics import PATCHINGS, patch_length_histograms, segment_lengths, speech_patch_lengths

SAMPLE_RATE_HZ = 16_000
WINDOW_S = 4.0
# A window is chosen so that it shows a silence of at least this length.
LEAST_SILENCE_FRAMES = 3
NAMES = {"none": "none", "static": "static", "aligned": "aligned", "aligned merged": "aligned, silences merged"}


@dataclass(frozen=True, kw_only=True)
class PatchesSection(Section):
    """One utterance under each strategy, or why there is no picture of one; and how long patches are.

    Attributes:
        problem: why the picture is missing; empty if it is there.
        utterance_id: of the utterance in the picture.
        shown_s: seconds of it that the picture shows.
    """

    problem: str = ""
    utterance_id: str = ""
    shown_s: float = 0.0


def patches_section(run: RunRecord) -> PatchesSection:
    """One utterance under each strategy, and how long patches are."""
    histograms = patch_length_histograms(run.train, run.config.patching)
    lengths = length_plot(
        {NAMES[name]: counts for name, counts in histograms.items()},
        run.frame_rate_hz,
        "lengths",
        "units a patch",
        "% of speech patches",
        "histogram of patch lengths by strategy",
    )
    section = PatchesSection("patches", "Patches", run.badge, plots={"lengths": lengths})
    utterance = next((u for u in run.valid if u.words and run.has_audio(u)), None)
    if utterance is None:
        return replace(section, problem="no audio of a held-out utterance is where the manifest says.")
    try:
        waveform = run.waveform_of(utterance)
    except LstError as error:
        return replace(section, problem=str(error))
    start_s, end_s = choose_window(
        utterance, run.frame_rate_hz, min(len(waveform) / SAMPLE_RATE_HZ, utterance.duration_s)
    )
    strips = [
        PatchStrip(
            NAMES[name].replace(", ", ",\n"),
            speech_patch_lengths(utterance, name, run.config.patching),
            _silent_patches(utterance, run.config.patching.max_patch) if name == "aligned" else None,
        )
        for name in PATCHINGS
    ]
    plot = utterance_plot(utterance, waveform, SAMPLE_RATE_HZ, (start_s, end_s), strips, run.frame_rate_hz)
    plots = {"utterance": plot, "lengths": lengths}
    return replace(section, plots=plots, utterance_id=utterance.id, shown_s=end_s - start_s)


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
    num_units, is_silence = segment_lengths(utterance)
    return np.repeat(is_silence, -(-num_units // max_patch) if max_patch else np.minimum(num_units, 1))


def corpus_section(run: RunRecord) -> Section:
    """The corpus in numbers, unit frequencies, and what was left out."""
    frequencies = unit_frequency_plot(
        run.statistics["train"]["unit_counts"], run.statistics["valid"]["unit_counts"], run.data.codec.num_units
    )
    return Section("corpus", "Corpus", run.badge, plots={"frequencies": frequencies})
