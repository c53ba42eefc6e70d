"""Recordings that are held out and trained on as well: copies of a file, in one corpus or in several."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np

from lst.data.corpora import ManifestRow
from lst.data.prepare.hashing import HashedRows, distinct


def leaks(rows: Sequence[ManifestRow], hashes: np.ndarray) -> Iterator[tuple[ManifestRow, ManifestRow]]:
    """Each held-out utterance with audio that is trained on as well, and one of those for training.

    Segments of one file are such a pair where their times overlap.

    Args:
        rows: with their splits.
        hashes: uint8 [num_rows, 32], of the content of each row's file.
    """
    is_valid = np.fromiter((row.split == "valid" for row in rows), bool, len(rows))
    for held_out, trained in _pairs(rows, hashes, is_valid):
        yield rows[held_out], rows[trained]


def _pairs(rows: Sequence[ManifestRow], hashes: np.ndarray, is_valid: np.ndarray) -> Iterator[tuple[int, int]]:
    """The numbers of these pairs. Of rows whose audio is on one side alone nothing is read."""
    # Eight bytes tell files apart; all 0 stand for one that cannot be read.
    keys = np.ascontiguousarray(hashes[:, :8]).view(np.uint64).reshape(-1)
    found, _, files = distinct(keys)
    if len(found) == len(keys) or not is_valid.any():
        return
    counts = np.bincount(files), np.bincount(files[is_valid], minlength=len(found))
    is_mixed = (counts[1] > 0) & (counts[1] < counts[0])
    chosen = np.flatnonzero(is_mixed[files] & (keys != 0)).astype(np.uint32)
    chosen = chosen[np.argsort(files[chosen], kind="stable")]
    for _, group in groupby(map(int, chosen), key=lambda number: int(files[number])):
        held_out, trained = list[tuple[int | None, _Span]](), defaultdict[int | None, list[_Span]](list)
        for number in group:
            row = rows[number]
            span = _Span(row.start_s, _end_s(row), number)
            if row.split == "valid":
                held_out.append((row.channel, span))
            else:
                trained[row.channel].append(span)
        sorted_spans = {channel: sorted(spans) for channel, spans in trained.items()}
        longest = {channel: list(accumulate(spans, _later_end)) for channel, spans in sorted_spans.items()}
        for channel, span in held_out:
            for other in longest:
                if other == channel or None in (other, channel):
                    num_before = bisect_left(sorted_spans[other], (span.end_s,))
                    if num_before and longest[other][num_before - 1].end_s > span.start_s:
                        yield span.number, longest[other][num_before - 1].number
                        break


class _Span(NamedTuple):
    """The part of a file that a row is."""

    start_s: float
    end_s: float
    number: int


def _later_end(first: _Span, second: _Span) -> _Span:
    return first if first.end_s >= second.end_s else second


def _end_s(row: ManifestRow) -> float:
    return math.inf if row.duration_s is None else row.start_s + row.duration_s


def leaks_text(rows: Sequence[ManifestRow], audio: HashedRows) -> str:
    """One line about these pairs; empty where there is none."""
    num_found, pairs = 0, list[str]()
    for held_out, trained in _pairs(rows, audio.table.hashes[:, :8][audio.files], audio.are_held_out):
        num_found += 1
        if num_found <= 3:
            pairs.append(f"{_named(rows[held_out])} is {_named(rows[trained])}")
    if not num_found:
        return ""
    return (
        f"{num_found:,} held-out recordings are trained on as well: {', '.join(pairs)}{', …' * (num_found > 3)}. "
        "Take one of each out of its corpus: scores on them say nothing"
    )


def _named(row: ManifestRow) -> str:
    return f"{row.id} of {row.provenance.corpus}" if row.provenance.corpus else row.id
