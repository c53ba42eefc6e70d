"""Cloze on held-out utterances: the true ending against another utterance's, in four directions.

The context ends where the last sentence starts, or after a share of the words if the corpus has no sentences. Context
and ending are each spoken or written: S→S, T→T, S→T, T→S. A model is right if it gives the true ending the higher
log-likelihood given the context; a tie counts one half. Log-likelihoods are summed, and also averaged over tokens,
because a sum favours short endings. Markers and ``<eos>`` are not scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lst.configs.eval_schema import EvalConfig
from lst.data.documents import DocumentBuilder, document_generator
from lst.data.documents.interleave import Span
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.results import DIRECTIONS, Accuracy, ClozeRow, ClozeScore
from lst.evaluation.scorer import Scorer
from lst.model.batch import SPEECH, TEXT, Document

_DISTRACTOR_EPOCH = 0xC102E


@dataclass(frozen=True)
class ClozeItem:
    """A context with a true and a false ending.

    Attributes:
        utterance: gives context and true ending.
        ending_start: index of the true ending's first word.
        other: gives the false ending.
        other_ending_start: index of the false ending's first word.
    """

    utterance: Utterance
    ending_start: int
    other: Utterance
    other_ending_start: int


def cloze_items(utterances: Sequence[Utterance], config: EvalConfig, seed: int) -> list[ClozeItem]:
    """Pairs each utterance with the ending of another one, of the same speaker if possible.

    A speaker's utterances are shuffled into a circle, and each takes the ending of the next. Every ending is thus true
    once and false once: a model gains nothing by preferring some endings whatever their context.

    Returns:
        The items; none where there are utterances, and none of them has words.

    Raises:
        UserError: fewer than two utterances are long enough.
    """
    usable = [utterance for utterance in utterances if len(utterance.words) >= config.min_words]
    if 0 < config.max_items < len(usable):
        # Drawn before pairing, so that endings stay balanced, and from all speakers.
        order = document_generator(seed, _DISTRACTOR_EPOCH, "items").permutation(len(usable))
        usable = [usable[index] for index in sorted(order[: config.max_items])]
    starts = {utterance.id: ending_start(utterance, config.context_share) for utterance in usable}
    endings = {utterance.id: _ending_text(utterance, starts[utterance.id]) for utterance in usable}
    everyone = _shuffled(usable, seed, "")
    by_speaker = {
        speaker: _shuffled([u for u in usable if u.speaker == speaker], seed, speaker)
        for speaker in {utterance.speaker for utterance in usable}
    }
    items: list[ClozeItem] = []
    for utterance in usable:
        circles = (by_speaker[utterance.speaker], everyone)
        others = (_next_in_circle(circle, utterance, endings) for circle in circles)
        if other := next(filter(None, others), None):
            items.append(ClozeItem(utterance, starts[utterance.id], other, starts[other.id]))
    is_speech_alone = bool(utterances) and not any(utterance.words for utterance in utterances)
    if not items and not is_speech_alone:
        raise UserError(
            f"cloze needs two held-out utterances of eval.min_words={config.min_words} words or more with different "
            f"endings; there are {len(usable)} long enough: hold out more with data.valid_share"
        )
    return items


def _shuffled(utterances: Sequence[Utterance], seed: int, name: str) -> list[Utterance]:
    order = document_generator(seed, _DISTRACTOR_EPOCH, name).permutation(len(utterances))
    return [utterances[index] for index in order]


def _next_in_circle(circle: list[Utterance], utterance: Utterance, endings: dict[str, str]) -> Utterance | None:
    """The next utterance with a different ending; None if all endings are equal."""
    place = next(index for index, other in enumerate(circle) if other.id == utterance.id)
    others = circle[place + 1 :] + circle[:place]
    return next((other for other in others if endings[other.id] != endings[utterance.id]), None)


def ending_start(utterance: Utterance, context_share: float) -> int:
    """Index of the ending's first word. Context and ending have at least one word each."""
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
    scorer: Scorer, items: Sequence[ClozeItem], advance: Callable[[int], None] = lambda _: None
) -> list[ClozeRow]:
    """Scores every item in every direction; a row for each. ``advance`` is told how many rows were scored."""
    rows: list[ClozeRow] = []
    for direction in DIRECTIONS:
        documents = [cloze_document(scorer.builder, item, direction, true) for item in items for true in (True, False)]
        scores = scorer.score(documents)
        rows += [
            {
                "utterance": item.utterance.id,
                "other": item.other.id,
                "direction": direction,
                "true_nats": true.sum_nats,
                "true_tokens": true.num_tokens,
                "false_nats": false.sum_nats,
                "false_tokens": false.num_tokens,
            }
            for item, true, false in zip(items, scores[::2], scores[1::2], strict=True)
        ]
        advance(len(items))
    return rows


def item_credits(rows: Sequence[Mapping[str, object]], normalisation: str) -> np.ndarray:
    """1 for each row in which the true ending scores higher, ½ for a tie or no token, 0 otherwise: float [rows].

    Args:
        rows: each a ``ClozeRow``.
        normalisation: ``sum`` or ``mean`` of the log-likelihoods of an ending's tokens.
    """
    true, false = (np.array([row[key] for row in rows]) for key in ("true_nats", "false_nats"))
    true_tokens, false_tokens = (np.array([row[key] for row in rows]) for key in ("true_tokens", "false_tokens"))
    if normalisation == "mean":
        true, false = true / np.maximum(true_tokens, 1), false / np.maximum(false_tokens, 1)
    # An ending has no token if all its units repeat the last unit of the context: nothing can be said of it.
    is_empty = np.minimum(true_tokens, false_tokens) == 0
    return np.where((true == false) | is_empty, 0.5, (true > false).astype(float))


def bootstrap_interval(values: np.ndarray, num_samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling items."""
    generator = np.random.default_rng([0xB007, seed])
    means = values[generator.integers(len(values), size=(num_samples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def cloze_accuracies(rows: Sequence[ClozeRow], num_samples: int, seed: int) -> dict[str, ClozeScore]:
    """Accuracies by direction, with intervals from ``num_samples`` resamples."""
    table: dict[str, ClozeScore] = {}
    for direction in DIRECTIONS:
        chosen = [row for row in rows if row["direction"] == direction]
        summed, mean = (
            _accuracy(item_credits(chosen, normalisation), num_samples, seed) for normalisation in ("sum", "mean")
        )
        table[direction] = {"num_items": len(chosen), "sum": summed, "mean": mean}
    return table


def _accuracy(values: np.ndarray, num_samples: int, seed: int) -> Accuracy:
    low, high = bootstrap_interval(values, num_samples, seed)
    return {"accuracy": float(values.mean()), "low": low, "high": high}
