"""Sorts rows by their ids, which lie in memory one behind another: each takes as many bytes as it has, and eight."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# Characters that are compared at a time.
_WINDOW = 8


class PackedIds(Sequence[str]):
    """Ids of any number; ids can be added.

    >>> ids = PackedIds(["utterance-10", "b", "utterance-1"])
    >>> [ids[number] for number in ids.order(np.arange(3)).tolist()]
    ['b', 'utterance-1', 'utterance-10']
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._content, self._ends = bytearray(), array("Q", [0])
        for name in ids:
            self.add(name)

    def add(self, name: str) -> None:
        """Adds the id of the next row."""
        self._content += name.encode()
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        return self._content[self._ends[number] : self._ends[number + 1]].decode()

    def order(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers of some rows in the order of their ids; those with the same id stay as they are.

        Windows of the ids are compared from left to right, each among those rows alone that are equal so far.
        """
        found = numbers.astype(np.uint32)
        tied, groups = np.arange(len(found), dtype=np.uint32), np.zeros(len(found), np.uint32)
        offset = 0
        while len(tied):
            own = found[tied]
            keys = self._windows(own, offset)
            order = np.lexsort((keys, groups)).astype(np.uint32)
            found[tied] = own[order]
            keys = keys[order]
            is_same = (keys[1:] == keys[:-1]) & (groups[1:] == groups[:-1])
            groups = np.append(0, np.cumsum(~is_same)).astype(np.uint32)
            # Where the last byte is none, the ids have ended, and are the same.
            is_open = (keys & np.uint64(0xFF)) != 0
            is_tied = is_open & (np.append(is_same, False) | np.append(False, is_same))
            tied, groups, offset = tied[is_tied], groups[is_tied], offset + _WINDOW
        return found

    def _windows(self, numbers: np.ndarray, offset: int) -> np.ndarray:
        """uint64 [num_rows]: characters from ``offset`` on as a number that sorts as they do; 0 behind the end."""
        content, ends = np.frombuffer(self._content, np.uint8), np.frombuffer(self._ends, np.uint64)
        places, stops = ends[numbers] + np.uint64(offset), ends[numbers + 1]
        keys = np.zeros(len(numbers), np.uint64)
        for _ in range(_WINDOW):
            keys <<= np.uint64(8)
            is_there = places < stops
            keys[is_there] |= content[places[is_there]]
            places += np.uint64(1)
        return keys
