"""Reads the utterances of a split, by index or in order, from a folder or a URL."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from lst import storage
from lst.data.shards.files import REMEDY, SHARD_FOLDER, load_index, read_samples_table
from lst.data.shards.formats import Index, IndexEntry
from lst.data.shards.provenance import source_of
from lst.data.shards.samples import SampleError, SampleTable
from lst.data.shards.verify import verify_shards
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.storage import Location, locate

# Bounds of what is kept of shards that were read: about 130 bytes a sample, and open files.
MAX_CACHED_SAMPLES, MAX_OPEN_FILES = 262_144, 64
# Bytes a request when a shard behind a URL is read in order.
STREAM_BYTES = 4 << 20


class _OpenFile:
    """A file's descriptor, closed with the last reference to it. Reads by offset, so it has no position to share."""

    def __init__(self, path: Path) -> None:
        self.descriptor = storage.open_descriptor(path)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class ShardReader(Sequence[Utterance]):
    """The utterances of one split, by index, in order or at random.

    ``reader[i]`` reads one sample by one read of its range; iterating over data behind a URL reads a few megabytes at a
    time. Tables and open files of the shards used last are kept, up to a bound. A reader may be pickled for another
    process, which opens its own files.

    Args:
        data_folder: the folder that holds ``index.json``; a path or a URL.
        split: ``train``, ``valid`` or ``text``.
        verify_hash: compare the hash of every sample that is read; lengths are always compared.
        index: the index, if it has been read already.
        source: of which the utterances are; None takes those of all sources.

    Raises:
        UserError: the index is missing, or a shard is missing or has another size; on reading, a sample is damaged.
    """

    def __init__(
        self,
        data_folder: Location,
        split: str,
        verify_hash: bool = True,
        index: Index | None = None,
        source: str | None = None,
    ) -> None:
        index = load_index(data_folder) if index is None else index
        self.receipts: list[IndexEntry] = [
            entry for entry in index["splits"].get(split, []) if source in (None, source_of(entry))
        ]
        verify_shards(data_folder, self.receipts, full=False)
        self.folder = locate(data_folder) / SHARD_FOLDER
        self.split, self.verify_hash = split, verify_hash
        self._ends = list(accumulate(entry["num_utterances"] for entry in self.receipts))
        self._tables: OrderedDict[int, SampleTable] = OrderedDict()
        self._num_cached = 0
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": OrderedDict(), "_num_cached": 0, "_files": OrderedDict()}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def shard_sizes(self) -> list[int]:
        """Number of utterances of each shard, in order, for a shuffle that reads few shards at a time."""
        return [receipt["num_utterances"] for receipt in self.receipts]

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        index = int(index) % len(self)
        shard = bisect_right(self._ends, index)
        number = index - (self._ends[shard - 1] if shard else 0)
        table = self._table(shard)
        return self._decode(shard, table, number, self._read(shard, *table.range_of(number)))

    def source_of(self, index: int) -> str:
        """The source of an utterance, by which it is mixed and its loss told."""
        return source_of(self.receipts[bisect_right(self._ends, index)])

    def __iter__(self) -> Iterator[Utterance]:
        return self.iterate(range(len(self.receipts)))

    def iterate(self, shards: Sequence[int]) -> Iterator[Utterance]:
        """The utterances of whole shards, given by number, in the order of the numbers."""
        for shard in shards:
            table, number = self._table(shard), 0
            while number < len(table):
                start, last = table.range_of(number)[0], number
                while last + 1 < len(table) and sum(table.range_of(last + 1)) - start <= STREAM_BYTES:
                    last += 1
                block = self._read(shard, start, sum(table.range_of(last)) - start)
                for one in range(number, last + 1):
                    offset, num_bytes = table.range_of(one)
                    yield self._decode(shard, table, one, block[offset - start : offset - start + num_bytes])
                number = last + 1

    def _decode(self, shard: int, table: SampleTable, number: int, content: bytes) -> Utterance:
        try:
            return table.decode(number, content, self.verify_hash)
        except SampleError as error:
            raise UserError(f"shard {self._path(shard)}: sample {table.keys[number]!r} {error}. {REMEDY}") from error

    def _path(self, shard: int) -> Path | storage.Url:
        return self.folder / f"{self.receipts[shard]['name']}.tar"

    def _table(self, shard: int) -> SampleTable:
        if (table := self._tables.get(shard)) is None:
            table = read_samples_table(self.folder, self.receipts[shard])
            self._tables[shard] = table
            self._num_cached += len(table)
            while len(self._tables) > 1 and self._num_cached > MAX_CACHED_SAMPLES:
                self._num_cached -= len(self._tables.popitem(last=False)[1])
        self._tables.move_to_end(shard)
        return table

    def _read(self, shard: int, offset: int, num_bytes: int) -> bytes:
        try:
            if (file := self._files.get(shard)) is None:
                path = self._path(shard)
                if not isinstance(path, Path):
                    return storage.read_range(path, offset, num_bytes)
                file = self._files[shard] = _OpenFile(path)
                if len(self._files) > MAX_OPEN_FILES:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(shard)
            return os.pread(file.descriptor, num_bytes, offset)
        except OSError as error:
            raise UserError(f"shard {self._path(shard)} cannot be read ({error}). {REMEDY}") from error
