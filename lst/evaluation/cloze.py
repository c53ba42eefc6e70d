"""Cloze on held-out utterances: the true ending against another utterance's, in all four directions.

The context is what precedes the last sentence (where the corpus knows sentences) or a share of the words. Context and
ending are each spoken or written: S→S, T→T, S→T, T→S. A model is right when it gives the true ending the higher
log-likelihood given the context; a tie counts one half. Log-likelihoods are summed, and also normalised by the number
of tokens, since summing favours short endings. Markers and ``<eos>`` are not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lst.configs.schema import EvalConfig
from lst.data.documents import DocumentBuilder, document_generator
from lst.data.documents.interleave import Span
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import PatchingConfig
from lst.model.inference import ScoredTokens, score_documents
from lst.model.lst import LatentSpeechTextModel
from lst.runs import token_layout

DIRECTIONS = ("S→S", "T→T", "S→T", "T→S")

NORMALISATIONS = ("sum", "mean")
_DISTRACTOR_EPOCH = 0xC102E


@dataclass(frozen=True)
class ClozeItem:
    """An utterance, where its ending opens, and whose ending is the false one.

    Attributes:
        utterance: gives context and true ending.
        ending_start: the word with which its ending opens.
        other: gives the false ending.
        other_ending_start: the word with which that opens.
    """

    utterance: Utterance
    ending_start: int
    other: Utterance
    other_ending_start: int


def cloze_items(utterances: Sequence[Utterance], config: EvalConfig, seed: int) -> list[ClozeItem]:
    """Pairs each utterance with another's ending, by the same speaker where there is one.

    A speaker's utterances are shuffled from the seed into a circle, and each takes the next one's ending: every ending
    is then true once and false once, so a model gains nothing by liking some endings whatever their context.

    Raises:
        UserError: fewer than two utterances are long enough.
    """
    usable = [utterance for utterance in utterances if len(utterance.words) >= config.min_words]
    if 0 < config.max_items < len(usable):
        # Drawn before pairing, so that endings stay balanced, and from all speakers.
        kept = sorted(document_generator(seed, _DISTRACTOR_EPOCH, "items").permutation(len(usable))[: config.max_items])
        usable = [usable[index] for index in kept]
    starts = {utterance.id: ending_start(utterance, config.context_share) for utterance in usable}
    endings = {utterance.id: _ending_text(utterance, starts[utterance.id]) for utterance in usable}
    everyone = _shuffled(usable, seed, "")
    by_speaker = {
        speaker: _shuffled([u for u in usable if u.speaker == speaker], seed, speaker)
        for speaker in {utterance.speaker for utterance in usable}
    }
    items: list[ClozeItem] = []
    for utterance in usable:
        for circle in (by_speaker[utterance.speaker], everyone):
            other = _next_in_circle(circle, utterance, endings)
            if other is not None:
                items.append(ClozeItem(utterance, starts[utterance.id], other, starts[other.id]))
                break
    if not items:
        raise UserError(
            f"cloze needs two held-out utterances of eval.min_words={config.min_words} words or more with different "
            f"endings; there are {len(usable)} long enough: hold out more with data.valid_share"
        )
    return items


def _shuffled(utterances: Sequence[Utterance], seed: int, name: str) -> list[Utterance]:
    order = document_generator(seed, _DISTRACTOR_EPOCH, name).permutation(len(utterances))
    return [utterances[index] for index in order]


def _next_in_circle(circle: list[Utterance], utterance: Utterance, endings: dict[str, str]) -> Utterance | None:
    """The next utterance with another ending; None when there is none."""
    place = next(index for index, other in enumerate(circle) if other.id == utterance.id)
    for other in circle[place + 1 :] + circle[:place]:
        if endings[other.id] != endings[utterance.id]:
            return other
    return None


def ending_start(utterance: Utterance, context_share: float) -> int:
    """The word with which the ending opens; context and ending have a word each at least."""
    start = utterance.ending_start_word
    if start is None:
        start = round(context_share * len(utterance.words))
    return min(max(start, 1), len(utterance.words) - 1)


def _ending_text(utterance: Utterance, start: int) -> str:
    return " ".join(word.text for word in utterance.words[start:]).lower()


def cloze_document(
    builder: DocumentBuilder, item: ClozeItem, direction: str, true_ending: bool
) -> tuple[Document, slice]:
    """Context and ending as one document, and the range of the ending's tokens."""
    context_modality, ending_modality = (SPEECH if letter == "S" else TEXT for letter in direction.split("→"))
    source, start = (item.utterance, item.ending_start) if true_ending else (item.other, item.other_ending_start)
    context = builder.span_part(item.utterance, Span(context_modality, 0, item.ending_start))
    ending = builder.span_part(source, Span(ending_modality, start, len(source.words)))
    document = builder.document(item.utterance.id, [context, ending], end=False)
    # Behind <bos>, a marker, the context and, where the modality changes, another marker.
    start = 2 + len(context.token_ids) + (context_modality != ending_modality)
    return document, slice(start, len(document))


