"""Hashes of the audio of all rows: processes look at the files, and read those that were touched.

::

    rows ──_marks_of──▶ a key of each file, by path, size, time and inode ──known?──▶ its hash
                                                        no: ──_hash_files──▶ the file is read
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lst.data.audio.content import HASH_BYTES, KEY_BYTES, AudioHashes, file_key, hash_file
from lst.data.corpora.row_table import RowTable, name_key, rows_of
from lst.parallel import ordered_map
from lst.progress import Progress

# Rows, or files, that one worker takes together.
MARKED_TOGETHER, HASHED_TOGETHER = 512, 64


class HashedRows(NamedTuple):
    """What is known of the audio of each row.

    Attributes:
        files: uint32 [num_rows], which of the files each row has.
        table: the hashes of these files, for the next run.
        places: uint64 [num_rows], ``name_key`` of the path of a local file; 0 for a URL.
        are_held_out: bool [num_rows], whether the row is of the split ``valid``.
    """

    files: np.ndarray
    table: AudioHashes
    places: np.ndarray
    are_held_out: np.ndarray

    def of(self, number: int) -> bytes:
        """The hash of a row's file."""
        return bytes(self.table.hashes[self.files[number]].tobytes())


def hash_audio(rows: RowTable, known: AudioHashes, listed: Mapping[str, str], num_workers: int) -> HashedRows:
    """The hash of each row's audio file.

    Args:
        rows: whose files are there; rows of one file best follow one another.
        known: hashes of earlier runs.
        listed: what is known of URLs that were listed, size and tag, by ``bare_url``.
        num_workers: processes that read files; the hashes do not depend on it.
    """
    row_keys, places, are_held_out = _marks(rows, listed, num_workers)
    keys, first_rows, files = distinct(row_keys)
    del row_keys
    found = known.places_of(keys)
    hashes = known.hashes[found] if len(known.keys) else np.zeros((len(keys), HASH_BYTES), np.uint8)
    new = np.flatnonzero(found < 0)
    new = new[np.argsort(first_rows[new])]  # in the order of rows, which lie side by side
    parts = [new[start : start + HASHED_TOGETHER] for start in range(0, len(new), HASHED_TOGETHER)]
    jobs = (b"".join(map(rows.line, first_rows[part].tolist())) for part in parts)
    with Progress(len(keys), "hashes of audio", unit="file", initial=len(keys) - len(new)) as progress:
        for part, content in zip(
            parts, ordered_map(partial(_hash_files, listed), jobs, _alone(listed, num_workers)), strict=True
        ):
            hashes[part] = np.frombuffer(content, np.uint8).reshape(-1, HASH_BYTES)
            progress.advance(len(part))
    return HashedRows(files, AudioHashes(keys, hashes), places, are_held_out)


def _alone(listed: Mapping[str, str], num_workers: int) -> int:
    """One process for audio behind URLs: of it nothing is read, and the listing may be large."""
    return 1 if listed else num_workers


def _marks(rows: RowTable, listed: Mapping[str, str], num_workers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``file_key`` of each row, and ``HashedRows.places`` and ``are_held_out``."""
    keys, places, are_held_out = bytearray(), array("Q"), bytearray()
    contents = rows.contents(MARKED_TOGETHER)
    for own_keys, own_places, own_held_out in ordered_map(
        partial(_marks_of, listed), contents, _alone(listed, num_workers)
    ):
        keys += own_keys
        places.extend(own_places)
        are_held_out += own_held_out
    # Copies, as the buffers may be larger.
    return (
        np.array(np.frombuffer(keys, f"S{KEY_BYTES}")),
        np.array(places, np.uint64),
        np.array(np.frombuffer(are_held_out, bool)),
    )


def _marks_of(listed: Mapping[str, str], content: bytes) -> tuple[bytes, array[int], bytes]:
    rows, keys, places = rows_of(content), bytearray(), array("Q")
    for (path, member), group in groupby(rows, key=lambda row: (row.path, row.member)):
        num_rows = sum(1 for _ in group)
        keys += file_key(path, member, listed) * num_rows
        places.extend([name_key(str(path)) if isinstance(path, Path) else 0] * num_rows)
    return bytes(keys), places, bytes(row.split == "valid" for row in rows)


def _hash_files(listed: Mapping[str, str], content: bytes) -> bytes:
    return b"".join(hash_file(row.path, row.member, listed) for row in rows_of(content))


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different keys in order, where each comes first, and which of them each one is; in less memory than NumPy.

    >>> [found.tolist() for found in distinct(np.array([5, 3, 5]))]
    [[3, 5], [1, 0], [1, 0, 1]]
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(keys), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    numbers = np.empty(len(keys), np.uint32)
    numbers[order] = np.cumsum(is_first, dtype=np.uint32) - np.uint32(1)
    return ordered[is_first], order[is_first].astype(np.uint32), numbers
