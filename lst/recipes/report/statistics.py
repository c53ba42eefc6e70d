"""A prepared corpus in numbers: sizes, rates, silences, how often each unit occurs, how long patches are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lst.data.corpora import UNKNOWN_SPEAKER
from lst.data.shards import SPEECH_SPLIT
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
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    text: Sequence[Utterance],
    frame_rate_hz: int,
    speech: Sequence[Utterance] = (),
) -> dict[str, dict[str, Any]]:
    """Numbers of each split, as JSON: ``{"train": {…}, "valid": {…}, "text": {…}}``.

    Args:
        train: spoken utterances that are trained on.
        valid: spoken utterances that are held out.
        text: written texts; their speech is counted as none.
        frame_rate_hz: speech units a second.
        speech: without transcripts; the split ``speech`` is there only where there is some.

    Returns:
        Per split ``num_utterances``, ``hours``, ``num_speakers``, ``num_words``, ``num_units``, ``units_per_second``,
        ``words_per_second``, ``silence_share`` (of the frames), ``mean_word_units``, ``mean_silence_units``,
        ``mean_word_s``, ``mean_silence_s``, ``num_distinct_units``, ``unit_perplexity`` (2 to the entropy of the unit
        frequencies), and ``unit_counts``, how often each unit occurs, by unit. A rate or mean of nothing is None.
    """
    splits = {"train": train, "valid": valid, "text": text, **({SPEECH_SPLIT: speech} if len(speech) else {})}
    found = {}
    for name, utterances in splits.items():
        counts = SplitCounts()
        for utterance in utterances:
            counts.add(utterance)
        found[name] = counts.statistics(frame_rate_hz)
    return found


class SplitCounts:
    """Counts a split one utterance at a time. Memory grows only with the number of speakers and the longest lengths.

    Attributes:
        num_utterances, num_words: of all utterances and texts; text without alignment is split at white space.
        num_spoken_words: of aligned utterances.
        duration_s: of all audio.
        speaker_s: seconds of each named speaker.
        unknown_speaker_s: seconds of audio without a named speaker.
        word_lengths, silence_lengths: int64; entry i counts the words, silences of i units.
        unit_counts: int64, how often each unit occurs.
    """

    def __init__(self) -> None:
        self.num_utterances = self.num_words = self.num_spoken_words = 0
        self.duration_s = self.unknown_speaker_s = 0.0
        self.speaker_s: dict[str, float] = {}
        self.word_lengths = self.silence_lengths = self.unit_counts = np.zeros(0, np.int64)

    def add(self, utterance: Utterance) -> None:
        """Counts one more utterance or text."""
        self.num_utterances += 1
        self.duration_s += utterance.duration_s
        if utterance.speaker in ("", UNKNOWN_SPEAKER):
            self.unknown_speaker_s += utterance.duration_s
        else:
            self.speaker_s[utterance.speaker] = self.speaker_s.get(utterance.speaker, 0.0) + utterance.duration_s
        self.num_spoken_words += len(utterance.words)
        self.num_words += len(utterance.words) or len(utterance.text.split())
        lengths, is_silence = segment_lengths(utterance)
        self.word_lengths = add_counts(self.word_lengths, lengths[~is_silence])
        self.silence_lengths = add_counts(self.silence_lengths, lengths[is_silence])
        self.unit_counts = add_counts(self.unit_counts, utterance.units)

    def statistics(self, frame_rate_hz: int) -> dict[str, Any]:
        """The numbers of a split that ``corpus_statistics`` lists."""
        num_units = int(self.unit_counts.sum())
        mean_word, mean_silence = mean_length(self.word_lengths), mean_length(self.silence_lengths)
        return {
            "num_utterances": self.num_utterances,
            "hours": self.duration_s / 3600,
            "num_speakers": len(self.speaker_s),
            "num_words": self.num_words,
            "num_units": num_units,
            "units_per_second": ratio(num_units, self.duration_s),
            "words_per_second": ratio(self.num_spoken_words, self.duration_s),
            "silence_share": ratio(total_length(self.silence_lengths), num_units),
            "mean_word_units": mean_word,
            "mean_silence_units": mean_silence,
            "mean_word_s": None if mean_word is None else mean_word / frame_rate_hz,
            "mean_silence_s": None if mean_silence is None else mean_silence / frame_rate_hz,
            "num_distinct_units": int(np.count_nonzero(self.unit_counts)),
            "unit_perplexity": unit_perplexity(self.unit_counts),
            "unit_counts": self.unit_counts.tolist(),
        }


def segment_lengths(utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """Frames of each word and silence, int32 [num_segments], and which of them are silences, bool [num_segments]."""
    segments = utterance.segments()
    lengths = [segment.end_frame - segment.start_frame for segment in segments]
    return np.array(lengths, np.int32), np.array([segment.word < 0 for segment in segments], bool)


def add_counts(counts: np.ndarray, values: Sequence[int] | np.ndarray) -> np.ndarray:
    """Adds a histogram of ``values`` to the histogram ``counts``, int64; the result is as long as the largest needs."""
    found = np.bincount(values, minlength=len(counts)) if len(values) else np.zeros(len(counts), np.int64)
    found[: len(counts)] += counts
    return found


def total_length(counts: np.ndarray) -> int:
    """Sum of all lengths in a histogram whose entry i counts lengths of i."""
    return int((counts * np.arange(len(counts))).sum())


def mean_length(counts: np.ndarray) -> float | None:
    """Mean length in a histogram whose entry i counts lengths of i; None if it is empty."""
    return ratio(total_length(counts), int(counts.sum()))


def ratio(numerator: float, denominator: float) -> float | None:
    """The quotient; None where there is nothing to divide by."""
    return numerator / denominator if denominator else None


def unit_perplexity(counts: Sequence[int] | np.ndarray) -> float | None:
    """Perplexity of unit frequencies: 2 to their entropy in bits; None without units."""
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
    document = Document(
        utterance.id,
        utterance.units.astype(np.int32),
        np.full(utterance.num_frames, SPEECH, np.uint8),
        *segment_lengths(utterance),
    )
    return patch_document(document, strategy, replace(patching, silence=silence, aligned_to="word")).lengths


def patch_length_histograms(utterances: Iterable[Utterance], patching: PatchingConfig) -> dict[str, list[int]]:
    """How many speech patches have each length: ``{"static": [0, n₁, n₂, …], "aligned": …, "aligned merged": …}``.

    ``aligned`` makes silences patches of their own, ``aligned merged`` joins them to the word before. Entry i of a list
    counts the patches of i units.
    """
    counts = {name: np.zeros(1, np.int64) for name in HISTOGRAM_PATCHINGS}
    for utterance in utterances:
        for name in HISTOGRAM_PATCHINGS:
            counts[name] = add_counts(counts[name], speech_patch_lengths(utterance, name, patching))
    return {name: found.tolist() for name, found in counts.items()}
