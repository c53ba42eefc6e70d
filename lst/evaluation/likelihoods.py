"""Log-likelihoods of the endings of items, in every direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lst.data.documents import DocumentBuilder
from lst.data.documents.interleave import DocumentPart, Span
from lst.evaluation.items import Item, Part
from lst.evaluation.results import DIRECTIONS, Direction, ItemRow
from lst.evaluation.scorer import Scorer
from lst.model.batch import SPEECH, TEXT, Document

# Items whose documents are held in memory together.
ITEMS_A_CHUNK = 64


def score_items(
    scorer: Scorer,
    items: Sequence[Item],
    advance: Callable[[int], None] = lambda _: None,
    directions: Sequence[Direction] = DIRECTIONS,
) -> list[ItemRow]:
    """Scores every ending of every item in every direction; a row for each, in the order of the items.

    Three documents give a row's numbers: the ending after its context, after the other context, and without context.
    Endings of one context share its computation.

    Args:
        scorer: the model.
        items: their utterances have words; for directions with speech, units.
        advance: is told how many items were scored.
        directions: of ``DIRECTIONS``.
    """
    rows: list[ItemRow] = []
    for start in range(0, len(items), ITEMS_A_CHUNK):
        chunk = items[start : start + ITEMS_A_CHUNK]
        rows += _score_chunk(scorer, chunk, directions)
        advance(len(chunk))
    return rows


class _Documents:
    """The documents of a chunk of items, each once.

    A document is named by item, context (0 the own one, 1 the other, None without), ending and their modalities.
    """

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._parts: dict[tuple[str, int, int, int], DocumentPart] = {}
        self.places: dict[tuple[int, int | None, int, int, int], int] = {}
        self.documents: list[tuple[Document, slice]] = []

    def add(self, number: int, item: Item, context: int | None, ending: int, modalities: tuple[int, int]) -> None:
        """Adds a document unless it is there."""
        # Without a context, its modality does not matter.
        name = (number, context, ending, -1 if context is None else modalities[0], modalities[1])
        if name in self.places:
            return
        before = [] if context is None else [(item.context, item.other_context)[context]]
        parts = [self._part(part, modalities[0]) for part in before if not part.is_nothing]
        self.places[name] = len(self.documents)
        self.documents.append(
            scored_document(self._builder, item.id, [*parts, self._part(item.endings[ending], modalities[1])])
        )

    def place(self, number: int, context: int | None, ending: int, modalities: tuple[int, int]) -> int:
        """Index of a document."""
        return self.places[number, context, ending, -1 if context is None else modalities[0], modalities[1]]

    def _part(self, part: Part, modality: int) -> DocumentPart:
        key = (part.utterance.id, part.first_word, part.last_word, modality)
        if key not in self._parts:
            span = Span(modality, part.first_word, part.last_word)
            self._parts[key] = self._builder.span_part(part.utterance, span)
        return self._parts[key]


def _score_chunk(scorer: Scorer, items: Sequence[Item], directions: Sequence[Direction]) -> list[ItemRow]:
    documents = _documents(scorer.builder, items, directions)
    wanted = [
        (number, direction, ending)
        for number, item in enumerate(items)
        for direction in directions
        for ending in range(len(item.endings))
    ]
    scores = scorer.score(documents.documents)
    rows: list[ItemRow] = []
    for number, direction, ending in wanted:
        item = items[number]
        own, swapped, alone = (
            scores[documents.place(number, context, ending, _modalities(direction))] for context in (0, 1, None)
        )
        rows.append(
            {
                "item": item.id,
                "stratum": item.stratum,
                "direction": direction,
                "ending": ending,
                "is_true": ending == item.label,
                "nats": own.sum_nats,
                "swapped_nats": swapped.sum_nats,
                "alone_nats": alone.sum_nats,
                "num_tokens": own.num_tokens,
                "num_bytes": len(item.endings[ending].text.encode()),
            }
        )
    return rows


def item_documents(
    builder: DocumentBuilder, item: Item, directions: Sequence[Direction] = DIRECTIONS
) -> list[tuple[Document, slice]]:
    """All documents that give an item's scores, each with the range of its ending."""
    return _documents(builder, [item], directions).documents


def _documents(builder: DocumentBuilder, items: Sequence[Item], directions: Sequence[Direction]) -> _Documents:
    documents = _Documents(builder)
    for number, item in enumerate(items):
        for direction in directions:
            for ending in range(len(item.endings)):
                for context in (0, 1, None):
                    documents.add(number, item, context, ending, _modalities(direction))
    return documents


def _modalities(direction: str) -> tuple[int, int]:
    context, ending = (SPEECH if letter == "S" else TEXT for letter in direction.split("→"))
    return context, ending


def scored_document(builder: DocumentBuilder, name: str, parts: Sequence[DocumentPart]) -> tuple[Document, slice]:
    """A document of a context and an ending, or of an ending alone, and the range of the ending's tokens.

    Markers and ``<eos>`` are not scored. Of deduplicated units, a first one that repeats the context's last is no token
    of the ending.
    """
    document = builder.document(name, list(parts), end=False)
    num_markers = len({part.modality for part in parts})
    before = 1 + num_markers + sum(len(part.token_ids) for part in parts[:-1])
    return document, slice(before, len(document))
