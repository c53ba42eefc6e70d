"""What a model cannot read of held-out data: found before scoring, listed with its reason, and left out.

::

    utterances ──usable_utterances──▶ those of which speech and text fit the model, and the list of the others
    items ──usable_items──▶ those of which all eight documents fit, and the list of the others
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lst.data.shards import LeftOut
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.bits import content_of
from lst.evaluation.cloze import DIRECTIONS, ClozeItem, cloze_document
from lst.evaluation.items import Item
from lst.evaluation.likelihoods import item_documents
from lst.evaluation.results import Direction
from lst.evaluation.scorer import Scorer
from lst.model.batch import Document

Thing = TypeVar("Thing")
Ranges = list[tuple[Document, slice]]


def usable_utterances(scorer: Scorer, utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[LeftOut]]:
    """Utterances whose speech and text, if any, the model reads and scores, and a line for each of the others."""
    builder = scorer.builder
    return _usable(
        scorer,
        utterances,
        lambda utterance: [
            content_of(builder.speech(utterance)),
            *([content_of(builder.text(utterance))] if utterance.text else []),
        ],
        lambda utterance: utterance.id,
    )


def usable_items(scorer: Scorer, items: Sequence[ClozeItem]) -> tuple[list[ClozeItem], list[LeftOut]]:
    """Cloze items whose documents the model reads and scores in every direction, and a line for each of the others."""
    return _usable(
        scorer,
        items,
        lambda item: [
            cloze_document(scorer.builder, item, direction, true) for direction in DIRECTIONS for true in (True, False)
        ],
        lambda item: f"{item.utterance.id} with the ending of {item.other.id}",
    )


def usable_questions(
    scorer: Scorer, items: Sequence[Item], directions: Sequence[Direction] = DIRECTIONS
) -> tuple[list[Item], list[LeftOut]]:
    """Questions whose documents the model reads and scores in every direction, and a line for each of the others."""
    return _usable(scorer, items, lambda item: item_documents(scorer.builder, item, directions), lambda item: item.id)


def usable_pairs(scorer: Scorer, utterances: Sequence[Utterance], task: str) -> tuple[list[Utterance], list[LeftOut]]:
    """Utterances whose document of ``asr`` or ``tts`` the model reads whole, and a line for each of the others."""
    return _usable(
        scorer,
        utterances,
        lambda utterance: [content_of(scorer.builder.adapted(utterance, task))],
        lambda utterance: utterance.id,
    )


def _usable(
    scorer: Scorer, things: Sequence[Thing], documents_of: Callable[[Thing], Ranges], name_of: Callable[[Thing], str]
) -> tuple[list[Thing], list[LeftOut]]:
    kept: list[Thing] = []
    left_out: list[LeftOut] = []
    for thing in things:
        try:
            fault = next(filter(None, map(scorer.fault, documents_of(thing))), "")
        except UserError as error:
            fault = str(error)
        if fault:
            left_out.append({"id": name_of(thing), "reason": fault})
        else:
            kept.append(thing)
    return kept, left_out
