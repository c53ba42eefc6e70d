"""A prepared corpus in numbers: sizes, rates, silences, how often each unit occurs, how long patches are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lst.data.utterance import Utterance
from lst.model.batch import SPEECH, Document
from lst.model.config import PatchingConfig
from lst.model.patching import patch_document

# Name of a way to cut speech: the fixed strategy, and what aligned patching does with silences.
PATCHINGS = {
    "none": ("none", "separate"),
    "static": ("static", "separate"),
    "aligned": ("aligned", "separate"),
    "aligned merged": ("aligned", "merged"),
}
HISTOGRAM_PATCHINGS = ("static", "aligned", "aligned merged")


def corpus_statistics(
    train: Sequence[Utterance], valid: Sequence[Utterance], text: Sequence[Utterance], frame_rate_hz: int
) -> dict[str, dict[str, Any]]:
    """Numbers of each split, as JSON: ``{"train": {…}, "valid": {…}, "text": {…}}``.

    Args:
        train: spoken utterances that are trained on.
        valid: spoken utterances that are held out.
        text: written texts; their speech is counted as none.
        frame_rate_hz: speech units a second.

    Returns:
        Per split ``num_utterances``, ``hours``, ``num_speakers``, ``num_words``, ``num_units``, ``units_per_second``,
        ``words_per_second``, ``silence_share`` (of the frames), ``mean_word_units``, ``mean_silence_units``,
        ``mean_word_s``, ``mean_silence_s``, ``num_distinct_units``, ``unit_perplexity`` (2 to the entropy of the unit
        frequencies), and ``unit_counts``, how often each unit occurs, by unit. A rate or mean of nothing is None.
    """
    splits = {"train": train, "valid": valid, "text": text}
    return {name: _split_statistics(utterances, frame_rate_hz) for name, utterances in splits.items()}


def _split_statistics(utterances: Iterable[Utterance], frame_rate_hz: int) -> dict[str, Any]:
    num_utterances = num_words = num_spoken_words = 0
    duration_s = 0.0
    speakers: set[str] = set()
    word_lengths: list[int] = []
    silence_lengths: list[int] = []
    counts = np.zeros(0, np.int64)
    for utterance in utterances:
        num_utterances += 1
        duration_s += utterance.duration_s
        if utterance.speaker:
            speakers.add(utterance.speaker)
        num_spoken_words += len(utterance.words)
        num_words += len(utterance.words) or len(utterance.text.split())
        for segment in utterance.segments():
            lengths = silence_lengths if segment.word < 0 else word_lengths
            lengths.append(segment.end_frame - segment.start_frame)
        counts = _add_counts(counts, utterance.units)
    num_units = int(counts.sum())
    mean_word = _ratio(sum(word_lengths), len(word_lengths))
    mean_silence = _ratio(sum(silence_lengths), len(silence_lengths))
    return {
        "num_utterances": num_utterances,
        "hours": duration_s / 3600,
        "num_speakers": len(speakers),
        "num_words": num_words,
        "num_units": num_units,
        "units_per_second": _ratio(num_units, duration_s),
        "words_per_second": _ratio(num_spoken_words, duration_s),
        "silence_share": _ratio(sum(silence_lengths), num_units),
        "mean_word_units": mean_word,
        "mean_silence_units": mean_silence,
        "mean_word_s": None if mean_word is None else mean_word / frame_rate_hz,
        "mean_silence_s": None if mean_silence is None else mean_silence / frame_rate_hz,
        "num_distinct_units": int(np.count_nonzero(counts)),
        "unit_perplexity": unit_perplexity(counts),
        "unit_counts": counts.tolist(),
    }


def _add_counts(counts: np.ndarray, units: np.ndarray) -> np.ndarray:
    found = np.bincount(units, minlength=len(counts)) if len(units) else np.zeros(len(counts), np.int64)
    found[: len(counts)] += counts
    return found


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def unit_perplexity(counts: Sequence[int] | np.ndarray) -> float | None:
    """How many units, all equally frequent, would have the entropy of these frequencies; None without any."""
    used = np.asarray(counts, dtype=float)
    used = used[used > 0]
    if not used.size:
        return None
    shares = used / used.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def speech_patch_lengths(utterance: Utterance, name: str, patching: PatchingConfig) -> np.ndarray:
    """Units of each patch when the whole utterance is cut as speech, int64 [num_patches].

    Args:
        utterance: aligned speech.
        name: one of ``PATCHINGS``.
        patching: gives the static size and the longest aligned patch.
    """
    strategy, silence = PATCHINGS[name]
    segments = utterance.segments()
    document = Document(
        utterance.id,
        utterance.units.astype(np.int32),
        np.full(utterance.num_frames, SPEECH, np.uint8),
        np.array([segment.end_frame - segment.start_frame for segment in segments], np.int32),
        np.array([segment.word < 0 for segment in segments], bool),
    )
    return patch_document(document, strategy, replace(patching, silence=silence, aligned_to="word")).lengths


def patch_length_histograms(utterances: Iterable[Utterance], patching: PatchingConfig) -> dict[str, list[int]]:
    """How many speech patches have each length: ``{"static": [0, n₁, n₂, …], "aligned": …, "aligned merged": …}``.

    ``aligned`` makes silences patches of their own, ``aligned merged`` joins them to the word before. Place i of a list
    counts the patches of i units.
    """
    counts = {name: np.zeros(1, np.int64) for name in HISTOGRAM_PATCHINGS}
    for utterance in utterances:
        for name in HISTOGRAM_PATCHINGS:
            counts[name] = _add_counts(counts[name], speech_patch_lengths(utterance, name, patching))
    return {name: found.tolist() for name, found in counts.items()}
