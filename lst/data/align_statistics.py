"""What the alignments of a corpus look like, in numbers: for its card, and to choose the filters by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lst.data.pronunciation import spoken_words
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.lazy import import_or_explain

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SCORE_BINS = 20


@cache
def pocketsphinx_dictionary() -> frozenset[str]:
    """Words whose pronunciation the default aligner's dictionary has; others are pronounced by rule.

    Raises:
        UserError: pocketsphinx is not installed.
    """
    pocketsphinx = import_or_explain("pocketsphinx", "its dictionary", "pip install pocketsphinx")
    path = Path(pocketsphinx.get_model_path(), "en-us", "cmudict-en-us.dict")
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split(maxsplit=1)[0].partition("(")[0] for line in lines if line.strip())


def alignment_statistics(utterances: Iterable[Utterance], dictionary: Collection[str] | None = None) -> dict[str, Any]:
    """Numbers of the alignments, as JSON; what cannot be said of so few is None.

    Args:
        utterances: any; those without words, and written texts, are counted but not measured. They are passed once.
        dictionary: words in lower case whose pronunciation is known; by default, if it is installed, pocketsphinx's.

    Returns:
        ``num_utterances``, ``num_aligned``, ``num_words``; ``words_per_second`` (over all, and quantiles of
        utterances'); ``silence_share`` of frames; ``word_frames`` and ``silence_frames`` (mean, quantiles, and counts a
        length: place i counts the words of i frames); ``word_score`` (mean, quantiles, and a histogram of edges and
        counts); ``utterance_score``, the quantiles by which ``data.align.min_score`` is chosen;
        ``rule_pronounced_share`` of words; ``character_aligned_share`` of words.
    """
    if dictionary is None:
        try:
            dictionary = pocketsphinx_dictionary()
        except UserError:
            dictionary = None
    num_utterances = num_aligned = num_characters = num_by_rule = 0
    duration_s = 0.0
    words: list[int] = []
    silences: list[int] = []
    scores: list[float] = []
    rates: list[float] = []
    utterance_scores: list[float] = []
    is_by_rule: dict[str, bool] = {}
    for utterance in utterances:
        num_utterances += 1
        if not utterance.words:
            continue
        num_aligned += 1
        duration_s += utterance.duration_s
        for segment in utterance.segments():
            (silences if segment.word < 0 else words).append(segment.end_frame - segment.start_frame)
        own = [word.score for word in utterance.words]
        scores += own
        utterance_scores.append(float(np.mean(own)))
        if utterance.duration_s > 0:
            rates.append(len(utterance.words) / utterance.duration_s)
        for word in utterance.words:
            num_characters += bool(word.character_ends)
            if dictionary is not None:
                if word.text not in is_by_rule:
                    is_by_rule[word.text] = _is_by_rule(word.text, dictionary)
                num_by_rule += is_by_rule[word.text]
    num_words = len(words)
    return {
        "num_utterances": num_utterances,
        "num_aligned": num_aligned,
        "num_words": num_words,
        "words_per_second": {"mean": num_words / duration_s if duration_s else None, "quantiles": _quantiles(rates)},
        "silence_share": sum(silences) / (sum(silences) + sum(words)) if num_words else None,
        "word_frames": _lengths(words),
        "silence_frames": _lengths(silences),
        "word_score": {**_mean_and_quantiles(scores), "histogram": _histogram(scores)},
        "utterance_score": _mean_and_quantiles(utterance_scores),
        "rule_pronounced_share": num_by_rule / num_words if num_words and dictionary is not None else None,
        "character_aligned_share": num_characters / num_words if num_words else None,
    }


def _is_by_rule(text: str, dictionary: Collection[str]) -> bool:
    """Whether any part of a word is not in the dictionary; words of other letters are in none."""
    try:
        return any(token not in dictionary for word in spoken_words(text) for token in word.tokens)
    except ValueError:
        return True


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"{q:g}": float(found) for q, found in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _mean_and_quantiles(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)) if values else None, "quantiles": _quantiles(values)}


def _lengths(values: Sequence[int]) -> dict[str, Any]:
    counts = np.bincount(np.array(values, np.int64)).tolist() if values else []
    return {**_mean_and_quantiles(values), "counts": counts}


def _histogram(values: Sequence[float]) -> dict[str, list[Any]] | None:
    if not values:
        return None
    counts, edges = np.histogram(values, SCORE_BINS)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
