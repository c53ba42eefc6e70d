"""Perplexity of held-out text: a token and a byte, with intervals.

::

    held-out texts ──text_windows──▶ windows of the model's context ──text_nats──▶ TextRow a text ──text_scores──▶
    TextScores

Every piece of a text is scored once. A text longer than the context is read in windows that follow one another, each
without the text before it. Markers, ``<bos>`` and ``<eos>`` are not counted. Perplexity a token depends on the text
tokenizer; bits a byte do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np

from lst.data.documents import DocumentBuilder
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.scorer import Scorer
from lst.model.batch import TEXT, Document
from lst.runs.formats import read_record
from lst.storage import Count, Location

# Windows that are scored together, between two steps of the progress.
WINDOWS_AT_ONCE = 64


class TextRow(TypedDict):
    """A row of ``eval/NAME.text.jsonl``: what a model pays for a held-out text.

    Keys:
        text: its id.
        num_tokens, num_bytes: text pieces that are scored, and UTF-8 bytes of the text.
        nats: −ln p of all of it.
    """

    text: str
    num_tokens: Count
    num_bytes: Count
    nats: float


class TextEstimate(TypedDict):
    """A mean over held-out texts with its 95 % bootstrap interval over texts; one text gives none."""

    value: float
    low: float | None
    high: float | None


class TextScores(TypedDict):
    """Scores of a model on held-out text, and what they are of.

    Keys:
        num_texts, num_tokens, num_bytes: that are scored.
        perplexity: exp of the mean nats a token.
        bits_per_byte: mean bits a byte.
        byte_perplexity: 2 to the power of these.
    """

    num_texts: Count
    num_tokens: Count
    num_bytes: Count
    perplexity: TextEstimate
    bits_per_byte: TextEstimate
    byte_perplexity: TextEstimate


class TextResult(TextScores):
    """``eval/NAME.text.json``: a model on text alone; ``eval/NAME@FINGERPRINT.text.json`` of other data.

    Keys:
        made_from: fingerprint of weights, data, options and seed; an equal one is not evaluated again.
        name: of the model in the run.
        corpus, data: description and fingerprint of the prepared data.
        context_tokens: length of a window, as in the training.
        options: of the resampling.
    """

    made_from: str
    name: str
    corpus: str
    data: str
    weights_sha256: str
    seed: int
    num_parameters: Count
    context_tokens: Count
    options: dict[str, Any]


def text_windows(builder: DocumentBuilder, text: Utterance, context: int) -> list[tuple[Document, slice]]:
    """A text as documents of up to ``context`` tokens, each with the range of its tokens that are scored.

    The first begins with ``<bos>`` and the marker, the others with the marker. Together they score every piece once.
    """
    whole = builder.text(text)
    # Between <bos> with the marker and <eos>.
    pieces = whole.token_ids[2:-1]
    first = max(context - 2, 1)
    starts = [0, *range(first, len(pieces), max(context - 1, 1))]
    windows = []
    for start, stop in zip(starts, [*starts[1:], len(pieces)], strict=True):
        head = whole.token_ids[:2] if start == 0 else whole.token_ids[1:2]
        ids = np.concatenate([head, pieces[start:stop]])
        if stop > start:
            document = replace(whole, token_ids=ids, modalities=np.full(len(ids), TEXT, np.uint8))
            windows.append((document, slice(len(head), len(ids))))
    return windows


def text_nats(
    scorer: Scorer, texts: Sequence[Utterance], context: int, advance: Callable[[int], None] = lambda count: None
) -> list[TextRow]:
    """What a model pays for each text; a text without a piece is an error.

    Args:
        scorer: with the model.
        texts: held-out texts.
        context: tokens of a window.
        advance: told the number of texts that are done.
    """
    rows: list[TextRow] = []
    waiting: list[tuple[Document, slice]] = []
    owners: list[int] = []

    def score() -> None:
        for owner, scored in zip(owners, scorer.score(waiting), strict=True):
            rows[owner]["nats"] -= scored.sum_nats
            rows[owner]["num_tokens"] += scored.num_tokens
        waiting.clear()
        owners.clear()

    for text in texts:
        windows = text_windows(scorer.builder, text, context)
        if not windows:
            raise UserError(f"held-out text {text.id!r} has no text piece to score")
        rows.append({"text": text.id, "num_tokens": 0, "num_bytes": len(text.text.encode()), "nats": 0.0})
        waiting += windows
        owners += [len(rows) - 1] * len(windows)
        if len(waiting) >= WINDOWS_AT_ONCE:
            score()
        advance(1)
    if waiting:
        score()
    return rows


def text_scores(rows: Sequence[TextRow], num_samples: int, seed: int) -> TextScores:
    """Perplexities and bits over all texts, with intervals that resample texts."""
    nats, tokens, num_bytes = (
        np.array([row[key] for row in rows], float) for key in ("nats", "num_tokens", "num_bytes")
    )
    a_token = _estimate(nats, tokens, num_samples, seed)
    a_byte = [None if one is None else one / math.log(2) for one in _estimate(nats, num_bytes, num_samples, seed)]
    return {
        "num_texts": len(rows),
        "num_tokens": int(tokens.sum()),
        "num_bytes": int(num_bytes.sum()),
        "perplexity": _named([None if one is None else math.exp(one) for one in a_token]),
        "bits_per_byte": _named(a_byte),
        "byte_perplexity": _named([None if one is None else 2**one for one in a_byte]),
    }


def _estimate(
    nats: np.ndarray, counts: np.ndarray, num_samples: int, seed: int
) -> tuple[float, float | None, float | None]:
    """Mean nats a count, and the bounds of its interval."""
    mean = float(nats.sum() / counts.sum())
    if len(nats) < 2:
        return mean, None, None
    drawn = np.random.default_rng([0x7E87, seed]).integers(len(nats), size=(num_samples, len(nats)))
    low, high = np.percentile(nats[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return mean, float(low), float(high)


def _named(values: Sequence[float | None]) -> TextEstimate:
    value, low, high = values
    assert value is not None
    return {"value": value, "low": low, "high": high}


def read_text_result(place: Location) -> TextResult:
    """Reads ``eval/NAME.text.json``; raises ``UserError`` where it is absent or damaged."""
    return read_record(place, TextResult, "the evaluation on text", f"Delete {place} and run lst eval again.")
