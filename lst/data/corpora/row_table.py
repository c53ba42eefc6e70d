"""Rows of a corpus of any size: they lie in an unnamed temporary file, and 16 bytes of each in memory.

::

    row ──RowBlock.of──▶ a line of JSON ──add──▶ RowTable: a temporary file, where each line ends, a key of each id
    worker ◀──bytes── contents(n)                   └── table[n], for row in table: rows are made when they are read

A table is a sequence like a list of rows, to which rows can be added. Up to ``IN_MEMORY_BYTES`` no file is made. A
block is what processes send each other: nobody decodes it on the way.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from lst.data.corpora.ids import id_of
from lst.data.corpora.rows import ManifestRow
from lst.data.utterance import UNSTATED, Provenance, TimedWord
from lst.storage import full_disk_named

IN_MEMORY_BYTES = 8 << 20
# Rows that are written, and read, together.
ROWS_TOGETHER = 256
_encode = json.JSONEncoder(separators=(",", ":"), default=lambda value: value.item()).encode  # of NumPy's numbers


def name_key(name: str) -> int:
    """64 bits of a hash of a name. Names with the same key are compared before they count as the same."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def made_id(row: ManifestRow) -> str:
    """The id of a row by the rule of all corpora, before ids are made unique."""
    return row.id if row.has_own_id else id_of(row.id)


@dataclass(frozen=True)
class RowBlock:
    """Some rows as bytes.

    Attributes:
        content: a line of JSON a row.
        id_keys: ``name_key`` of ``made_id`` of each.
        has_made_ids: whether the id of each is ``made_id``.
        languages: of all of them.
    """

    content: bytes
    id_keys: array[int]
    has_made_ids: bool
    languages: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[ManifestRow]) -> RowBlock:
        """Encodes rows."""
        made = list(map(made_id, rows))
        content = "".join(map(_line, rows)).encode()
        has_made_ids = all(row.id == name for row, name in zip(rows, made, strict=True))
        return cls(content, array("Q", map(name_key, made)), has_made_ids, frozenset(row.language for row in rows))


class RowTable(Sequence[ManifestRow]):
    """Rows of any number; see the top of the file.

    Args:
        rows: the first of them.

    Attributes:
        has_made_ids: whether the id of each row is ``made_id``.
        languages: of all rows.
    """

    def __init__(self, rows: Iterable[ManifestRow] = ()) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="lst-rows-")  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._ends, self._id_keys = array("Q", [0]), array("Q")
        self._pending: list[ManifestRow] = []
        self.has_made_ids, self.languages = True, set[str]()
        self.extend(rows)

    @classmethod
    def of(cls, rows: Sequence[ManifestRow]) -> RowTable:
        """A table of rows; itself if they are one."""
        return rows if isinstance(rows, RowTable) else cls(rows)

    def append(self, row: ManifestRow) -> None:
        """Adds a row."""
        self._pending.append(row)
        if len(self._pending) >= ROWS_TOGETHER:
            self._flush()

    def extend(self, rows: Iterable[ManifestRow]) -> None:
        """Adds rows."""
        for row in rows:
            self.append(row)

    def __iadd__(self, rows: Iterable[ManifestRow]) -> RowTable:
        self.extend(rows)
        return self

    def add(self, block: RowBlock) -> None:
        """Adds the rows of a block."""
        self._flush()
        self._write(block)

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._write(RowBlock.of(pending))

    def _write(self, block: RowBlock) -> None:
        with full_disk_named(Path(tempfile.gettempdir()) / "lst-rows"):
            self._file.seek(end := self._ends[-1])
            self._file.write(block.content)
        for line in block.content.splitlines(keepends=True):
            end += len(line)
            self._ends.append(end)
        self._id_keys.extend(block.id_keys)
        self.has_made_ids &= block.has_made_ids
        self.languages |= block.languages

    @property
    def id_keys(self) -> np.ndarray:
        """uint64 [num_rows]: ``name_key`` of ``made_id`` of each row."""
        self._flush()
        return np.array(self._id_keys, np.uint64)

    def contents(self, num_rows: int = ROWS_TOGETHER) -> Iterator[bytes]:
        """The rows in order, so many at a time, for ``rows_of``."""
        for start in range(0, len(self), num_rows):
            yield self._read(start, min(start + num_rows, len(self)))

    def _read(self, start: int, end: int) -> bytes:
        self._flush()
        self._file.seek(self._ends[start])
        return self._file.read(self._ends[end] - self._ends[start])

    def __len__(self) -> int:
        return len(self._ends) - 1 + len(self._pending)

    def __iter__(self) -> Iterator[ManifestRow]:
        for content in self.contents():
            yield from rows_of(content)

    @overload
    def __getitem__(self, number: int) -> ManifestRow: ...
    @overload
    def __getitem__(self, number: slice) -> list[ManifestRow]: ...
    def __getitem__(self, number: int | slice) -> ManifestRow | list[ManifestRow]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        return _row(self._read(number, number + 1))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same rows."""
        if not isinstance(other, (RowTable, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(own == one for own, one in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def rows_of(content: bytes) -> list[ManifestRow]:
    """The rows of a block's content."""
    return list(map(_row, content.splitlines()))


def repeated(keys: np.ndarray) -> np.ndarray:
    """The numbers of keys that come more than once, in order.

    >>> repeated(np.array([3, 1, 3, 2], np.uint64)).tolist()
    [0, 2]
    """
    ordered = np.sort(keys)
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(keys, several)) if len(several) else np.zeros(0, np.int64)


def _line(row: ManifestRow) -> str:
    """The fields in their order; behind the path stands whether it is none of a URL."""
    cells = (
        row.id,
        str(row.path),
        isinstance(row.path, Path),
        row.text,
        row.speaker,
        row.split,
        row.duration_s,
        row.ending_start_word,
        row.place,
        row.start_s,
        row.channel,
        row.member,
        row.is_segment,
        row.words,
        row.transcript_confidence,
        sorted(row.unread),
        row.has_own_id,
        row.provenance,
        row.language,
    )
    return _encode(cells) + "\n"


def _row(line: bytes) -> ManifestRow:
    cells: list[Any] = json.loads(line)
    cells[1:3] = [Path(cells[1]) if cells[2] else cells[1]]
    cells[12] = tuple(_word(*word) for word in cells[12])
    cells[14] = frozenset(cells[14])
    cells[16] = Provenance(*cells[16]) if any(cells[16]) else UNSTATED
    return ManifestRow(*cells)


def _word(text: str, start_s: float, end_s: float, score: Any, character_ends_s: Sequence[float], *rest: Any) -> Any:
    return TimedWord(text, start_s, end_s, score, tuple(character_ends_s), *rest)
