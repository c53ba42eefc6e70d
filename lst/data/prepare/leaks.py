"""Recordings that are held out and trained on as well: copies of a file, in one corpus or in several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from lst.data.corpora import ManifestRow


def leaks(rows: Sequence[ManifestRow], hashes: np.ndarray) -> Iterator[tuple[ManifestRow, ManifestRow]]:
    """Pairs of a held-out utterance and one for training with audio of the same content.

    Segments of one file are such a pair where their times overlap.

    Args:
        rows: with their splits.
        hashes: uint8 [num_rows, 32], of the content of each row's file.
    """
    if not len(rows):
        return
    # Eight bytes tell files apart; all 0 stand for one that cannot be read.
    keys = np.ascontiguousarray(hashes[:, :8]).view(np.uint64).reshape(-1)
    _, files, num_rows = np.unique(keys, return_inverse=True, return_counts=True)
    if num_rows.max() == 1:
        return
    is_valid = np.array([row.split == "valid" for row in rows])
    counts = np.bincount(files), np.bincount(files, weights=is_valid)
    is_mixed = (counts[1] > 0) & (counts[1] < counts[0])
    chosen = np.flatnonzero(is_mixed[files] & (keys != 0)).tolist()
    chosen.sort(key=lambda number: (files[number], rows[number].start_s))
    for _, group in groupby(chosen, key=lambda number: files[number]):
        open_rows: list[ManifestRow] = []
        for row in (rows[number] for number in group):
            open_rows = [one for one in open_rows if _end_s(one) > row.start_s]
            for one in open_rows:
                is_pair = (one.split == "valid") != (row.split == "valid")
                if is_pair and (one.channel == row.channel or None in (one.channel, row.channel)):
                    yield (one, row) if one.split == "valid" else (row, one)
                    break
            open_rows.append(row)


def _end_s(row: ManifestRow) -> float:
    return math.inf if row.duration_s is None else row.start_s + row.duration_s


def leaks_text(rows: Sequence[ManifestRow], hashes: np.ndarray) -> str:
    """One line about these pairs; empty where there is none."""
    found = list(leaks(rows, hashes))
    if not found:
        return ""
    pairs = [f"{_named(held_out)} is {_named(trained)}" for held_out, trained in found[:3]]
    return (
        f"{len(found):,} held-out recordings are trained on as well: {', '.join(pairs)}{', …' * (len(found) > 3)}. "
        "Take one of each out of its corpus: scores on them say nothing"
    )


def _named(row: ManifestRow) -> str:
    return f"{row.id} of {row.provenance.corpus}" if row.provenance.corpus else row.id
