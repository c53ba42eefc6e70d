"""Frames, words and silences in the speech spans of many utterances, computed together in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from lst.data.documents.spans import Spans
from lst.data.utterance import Utterance, Word

_NO_UNITS = np.zeros(0, np.uint16)
_TEXT, _START, _END = itemgetter(0), itemgetter(1), itemgetter(2)


def ragged_range(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Joins the ranges ``starts[i]`` … ``starts[i] + lengths[i]`` (exclusive): int64 [sum of lengths].

    >>> ragged_range(np.array([5, 20]), np.array([3, 2])).tolist()
    [5, 6, 7, 20, 21]
    """
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


class JoinedWords:
    """The words of several utterances in joined arrays.

    Args:
        utterances: the utterances.
        used: bool [utterances]; the others are treated as if they had no words and no units.

    Attributes:
        units: uint16 [num_frames] of each utterance.
        words: all words.
        texts: of all words.
        first: int64 [utterances], index of each utterance's first word.
        counts: int64 [utterances], number of words of each utterance.
        num_frames: int64 [utterances].
        starts, ends: int64 [words], frames within the utterance.
    """

    def __init__(self, utterances: Sequence[Utterance], used: Sequence[bool]) -> None:
        words_of = [utterance.words if is_used else () for utterance, is_used in zip(utterances, used, strict=True)]
        self.units = [
            utterance.units if is_used else _NO_UNITS for utterance, is_used in zip(utterances, used, strict=True)
        ]
        self.words: list[Word] = list(chain.from_iterable(words_of))
        self.texts: list[str] = list(map(_TEXT, self.words))
        self.counts = np.fromiter(map(len, words_of), np.int64, len(words_of))
        self.num_frames = np.fromiter(map(len, self.units), np.int64, len(self.units))
        self.first = np.cumsum(self.counts) - self.counts
        self.starts = np.fromiter(map(_START, self.words), np.int64, len(self.words))
        self.ends = np.fromiter(map(_END, self.words), np.int64, len(self.words))

    def span_frames(self, spans: Spans, units_a_frame: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """First and last (exclusive) frame of each span, int64 [s] each; equal to ``spans.span_frames``."""
        count, offset = self.counts[spans.documents], self.first[spans.documents]
        # The middle between each word and the word before; the values at the utterances' ends are not used.
        middles = (np.append(0, self.ends) + np.append(self.starts, 0)) // (2 * units_a_frame) * units_a_frame
        starts = np.where(spans.first_words == 0, 0, middles[offset + spans.first_words])
        at_end = spans.last_words == count
        ends = np.where(at_end, self.num_frames[spans.documents], middles[offset + spans.last_words])
        return starts, ends


def begins_run(units: np.ndarray, span_starts: np.ndarray) -> np.ndarray:
    """Marks the units, int [n], that differ from the unit before, or that start a span, int [s]: bool [n].

    >>> begins_run(np.array([7, 7, 8, 8, 8]), np.array([0, 3])).tolist()
    [True, False, True, True, False]
    """
    begins = np.ones(len(units), bool)
    begins[1:] = units[1:] != units[:-1]
    begins[span_starts[span_starts < len(units)]] = True
    return begins


class Segments(NamedTuple):
    """Words and silences in spans of speech.

    Attributes:
        documents: int64 [s], of each segment.
        words: int64 [s], index of the word among all, −1 for a silence.
        lengths: int32 [s], frames within the span.
    """

    documents: np.ndarray
    words: np.ndarray
    lengths: np.ndarray


def segments_of_spans(joined: JoinedWords, spans: Spans, starts: np.ndarray, ends: np.ndarray) -> Segments:
    """Words and silences of speech spans, in order. The segments of a span tile it.

    Args:
        joined: the words.
        spans: of speech only.
        starts, ends: int64 [s], frames of the spans.
    """
    # Each utterance as silence, word, silence, word, … silence; most of these silences are empty.
    counts = 2 * joined.counts + 1
    first = np.cumsum(counts) - counts
    places = ragged_range(first, 2 * joined.counts)[1::2] if len(joined.words) else np.zeros(0, np.int64)
    total = int(counts.sum())
    segment_starts, segment_ends = np.zeros(total, np.int64), np.zeros(total, np.int64)
    words = np.full(total, -1, np.int64)
    segment_starts[places], segment_ends[places] = joined.starts, joined.ends
    words[places] = np.arange(len(joined.words))
    # A silence reaches from the end of the word before to the start of the word after.
    segment_ends[places - 1] = joined.starts
    segment_starts[places + 1] = joined.ends
    segment_ends[first + counts - 1] = joined.num_frames
    segment_starts[first] = 0
    exists = (words >= 0) | (segment_ends > segment_starts)

    chosen_counts = 2 * (spans.last_words - spans.first_words) + 1
    chosen = ragged_range(first[spans.documents] + 2 * spans.first_words, chosen_counts)
    span_starts, span_ends = np.repeat(starts, chosen_counts), np.repeat(ends, chosen_counts)
    own_starts, own_ends = segment_starts[chosen], segment_ends[chosen]
    kept = exists[chosen] & (own_ends > span_starts) & (own_starts < span_ends)
    lengths = np.minimum(own_ends, span_ends) - np.maximum(own_starts, span_starts)
    return Segments(
        np.repeat(spans.documents, chosen_counts)[kept], words[chosen[kept]], lengths[kept].astype(np.int32)
    )
