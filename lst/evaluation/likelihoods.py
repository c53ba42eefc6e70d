"""Log-likelihoods of the endings of items, in every direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lst.data.documents.interleave import DocumentPart, Span
from lst.evaluation.items import Item, Part
from lst.evaluation.results import ItemRow
from lst.evaluation.scorer import Scorer
from lst.model.batch import SPEECH, TEXT, Document

DIRECTIONS = ("S→S", "T→T", "S→T", "T→S")
# Items whose documents are held in memory together.
ITEMS_A_CHUNK = 64


def score_items(
    scorer: Scorer, items: Sequence[Item], advance: Callable[[int], None] = lambda _: None
) -> list[ItemRow]:
    """Scores every ending of every item in every direction; a row for each, in the order of the items.

    Three documents give a row's numbers: the ending after its context, after the other context, and without context.

    Args:
        scorer: the model.
        items: their utterances have words; for directions with speech, units.
        advance: is told how many items were scored.
    """
    rows: list[ItemRow] = []
    for start in range(0, len(items), ITEMS_A_CHUNK):
        chunk = items[start : start + ITEMS_A_CHUNK]
        rows += _score_chunk(scorer, chunk)
        advance(len(chunk))
    order = {item.id: place for place, item in enumerate(items)}
    return sorted(rows, key=lambda row: (order[row["item"]], DIRECTIONS.index(row["direction"]), row["ending"]))


def _score_chunk(scorer: Scorer, items: Sequence[Item]) -> list[ItemRow]:
    documents: list[tuple[Document, slice]] = []
    # Where the score of (item, context or None, its modality, ending, its modality) is.
    places: dict[tuple[int, int | None, int, int, int], int] = {}
    for number, item in enumerate(items):
        for modality in (SPEECH, TEXT):
            for ending in range(len(item.endings)):
                places[number, None, modality, ending, modality] = len(documents)
                documents.append(scored_document(scorer, item.id, None, (item.endings[ending], modality)))
                for index, context in enumerate((item.context, item.other_context)):
                    for other in (SPEECH, TEXT):
                        places[number, index, other, ending, modality] = len(documents)
                        documents.append(
                            scored_document(scorer, item.id, (context, other), (item.endings[ending], modality))
                        )
    scores = scorer.score(documents)
    rows: list[ItemRow] = []
    for number, item in enumerate(items):
        for direction in DIRECTIONS:
            before, after = (SPEECH if letter == "S" else TEXT for letter in direction.split("→"))
            for ending, part in enumerate(item.endings):
                own, swapped = (scores[places[number, index, before, ending, after]] for index in (0, 1))
                alone = scores[places[number, None, after, ending, after]]
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
                        "num_bytes": len(part.text.encode()),
                    }
                )
    return rows


def scored_document(
    scorer: Scorer, name: str, context: tuple[Part, int] | None, ending: tuple[Part, int]
) -> tuple[Document, slice]:
    """A document of a context (or none) and an ending, each in a modality, and the range of the ending's tokens.

    Markers and ``<eos>`` are not scored.
    """
    parts = [_part(scorer, *item) for item in (context, ending) if item is not None]
    document = scorer.builder.document(name, parts, end=False)
    num_tokens = _num_new_tokens(document, parts)
    return document, slice(len(document) - num_tokens, len(document))


def _part(scorer: Scorer, part: Part, modality: int) -> DocumentPart:
    return scorer.builder.span_part(part.utterance, Span(modality, part.first_word, part.last_word))


def _num_new_tokens(document: Document, parts: Sequence[DocumentPart]) -> int:
    """Tokens of the last part in the document: a deduplicated unit may have been joined to the part before."""
    before = sum(len(part.token_ids) for part in parts[:-1])
    num_markers = 1 + int(len(parts) == 2 and parts[0].modality != parts[1].modality)
    return len(document) - 1 - num_markers - before
