"""Documents into rows of a fixed number of patches: the fullest that a buffer allows, long documents in pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lst.model.batch import SPEECH, TEXT, Document, Patches


def fill_rows(sizes: list[int], capacity: int, num_rows: int) -> list[list[int]]:
    """Fills ``num_rows`` rows with items as full as these items allow.

    The oldest item opens a row, so that none waits for ever; the others are the subset that leaves least space, older
    items first among equals (subset sum over a bit set: bit s says that size s can be reached).

    Args:
        sizes: of the items, oldest first, each 1 to ``capacity``.
        capacity: of a row.
        num_rows: rows to fill; fewer come back when the items run out.

    Returns:
        Indices of the items of each row.
    """
    waiting = list(range(len(sizes)))
    rows: list[list[int]] = []
    while len(rows) < num_rows and waiting:
        opener, *others = waiting
        left = capacity - sizes[opener]
        fits = (1 << (left + 1)) - 1
        reachable = [1]
        for index in others:
            reachable.append((reachable[-1] | reachable[-1] << sizes[index]) & fits)
            # Full already: younger items would be left out below.
            if reachable[-1] >> left:
                break
        target = reachable[-1].bit_length() - 1
        row = []
        for place in range(len(reachable) - 1, 0, -1):
            # Left out where the rest can be reached without it: that spares the younger items.
            if not reachable[place - 1] >> target & 1:
                row.append(others[place - 1])
                target -= sizes[others[place - 1]]
        rows.append([opener, *reversed(row)])
        taken = set(rows[-1])
        waiting = [index for index in waiting if index not in taken]
    return rows


def top_up_rows(
    rows: list[list[int]], sizes: list[int], capacity: int, least_piece: int
) -> list[list[tuple[int, int]]]:
    """Fills what rows have left with the first part of a waiting item, where that is worth a cut.

    Args:
        rows: as ``fill_rows`` gives them for the sizes, each at most ``capacity``.
        sizes: of all items, oldest first, uncut.
        capacity: of a row.
        least_piece: a row with less left stays as it is.

    Returns:
        (index, size taken) of the items of each row.
    """
    taken = {index for row in rows for index in row}
    filled = []
    for row in rows:
        parts = [(index, min(sizes[index], capacity)) for index in row]
        left = capacity - sum(size for _, size in parts)
        if left >= least_piece:
            waiting = (index for index, size in enumerate(sizes) if size > left and index not in taken)
            if (index := next(waiting, None)) is not None:
                parts.append((index, left))
                taken.add(index)
        filled.append(parts)
    return filled


def cut_document(document: Document, patches: Patches, max_patches: int) -> tuple[Document, Patches]:
    """The first ``max_patches`` patches of a document that has more than a row holds.

    Its last token still predicts the token that follows; ``rest_of_document`` is the other part.
    """
    num_tokens = int(patches.lengths[:max_patches].sum())
    piece = replace(
        _tokens_between(document, 0, num_tokens),
        final_target_id=int(document.token_ids[num_tokens]),
        final_target_modality=int(document.modalities[num_tokens]),
    )
    return piece, Patches(patches.lengths[:max_patches], patches.closes_late[:max_patches])


def rest_of_document(document: Document, first_token: int, markers: dict[int, int], special_ids: set[int]) -> Document:
    """What begins at ``first_token`` of a document, as a document of its own.

    Args:
        document: the whole.
        first_token: where the rest begins; 0 gives the whole document.
        markers: the marker id of each modality. A rest that begins inside a span is opened by the span's marker.
        special_ids: ids that need no marker before them: markers themselves and the end.
    """
    if first_token == 0:
        return document
    rest = _tokens_between(document, first_token, len(document))
    if int(rest.token_ids[0]) in special_ids:
        return rest
    return replace(
        rest,
        token_ids=np.append(np.int32(markers[int(rest.modalities[0])]), rest.token_ids),
        modalities=np.append(np.uint8(TEXT), rest.modalities),
    )


def _tokens_between(document: Document, first_token: int, last_token: int) -> Document:
    """Some of the tokens, with what belongs to them; a segment is cut where a boundary falls inside it."""
    spoken = np.cumsum(document.modalities == SPEECH)
    before = int(spoken[first_token - 1]) if first_token else 0
    after = int(spoken[last_token - 1]) if last_token else 0
    ends = np.cumsum(document.segment_lengths)
    lengths = np.minimum(ends, after) - np.maximum(ends - document.segment_lengths, before)
    kept = lengths > 0
    return replace(
        document,
        token_ids=document.token_ids[first_token:last_token],
        modalities=document.modalities[first_token:last_token],
        segment_lengths=lengths[kept].astype(np.int32),
        segment_is_silence=document.segment_is_silence[kept],
        entropies=document.entropies[before:after],
    )
