"""Packs documents into rows of a fixed number of patches, as full as the buffer allows; cuts long documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lst.model.batch import SPEECH, TEXT, Document, Patches


def fill_rows(sizes: list[int], capacity: int, num_rows: int) -> list[list[int]]:
    """Fills ``num_rows`` rows with items, each as full as these items allow.

    Each row starts with the oldest item, so that no item waits for ever. The others are the subset that leaves the
    least space; of equal subsets, the one with the older items. (Subset sum over a bit set: bit s is set if size s can
    be reached.)

    Args:
        sizes: of the items, oldest first, each 1 to ``capacity``.
        capacity: of a row.
        num_rows: rows to fill; fewer are returned if there are too few items.

    Returns:
        Indices of the items of each row.

    >>> fill_rows([5, 4, 3, 6, 5], capacity=10, num_rows=2)
    [[0, 4], [1, 3]]
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
            # The row can be full: younger items are not needed.
            if reachable[-1] >> left:
                break
        target = reachable[-1].bit_length() - 1
        row = []
        for place in range(len(reachable) - 1, 0, -1):
            # An item is left out if the target can be reached without it: this leaves out the younger ones.
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
    """Fills the space that is left in rows with the first part of a waiting item.

    Args:
        rows: from ``fill_rows`` for these sizes, each at most ``capacity``.
        sizes: of all items, oldest first, uncut.
        capacity: of a row.
        least_piece: rows with less space left are not changed.

    Returns:
        (index, size taken) of the items of each row.

    >>> top_up_rows([[0]], sizes=[7, 9], capacity=10, least_piece=2)
    [[(0, 7), (1, 3)]]
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
    """The first ``max_patches`` patches of a document.

    The last token still predicts the token that follows. ``rest_of_document`` gives the other part.
    """
    num_tokens = int(patches.lengths[:max_patches].sum())
    piece = replace(
        _tokens_between(document, 0, num_tokens),
        final_target_id=int(document.token_ids[num_tokens]),
        final_target_modality=int(document.modalities[num_tokens]),
    )
    return piece, Patches(patches.lengths[:max_patches], patches.closes_late[:max_patches])


def rest_of_document(document: Document, first_token: int, markers: dict[int, int], special_ids: set[int]) -> Document:
    """The part of a document from ``first_token`` on, as a document.

    Args:
        document: the whole document.
        first_token: start of the rest; 0 gives the whole document.
        markers: the marker id of each modality. A rest that begins inside a span starts with the span's marker.
        special_ids: ids that need no marker before them: the markers and ``<eos>``.
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
    """Tokens ``first_token`` … ``last_token`` (exclusive) with their segments and entropies; segments are cut."""
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
