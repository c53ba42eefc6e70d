"""Which shard a row belongs to: the one whose range of ids holds the row's id, wherever the row stands in a listing.

::

    plan.jsonl    {"name": "train-000001", "first_id": "utt_065", "rows_file": "manifest.jsonl", "offset": …} a shard

Ids are sorted and cut into ranges of ``data.shard_utterances`` the first time. From then on ranges stay: new rows join
the shard of their range, removed ones leave theirs. Only a shard that has outgrown twice its size is cut up; its first
part keeps the name, and the others get new ones. So rows that come, go or change cost their own shards and no others,
however large the corpus has become.

A shard holds rows of one source, so that sources can be drawn by weights of their own: see ``Provenance.name``.

The rows of a shard follow one another in their list, so that one shard is read without the rest of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from typing import Any, NamedTuple

from lst.data.shards import shard_name
from lst.storage import Count


@dataclass(frozen=True)
class PlannedShard:
    """A line of ``plan.jsonl``.

    Attributes:
        name: of the shard.
        first_id: ids from this one up to the next shard's, in the same split, belong to it; ``""`` is before all.
        rows_file: name of the list that holds its rows.
        offset, num_bytes: its rows in that list.
        num_rows: how many they are; a shard that has lost all its rows keeps its range.
        rows_sha256: of all in its rows that decides its content: texts, hashes of audio, segments, given times.
        source: that all its rows are of; empty where they name none.
    """

    name: str
    first_id: str
    rows_file: str
    offset: Count
    num_bytes: Count
    num_rows: Count
    rows_sha256: str
    source: str = ""

    def __len__(self) -> int:
        return self.num_rows

    @property
    def record(self) -> dict[str, Any]:
        """The line as it is written: with its source only where it has one, as earlier versions knew none."""
        return {key: value for key, value in asdict(self).items() if key != "source" or value}

    @property
    def split(self) -> str:
        """The split that it belongs to."""
        return self.name.rpartition("-")[0]

    @property
    def number(self) -> int:
        """Its number within the split."""
        return int(self.name.rpartition("-")[2])


class Range(NamedTuple):
    """A shard's name, its first id, and where its rows begin and end among all of the split."""

    name: str
    first_id: str
    start: int
    end: int


def free_numbers(before: Iterable[PlannedShard]) -> Iterator[int]:
    """Numbers that no shard of a split has, in order."""
    return count(1 + max((shard.number for shard in before), default=-1))


def ranges_of(
    split: str, ids: Sequence[str], before: Sequence[PlannedShard], size: int, numbers: Iterator[int] | None = None
) -> Iterator[Range]:
    """Divides the rows of a source of a split among shards.

    Args:
        split: its name.
        ids: of the rows, sorted.
        before: the source's shards until now; none where they are cut for the first time.
        size: rows a shard.
        numbers: of new shards, which the sources of a split share; None takes those that ``before`` leaves.

    >>> [found[:2] for found in ranges_of("train", ["a", "b", "c"], (), 2)]
    [('train-000000', ''), ('train-000001', 'c')]
    """
    if not before and not ids:
        return
    numbers = free_numbers(before) if numbers is None else numbers
    firsts = sorted((shard.first_id, shard.number) for shard in before) or [("", next(numbers))]
    most = 2 * size if before else size
    bounds = [*(bisect_left(ids, first) for first, _ in firsts), len(ids)]
    for (first, number), (start, end) in zip(firsts, pairwise(bounds), strict=True):
        cuts = range(start, end, size) if end - start > most else range(start, start + 1)
        for cut, cut_end in pairwise([*cuts, end]):
            is_first = cut == start
            name = shard_name(split, number if is_first else next(numbers))
            yield Range(name, first if is_first else ids[cut], cut, cut_end)
