"""Counts of each split for a corpus card, in one pass and in memory that does not grow with hours of audio.

Memory grows with the number of speakers, word forms and different durations. Quantiles of scores are approximate.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lst.data.text import is_by_rule, pronouncing_dictionary
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.recipes.report.statistics import SplitCounts, add_counts, mean_length, ratio
from lst.tokenizers.speech import deduplicate
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

SCORE_SHARES = (0.01, 0.05, *(place / 10 for place in range(1, 10)), 0.95, 0.99)
DURATION_SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Of bars in the histogram of durations, and of points on the curve of speakers' hours.
MAX_DURATION_BINS, MAX_SPEAKER_RANKS = 80, 200
_ROUND_STEPS = (1, 2, 5)


class QuantileSketch:
    """Approximate quantiles of a stream of numbers, within half a per cent of their values.

    Bins are one per cent wide: some five thousand cover 0.000001 to a million on both sides of 0.
    """

    growth = 1.01
    smallest = 1e-6

    def __init__(self) -> None:
        self.num_values = 0
        self._counts: Counter[int] = Counter()
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        """Counts finite numbers, float [n]; numbers nearer to 0 than ``smallest`` count as 0."""
        if not len(values):
            return
        sizes = np.abs(values)
        steps = np.ceil(np.log(np.maximum(sizes, self.smallest) / self.smallest) / math.log(self.growth)) + 1
        bins = np.where(sizes < self.smallest, 0, np.sign(values) * steps).astype(np.int64)
        self._counts.update(bins.tolist())
        self.num_values += len(values)
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))

    def quantiles(self, shares: tuple[float, ...]) -> list[float] | None:
        """The value below which each share of the numbers lies, to four digits; None without numbers."""
        if not self.num_values:
            return None
        middles = [
            math.copysign(self.smallest * self.growth ** (abs(index) - 1.5), index) if index else 0.0
            for index in _exact_quantiles(self._counts, shares)
        ]
        return [float(f"{min(max(value, self._lowest), self._highest):.4g}") for value in middles]


class CardCounts:
    """The counts of one split.

    Args:
        tokenizer: of text.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.basic = SplitCounts()
        self.tokenizer = tokenizer
        self.durations_ms: Counter[int] = Counter()
        self.run_lengths = np.zeros(0, np.int64)
        self.words: Counter[str] = Counter()
        self.scores, self.utterance_scores, self.word_rates = QuantileSketch(), QuantileSketch(), QuantileSketch()
        self.num_with_characters = self.num_pieces = self.num_characters = self.num_bytes = 0

    def add(self, utterance: Utterance) -> None:
        """Counts one more utterance or text."""
        self.basic.add(utterance)
        self.words.update(utterance.text.split())
        self.num_pieces += len(self.tokenizer.encode(utterance.text))
        self.num_characters += len(utterance.text)
        self.num_bytes += len(utterance.text.encode())
        if not utterance.num_frames:
            return
        self.durations_ms[round(1000 * utterance.duration_s)] += 1
        self.run_lengths = add_counts(self.run_lengths, unit_runs(utterance.units))
        scores = np.array([word.score for word in utterance.words], float)
        # 0 stands for a missing score: no aligner is that certain.
        scores[scores == 0] = np.nan
        self.scores.add(scores[np.isfinite(scores)])
        self.num_with_characters += sum(bool(word.character_ends) for word in utterance.words)
        if len(scores) and np.isfinite(scores).all():
            self.utterance_scores.add(scores.mean(keepdims=True))
        self.word_rates.add(np.array([len(scores) / max(utterance.duration_s, 1e-9)]))

    def numbers(self, vocabulary: Vocabulary) -> dict[str, Any]:
        """The split's part of the card; see ``lst.recipes.corpus_card.card``."""
        basic = self.basic.statistics(vocabulary.unit_rate_hz)
        num_runs = int(self.run_lengths.sum())
        counts = np.pad(self.basic.unit_counts, (0, max(0, vocabulary.num_units - len(self.basic.unit_counts))))
        perplexity, num_words = basic["unit_perplexity"], self.words.total()
        return {
            **basic,
            "unit_counts": counts.tolist(),
            "num_unused_units": vocabulary.num_units - basic["num_distinct_units"] if num_runs else None,
            "unit_entropy_bits": None if perplexity is None else math.log2(perplexity),
            "num_units_deduplicated": num_runs,
            "units_per_second_deduplicated": ratio(num_runs, self.basic.duration_s),
            "mean_run_units": mean_length(self.run_lengths),
            "run_length_counts": self.run_lengths.tolist(),
            "word_length_counts": self.basic.word_lengths.tolist(),
            "silence_length_counts": self.basic.silence_lengths.tolist(),
            "duration_s_quantiles": self._duration_quantiles(),
            "duration_histogram": self._duration_histogram(),
            "speakers": self._speakers(),
            "num_scored_words": self.scores.num_values,
            "word_score_quantiles": _named(SCORE_SHARES, self.scores.quantiles(SCORE_SHARES)),
            "utterance_score_quantiles": _named(SCORE_SHARES, self.utterance_scores.quantiles(SCORE_SHARES)),
            "utterance_words_per_second_quantiles": _named(SCORE_SHARES, self.word_rates.quantiles(SCORE_SHARES)),
            "character_aligned_share": ratio(self.num_with_characters, self.basic.num_spoken_words),
            "pronounced_by_rule_share": self._by_rule_share() if num_runs else None,
            "num_word_types": len({word_type(word) for word in self.words} - {""}),
            "num_characters": self.num_characters,
            "num_text_pieces": self.num_pieces,
            "pieces_per_word": ratio(self.num_pieces, num_words),
            "characters_per_word": ratio(self.num_characters, num_words),
            "characters_per_piece": ratio(self.num_characters, self.num_pieces),
            "bytes_per_piece": ratio(self.num_bytes, self.num_pieces),
        }

    def _by_rule_share(self) -> float | None:
        """Share of the words that the default aligner's dictionary lacks; None where that is not installed."""
        try:
            dictionary = pronouncing_dictionary()
        except LstError:
            return None
        by_rule = sum(count for word, count in self.words.items() if is_by_rule(word, dictionary))
        return ratio(by_rule, self.words.total())

    def _duration_quantiles(self) -> dict[str, float] | None:
        if not self.durations_ms:
            return None
        return _named(DURATION_SHARES, [ms / 1000 for ms in _exact_quantiles(self.durations_ms, DURATION_SHARES)])

    def _duration_histogram(self) -> dict[str, Any]:
        longest_ms = max(self.durations_ms, default=0)
        bin_ms = next(
            step * 10**power
            for power in range(2, 12)
            for step in _ROUND_STEPS
            if longest_ms // (step * 10**power) < MAX_DURATION_BINS
        )
        counts = [0] * (longest_ms // bin_ms + 1) if self.durations_ms else []
        for duration_ms, count in self.durations_ms.items():
            counts[duration_ms // bin_ms] += count
        return {"bin_s": bin_ms / 1000, "counts": counts}

    def _speakers(self) -> dict[str, Any]:
        hours = sorted((seconds / 3600 for seconds in self.basic.speaker_s.values()), reverse=True)
        total = self.basic.duration_s / 3600
        # All ranks, or some at equal distances with the first and the last.
        ranks = np.unique(np.linspace(0, len(hours) - 1, min(len(hours), MAX_SPEAKER_RANKS)).round().astype(int))
        return {
            "num_speakers": len(hours),
            "hours_of_unknown_speakers": self.basic.unknown_speaker_s / 3600,
            "hours_most": hours[0] if hours else None,
            "hours_median": float(np.median(hours)) if hours else None,
            "hours_least": hours[-1] if hours else None,
            "share_of_most": ratio(hours[0], total) if hours else None,
            "ranks": (ranks + 1).tolist(),
            "hours_by_rank": [hours[rank] for rank in ranks],
        }


def _exact_quantiles(counts: Counter[int], shares: Sequence[float]) -> list[int]:
    """The value below which each share of the counted values lies."""
    values = sorted(counts)
    ends = np.cumsum([counts[value] for value in values])
    ranks = [int(share * (counts.total() - 1)) for share in shares]
    return [values[place] for place in np.searchsorted(ends, ranks, side="right")]


def _named(shares: tuple[float, ...], values: list[float] | None) -> dict[str, float] | None:
    return None if values is None else {f"{share:g}": value for share, value in zip(shares, values, strict=True)}


def unit_runs(units: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal units in ``units``, [n]: int64 [num_runs]."""
    return deduplicate(units)[1]


def word_type(word: str) -> str:
    """The type of a word: case folded, without punctuation and symbols at its ends."""
    kept = [place for place, sign in enumerate(word) if unicodedata.category(sign)[0] not in "PS"]
    return word[kept[0] : kept[-1] + 1].casefold() if kept else ""
