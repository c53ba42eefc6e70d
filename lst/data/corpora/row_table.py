"""Rows of a corpus of any size: they lie in an unnamed temporary file, and 16 bytes of each in memory.

::

    row ──RowBlock.of──▶ a line of JSON ──add──▶ RowTable: a temporary file, where each line ends, a key of each id
    worker ◀──bytes── contents(n)                   └── table[n], for row in table: rows are made when they are read

A table is a sequence like a list of rows, to which rows can be added. A small one makes no file. A block is what
processes send each other: nobody decodes it on the way.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from lst.data.corpora.ids import id_of
from lst.data.corpora.row_languages import named_language
from lst.data.corpora.rows import ManifestRow
from lst.data.utterance import UNSTATED, Provenance, TimedWord
from lst.storage import TemporaryBytes

ItemT = TypeVar("ItemT")
# Rows that are written, and read, together.
ROWS_TOGETHER = 256
# More sources are no mixture that a person would weigh.
MOST_SOURCES = 32
_FIELDS = [column.name for column in fields(ManifestRow)]
_encode = json.JSONEncoder(separators=(",", ":"), default=lambda value: value.item()).encode  # of NumPy's numbers


def name_key(name: str) -> int:
    """64 bits of a hash of a name. Names with the same key are compared before they count as the same."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def made_id(row: ManifestRow) -> str:
    """The id of a row by the rule of all corpora, before ids are made unique."""
    return row.id if row.has_own_id else id_of(row.id)


@dataclass
class RowFacts:
    """What is known of rows without reading them.

    Attributes:
        has_made_ids: whether the id of each is ``made_id``.
        most_id_bytes: of the longest id.
        languages, splits: of all of them.
        have_text: False if one has no text, True if one has; both, or none without rows.
        named: of those whose folder names a language, how many there are, by that language and their own.
        have_segments, have_whole: whether one is a part of its file, and whether one is a whole file.
        longest_s: the longest duration that is stated.
        sources: ``Provenance.name`` of all; of more than ``MOST_SOURCES``, some.
    """

    has_made_ids: bool = True
    most_id_bytes: int = 1
    languages: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)
    have_text: set[bool] = field(default_factory=set)
    named: Counter[tuple[str, str]] = field(default_factory=Counter)
    have_segments: bool = False
    have_whole: bool = False
    longest_s: float = 0.0
    sources: set[str] = field(default_factory=set)

    def merge(self, other: RowFacts) -> None:
        """Adds what is known of further rows."""
        self.has_made_ids &= other.has_made_ids
        self.most_id_bytes = max(self.most_id_bytes, other.most_id_bytes)
        self.languages |= other.languages
        self.splits |= other.splits
        self.have_text |= other.have_text
        self.named.update(other.named)
        self.have_segments |= other.have_segments
        self.have_whole |= other.have_whole
        self.longest_s = max(self.longest_s, other.longest_s)
        if len(self.sources) <= MOST_SOURCES:
            self.sources |= other.sources


@dataclass(frozen=True)
class RowBlock:
    """Some rows as bytes.

    Attributes:
        content: a line of JSON a row.
        id_keys: ``name_key`` of ``made_id`` of each.
        facts: of them.
    """

    content: bytes
    id_keys: array[int]
    facts: RowFacts

    @classmethod
    def of(cls, rows: Sequence[ManifestRow]) -> RowBlock:
        """Encodes rows."""
        made = list(map(made_id, rows))
        content = "".join(map(_line, rows)).encode()
        facts = RowFacts(
            all(row.id == name for row, name in zip(rows, made, strict=True)),
            max((len(row.id.encode("utf-8", "surrogatepass")) for row in rows), default=1),
            {row.language for row in rows},
            {row.split for row in rows},
            {bool(row.text.strip()) for row in rows},
            Counter((named, row.language) for row in rows if (named := named_language(row))),
            any(row.is_segment for row in rows),
            not all(row.is_segment for row in rows),
            max((row.duration_s or 0.0 for row in rows), default=0.0),
            {row.provenance.name for row in rows},
        )
        return cls(content, array("Q", map(name_key, made)), facts)