def score_cloze(
    model: LatentSpeechTextModel,
    builder: DocumentBuilder,
    items: Sequence[ClozeItem],
    patching: PatchingConfig,
    strategy: str,
    row_patches: int,
    rows_a_batch: int,
    advance: Any = None,
) -> list[dict[str, Any]]:
    """Scores every item in every direction.

    Returns:
        A row an item and direction: ``utterance``, ``other``, ``direction``, and of the true and the false ending the
        summed log-likelihood in nats and the number of tokens.
    """
    rows: list[dict[str, Any]] = []
    layout = token_layout(builder.vocabulary)
    for direction in DIRECTIONS:
        documents = [cloze_document(builder, item, direction, true) for item in items for true in (True, False)]
        scores = score_documents(model, documents, patching, strategy, row_patches, rows_a_batch, layout)
        for item, true, false in zip(items, scores[::2], scores[1::2], strict=True):
            rows.append(_row(item, direction, true, false))
        if advance is not None:
            advance(len(items))
    return rows


def _row(item: ClozeItem, direction: str, true: ScoredTokens, false: ScoredTokens) -> dict[str, Any]:
    return {
        "utterance": item.utterance.id,
        "other": item.other.id,
        "direction": direction,
        "true_nats": true.sum_nats,
        "true_tokens": true.num_tokens,
        "false_nats": false.sum_nats,
        "false_tokens": false.num_tokens,
    }


def item_credits(rows: Sequence[dict[str, Any]], normalisation: str) -> np.ndarray:
    """1 for each row in which the true ending scores higher, ½ for a tie or no token, 0 otherwise: float [rows]."""
    true = np.array([row["true_nats"] for row in rows])
    false = np.array([row["false_nats"] for row in rows])
    if normalisation == "mean":
        true = true / np.maximum([row["true_tokens"] for row in rows], 1)
        false = false / np.maximum([row["false_tokens"] for row in rows], 1)
    # Nothing can be said of an ending whose units all repeat the context's last one, for it has no token.
    is_empty = np.array([not (row["true_tokens"] and row["false_tokens"]) for row in rows])
    return np.where((true == false) | is_empty, 0.5, (true > false).astype(float))


def bootstrap_interval(values: np.ndarray, num_samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling items."""
    generator = np.random.default_rng([0xB007, seed])
    means = values[generator.integers(len(values), size=(num_samples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def cloze_accuracies(rows: Sequence[dict[str, Any]], num_samples: int, seed: int) -> dict[str, Any]:
    """Accuracy with its interval, by direction and normalisation: ``{"S→S": {"sum": {"accuracy", "low", "high"}}}``."""
    table: dict[str, Any] = {}
    for direction in DIRECTIONS:
        chosen = [row for row in rows if row["direction"] == direction]
        table[direction] = {"num_items": len(chosen)}
        for normalisation in NORMALISATIONS:
            values = item_credits(chosen, normalisation)
            low, high = bootstrap_interval(values, num_samples, seed)
            table[direction][normalisation] = {"accuracy": float(values.mean()), "low": low, "high": high}
    return table
