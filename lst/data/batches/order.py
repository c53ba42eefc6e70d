"""The order of a pass over a source: a shuffle that is computed, not stored.

A pseudo-random permutation of 0 … n−1 (a Feistel network over a grid of a × b ≥ n places with cycle walking) needs no
memory and no time before the first item, and every place costs the same. The order is uniform, so a pass reads from all
shards at the same time. If that is slow (shards behind a network), only ``window`` shards are shuffled together: the
shards are put in a random order, taken ``window`` at a time, and the items of these shards are shuffled. A pass then
reads from ``window`` shards at a time, and reads each shard once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Four rounds are proven to suffice for large grids (Luby and Rackoff 1988); a grid may be as small as 2 × 2.
NUM_ROUNDS = 12
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Shuffle:
    """A pseudo-random permutation of 0 … ``num_items`` − 1.

    Args:
        num_items: one or more.
        seed: numbers from 0 to 2⁶⁴ − 1.

    >>> Shuffle(6, seed=[0])[np.arange(6)].tolist()
    [4, 1, 2, 5, 0, 3]
    """

    def __init__(self, num_items: int, seed: Sequence[int]) -> None:
        if num_items < 1:
            raise ValueError(f"there is nothing to shuffle: {num_items} items")
        self.num_items = num_items
        columns = math.isqrt(num_items - 1) + 1
        self._columns, self._rows = np.uint64(columns), np.uint64(-(-num_items // columns))
        key: np.ndarray = np.zeros(1, np.uint64)
        for number in (len(seed), *seed):
            key = _mixed(key + np.uint64(number % (1 << 64)))
        self._keys = [_mixed(key + np.uint64(number + 1)) for number in range(NUM_ROUNDS)]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Items, int64 [n], at places, int [n], from 0 to ``num_items`` − 1."""
        found = self._step(places.astype(np.uint64))
        # The grid has a few more places than items: step again from those until an item is reached.
        while len(outside := np.flatnonzero(found >= self.num_items)):
            found[outside] = self._step(found[outside])
        return found.astype(np.int64)

    def _step(self, places: np.ndarray) -> np.ndarray:
        row: np.ndarray = places // self._columns
        column: np.ndarray = places % self._columns
        for number, key in enumerate(self._keys):
            if number % 2:
                row = (row + _mixed(column + key) % self._rows) % self._rows
            else:
                column = (column + _mixed(row + key) % self._columns) % self._columns
        return row * self._columns + column


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's hash of uint64 [n] (G. Steele, D. Lea, C. Flood 2014)."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


class PassOrder:
    """The order of the items of one pass.

    Args:
        num_items: of the source.
        seed: numbers, one of which is that of the pass.
        window: number of shards that are shuffled together; 0 shuffles the whole source.
        shard_sizes: items of each shard, in the source's order; needed for a window.

    >>> PassOrder(6, [0], window=1, shard_sizes=[2, 2, 2])[np.arange(6)].tolist()
    [3, 2, 5, 4, 1, 0]
    """

    def __init__(self, num_items: int, seed: Sequence[int], window: int = 0, shard_sizes: Sequence[int] = ()) -> None:
        self.num_items, self._seed, self._window = num_items, list(seed), window
        if not window or len(shard_sizes) <= window:
            self._whole: Shuffle | None = Shuffle(num_items, seed)
            return
        if sum(shard_sizes) != num_items:
            raise ValueError(f"shards hold {sum(shard_sizes)} items, the source {num_items}")
        self._whole = None
        sizes = np.array(shard_sizes, np.int64)
        order = Shuffle(len(sizes), [*seed, 0])[np.arange(len(sizes))]
        self._shard_firsts = (np.cumsum(sizes) - sizes)[order]
        self._shard_ends = np.cumsum(sizes[order])
        self._window_ends = np.append(self._shard_ends[window - 1 : -1 : window], num_items)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Items, int64 [n], at places, int64 [n], of the pass."""
        if self._whole is not None:
            return self._whole[places]
        windows = np.searchsorted(self._window_ends, places, side="right")
        found = np.empty(len(places), np.int64)
        for window in np.unique(windows).tolist():
            chosen = windows == window
            start = int(self._window_ends[window - 1]) if window else 0
            shuffle = Shuffle(int(self._window_ends[window]) - start, [*self._seed, 1, window])
            shuffled = start + shuffle[places[chosen] - start]
            shards = np.searchsorted(self._shard_ends, shuffled, side="right")
            before = np.where(shards > 0, self._shard_ends[shards - 1], 0)
            found[chosen] = self._shard_firsts[shards] + shuffled - before
        return found