class RowTable(Sequence[ManifestRow]):
    """Rows of any number; see the top of the file.

    Args:
        rows: the first of them.

    """

    def __init__(self, rows: Iterable[ManifestRow] = ()) -> None:
        self._content = TemporaryBytes()
        self._ends, self._id_keys = array("Q", [0]), array("Q")
        self._pending: list[ManifestRow] = []
        self._facts = RowFacts()
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
        end = self._content.num_bytes
        self._content.add(block.content)
        for line in block.content.splitlines(keepends=True):
            end += len(line)
            self._ends.append(end)
        self._id_keys.extend(block.id_keys)
        self._facts.merge(block.facts)

    @property
    def facts(self) -> RowFacts:
        """Of all rows."""
        self._flush()
        return self._facts

    @property
    def id_keys(self) -> np.ndarray:
        """uint64 [num_rows]: ``name_key`` of ``made_id`` of each row."""
        self._flush()
        return np.array(self._id_keys, np.uint64)

    def contents(self, num_rows: int = ROWS_TOGETHER) -> Iterator[bytes]:
        """The rows in order, so many at a time, for ``rows_of``."""
        for start in range(0, len(self), num_rows):
            yield self._read(start, min(start + num_rows, len(self)))

    def line(self, number: int) -> bytes:
        """One row, for ``rows_of``."""
        return self._read(number, number + 1)

    def _read(self, start: int, end: int) -> bytes:
        self._flush()
        return self._content.read(self._ends[start], self._ends[end])

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
        return _row(self.line(range(len(self))[number]))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same rows."""
        if not isinstance(other, (RowTable, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(own == one for own, one in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class Picked(Sequence[ItemT]):
    """Some items of a sequence, which keeps them.

    Args:
        items: all of them.
        numbers: of those that are picked, in the order wanted.

    Attributes:
        items, numbers: the same.

    >>> list(Picked("abcd", np.array([3, 0])))
    ['d', 'a']
    """

    def __init__(self, items: Sequence[ItemT], numbers: np.ndarray) -> None:
        self.items, self.numbers = items, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: Any) -> Any:
        found = self.numbers[number].tolist()
        return [self.items[one] for one in found] if isinstance(number, slice) else self.items[found]


def picked(items: Sequence[ItemT], is_wanted: Callable[[ItemT], bool]) -> Picked[ItemT]:
    """Those that are wanted."""
    numbers = array("L", (number for number, item in enumerate(items) if is_wanted(item)))
    return Picked(items, np.array(numbers, np.uint32))


def blocks_of(rows: Sequence[ManifestRow], num_rows: int = ROWS_TOGETHER) -> Iterator[bytes]:
    """Rows in order, so many at a time, for ``rows_of``; those that lie in a table are not decoded for it."""
    if isinstance(rows, RowTable):
        yield from rows.contents(num_rows)
    elif isinstance(rows, Picked) and isinstance(rows.items, RowTable):
        for start in range(0, len(rows), num_rows):
            yield b"".join(map(rows.items.line, rows.numbers[start : start + num_rows].tolist()))
    else:
        for start in range(0, len(rows), num_rows):
            yield RowBlock.of(rows[start : start + num_rows]).content


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
    # As a frozen dataclass is filled field by field, which takes as long as all else here; it was checked when made.
    row = object.__new__(ManifestRow)
    row.__dict__.update(zip(_FIELDS, cells, strict=True))
    return row


def _word(text: str, start_s: float, end_s: float, score: Any, character_ends_s: Sequence[float], *rest: Any) -> Any:
    return TimedWord(text, start_s, end_s, score, tuple(character_ends_s), *rest)
