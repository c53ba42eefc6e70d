"""Formats of the evaluations of adapted models, which ``lst eval eval.task=asr|tts`` writes, and their comparison.

::

    eval/NAME@TASK-SPLIT-DATA.adapted.json     AdaptedResult: word and character error rates with intervals, steps
    eval/NAME@TASK-SPLIT-DATA.adapted.jsonl    AnswerRow a line: what was wanted, and what was heard
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np

from lst.data.shards import LeftOut
from lst.evaluation.error_rates import Rate, ratio_interval
from lst.runs.formats import read_record
from lst.storage import Between, Count, read_jsonl

# Whose words are counted: the model's, and what bounds them.
MODEL, RESYNTHESIS, RECORDING = "model", "resynthesis", "recording"


class AnswerRow(TypedDict):
    """An answer, or what bounds it.

    Keys:
        source: ``model``; for ``tts`` also ``resynthesis`` (the utterance's own units) and ``recording``.
        wanted, heard: normalised texts.
        duration_s: of the utterance, or of what the model said.
        num_tokens, num_global_steps, num_unpatched_steps, ended_by: see ``Answer``; 0 and empty of other sources.
    """

    utterance: str
    source: str
    wanted: str
    heard: str
    word_errors: int
    num_words: int
    character_errors: int
    num_characters: int
    duration_s: float
    num_tokens: int
    num_global_steps: int
    num_unpatched_steps: int
    ended_by: str


class ErrorRates(TypedDict):
    """Word and character error rates of one source, over all utterances."""

    wer: Rate
    cer: Rate


class AdaptedResult(TypedDict):
    """The result of one model.

    Keys:
        made_from: fingerprint of all that decides it.
        normaliser, measure, recogniser, voice: what made both texts comparable, counted errors, heard and spoke, each
            with its version; the last two are empty for ``asr``.
        sources: by ``AnswerRow.source``.
        global_steps_a_second: steps of the backbone for prompt and answer, a second of speech.
        length_ratio: these steps over those of a model without patches.
        ended_by: answers by how they ended.
    """

    made_from: str
    name: str
    task: str
    split: str
    data: str
    weights_sha256: str
    seed: int
    strategy: str
    num_parameters: Count
    num_beams: Count
    normaliser: str
    measure: str
    recogniser: str
    voice: str
    num_utterances: Count
    left_out: list[LeftOut]
    sources: dict[str, ErrorRates]
    global_steps_a_second: Annotated[float, Between(0)]
    length_ratio: Annotated[float, Between(0)]
    ended_by: dict[str, Count]


@dataclass(frozen=True)
class AdaptedAnswers:
    """A result, and every answer of it."""

    result: AdaptedResult
    rows: Sequence[AnswerRow]


class RateDifference(TypedDict):
    """Word error rate of one model less that of another, with the 95 % bootstrap interval over the same utterances."""

    difference: float
    low: float
    high: float
    num_utterances: Count


def read_adapted(path: Path) -> AdaptedAnswers:
    """Reads ``eval/NAME@….adapted.json`` and the answers beside it; raises ``UserError`` where one is damaged."""
    result = read_record(path, AdaptedResult, "the evaluation", f"Delete {path} and run lst eval eval.task= again.")
    return AdaptedAnswers(result, read_jsonl(path.with_suffix(".jsonl"), AnswerRow))


def word_error_difference(
    base: AdaptedAnswers, other: AdaptedAnswers, num_samples: int, seed: int
) -> RateDifference | None:
    """By how much the word error rate of ``other`` is above that of ``base``; None without a common utterance.

    Args:
        base, other: of the same task and data.
        num_samples, seed: of the resampling of utterances.
    """
    first, second = (
        {row["utterance"]: row for row in answers.rows if row["source"] == MODEL} for answers in (base, other)
    )
    pairs = [(first[name], second[name]) for name in first if name in second]
    if not pairs:
        return None
    more = np.array([own["word_errors"] - before["word_errors"] for before, own in pairs])
    wanted = np.array([before["num_words"] for before, _ in pairs])
    low, high = ratio_interval(more, wanted, num_samples, np.random.default_rng([0xD1F, seed]))
    return {
        "difference": float(more.sum() / wanted.sum()),
        "low": low,
        "high": high,
        "num_utterances": len(pairs),
    }
