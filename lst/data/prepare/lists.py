"""The lists of prepared data, in the order of their shards: how they are arranged, written, compared and read in part.

::

    rows, texts ──arrange──▶ Lists: lines of manifest.jsonl, texts.jsonl …, and plan.jsonl ──write──▶ folder
                                 └──differences──▶ which rows are new, gone or changed, by name
    a PlannedShard ──read_rows──▶ its rows alone
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lst import storage
from lst.data.corpora import ManifestRow, UnitRow
from lst.data.corpora.manifest import parse_record, row_record
from lst.data.corpora.records import shown
from lst.data.corpora.row_table import RowTable
from lst.data.prepare.shard_plan import PlannedShard, free_numbers, ranges_of
from lst.data.prepared import (
    LIST_FILES,
    MANIFEST_FILE,
    PLAN_FILE,
    QUESTIONS_FILE,
    SIMULATED_ROWS_FILE,
    TEXTS_FILE,
    UNIT_ROWS_FILE,
    SpokenRow,
    WrittenText,
)
from lst.data.questions import Question
from lst.data.shards import SPEECH_SPLIT, SPLITS
from lst.data.synthesis.simulated import SimulatedRow
from lst.data.utterance import UNSTATED, Provenance
from lst.errors import UserError
from lst.progress import say
from lst.storage import Folder, FormatError, TemporaryBytes, read_jsonl
from lst.storage.typed import checked

# More of them are no mixture that a person would weigh.
MOST_SOURCES = 32
# A written text is a fiftieth of the work and the bytes of an utterance.
TEXTS_FOR_AN_UTTERANCE = 16
# Where a row's content lies, which decides no byte of its shard. Its split is in the shard's name.
_PLACES = ("path", "member", "duration_s", "split", "place", "offset", "num_bytes")
_FILE_OF = {
    ManifestRow: MANIFEST_FILE,
    UnitRow: UNIT_ROWS_FILE,
    SimulatedRow: SIMULATED_ROWS_FILE,
    WrittenText: TEXTS_FILE,
}
_TYPE_OF = {file: kind for kind, file in _FILE_OF.items()}

AnyRow: TypeAlias = SpokenRow | WrittenText
# A line of a list.
Record: TypeAlias = dict[str, Any]
# More of what decides a row's content, by key, from its number in the list of all rows.
MoreOfRow: TypeAlias = Callable[[int], dict[str, str]]


@dataclass(frozen=True)
class Lists:
    """The lists of a corpus, ready to be written.

    Attributes:
        shards: all of them, in the order of their rows.
        hashes: SHA-256 of each list's file by name; lists without a row are not there.
        contents: of each list's file by name, in temporary files.
        records: the lines of a shard, not yet written, by its name.
    """

    shards: list[PlannedShard]
    hashes: dict[str, str]
    contents: dict[str, TemporaryBytes]
    records: dict[str, Callable[[], Iterator[Record]]]

    def write(self, folder: Folder) -> None:
        """Writes the lists; those that this corpus lacks are removed, as they are an earlier one's."""
        for name in (*LIST_FILES, PLAN_FILE):
            if name in self.contents:
                with storage.staged(folder / name) as temporary, open(temporary, "wb") as file:
                    file.writelines(self.contents[name].blocks())
            else:
                storage.remove(folder / name)


def arrange(
    rows: Sequence[SpokenRow],
    texts: Sequence[WrittenText],
    questions: Sequence[Question],
    before: Sequence[PlannedShard],
    size: int,
    more: MoreOfRow,
) -> Lists:
    """Sorts rows and texts into shards.

    Args:
        rows: utterances, each with its split.
        texts: written texts.
        questions: whose parts are among the rows.
        before: the shards until now; none where the corpus is new.
        size: utterances a shard.
        more: what else decides a row's content: the hash of its audio, given times of words.
    """
    ids, orders = _ids_by_key(rows)
    known: dict[_Key, list[PlannedShard]] = {}
    for shard in before:
        known.setdefault(_Key(shard.split, shard.rows_file, shard.source), []).append(shard)
    groups: list[_Group] = []
    for split in SPLITS:
        numbers = free_numbers(shard for shard in before if shard.split == split)
        keys = {key for key in {*orders, *known} if key.split == split and key.file != TEXTS_FILE}
        for key in sorted(keys, key=lambda key: (LIST_FILES.index(key.file), key.source)):
            own = np.array(orders.get(key, ()), np.int64)
            order = own[np.argsort(ids[own], kind="stable")]
            groups.append(_Group(key, rows, ids, order, known.get(key, ()), size, numbers, more))
    key = _Key("text", TEXTS_FILE)
    text_ids, before_texts = np.array([text.id.encode() for text in texts], np.bytes_), known.get(key, ())
    order, text_size = np.argsort(text_ids, kind="stable"), size * TEXTS_FOR_AN_UTTERANCE
    groups.append(_Group(key, texts, text_ids, order, before_texts, text_size, free_numbers(before_texts), None))
    return _planned(groups, questions, has_rows=bool(rows))


def _ids_by_key(rows: Sequence[SpokenRow]) -> tuple[np.ndarray, dict[_Key, array[int]]]:
    """The id of each row as bytes, and the numbers of the rows of each key."""
    if isinstance(rows, RowTable):
        most_bytes = rows.facts.most_id_bytes
    else:
        most_bytes = max((len(row.id.encode()) for row in rows), default=1)
    source_of = _source_of_row(rows)
    ids = np.empty(len(rows), f"S{most_bytes}")
    orders: dict[_Key, array[int]] = {}
    for number, row in enumerate(rows):
        ids[number] = row.id.encode()
        orders.setdefault(_Key(row.split, _FILE_OF[type(row)], source_of(row)), array("Q")).append(number)
    return ids, orders


def _planned(groups: Sequence[_Group], questions: Sequence[Question], has_rows: bool) -> Lists:
    """The lists of all groups and of the questions, written to temporary files."""
    files = [*([] if has_rows else [MANIFEST_FILE]), *(group.key.file for group in groups)]
    contents = {name: TemporaryBytes() for name in (*files, *([QUESTIONS_FILE] if questions else []), PLAN_FILE)}
    digests = {name: hashlib.sha256() for name in contents}

    def write(name: str, line: bytes) -> int:
        digests[name].update(line)
        return contents[name].add(line)

    for question in questions:
        write(QUESTIONS_FILE, _line(asdict(question)))
    shards, records = list[PlannedShard](), dict[str, Callable[[], Iterator[Record]]]()
    for group in groups:
        file = group.key.file
        planned = list(group.planned(contents[file].num_bytes, partial(write, file)))
        shards += planned
        starts = accumulate((len(shard) for shard in planned), initial=0)
        for shard, start in zip(planned, starts, strict=False):
            records[shard.name] = partial(group.records, start, start + len(shard))
    for shard in shards:
        write(PLAN_FILE, _line(shard.record))
    return Lists(shards, {name: digest.hexdigest() for name, digest in sorted(digests.items())}, contents, records)


def _source_of_row(rows: Sequence[SpokenRow]) -> Callable[[SpokenRow], str]:
    """What gives the source of a row, by which shards are kept apart.

    Where rows name more than a mixture may have, such as a page each, these are told apart by their corpora alone.
    """
    if len(names := {_stated(row).name for row in rows}) <= MOST_SOURCES:
        return lambda row: _stated(row).name
    say(
        f"the rows name {len(names):,} sources, at most {MOST_SOURCES} can be weighted: they stay with the rows, and "
        "losses are not told by them"
    )
    return lambda row: _stated(row).corpus


def _stated(row: SpokenRow) -> Provenance:
    return row.provenance if isinstance(row, ManifestRow) else UNSTATED


class _Key(NamedTuple):
    """Which rows belong together: of a split, a list and a source."""

    split: str
    file: str
    source: str = ""


@dataclass(frozen=True)
class _Group:
    """The rows of a key.

    Attributes:
        rows: those of all keys.
        ids: of all rows, as bytes: they are in the order of the texts.
        order: numbers of the key's own rows among them, sorted by id.
        before: the key's shards until now.
        size: rows a shard.
        numbers: of new shards.
        more: as of ``arrange``; None for texts.
    """

    key: _Key
    rows: Sequence[Any]
    ids: np.ndarray
    order: np.ndarray
    before: Sequence[PlannedShard]
    size: int
    numbers: Iterator[int]
    more: MoreOfRow | None

    def records(self, start: int, end: int) -> Iterator[Record]:
        for number in self.order[start:end].tolist():
            row = self.rows[number]
            record = row_record(row) if isinstance(row, ManifestRow) else asdict(row)
            yield record if self.more is None else record | self.more(number)

    def planned(self, offset: int, write: Callable[[bytes], int]) -> Iterator[PlannedShard]:
        """Its shards, whose lines are written to their list from ``offset`` on."""
        split, file, source = self.key
        ids = _SortedIds(self.ids, self.order)
        for name, first_id, start, end in ranges_of(split, ids, self.before, self.size, self.numbers):
            num_bytes, content = 0, hashlib.sha256()
            for record in self.records(start, end):
                num_bytes += write(_line(record))
                content.update(_line(_content(record)))
            yield PlannedShard(name, first_id, file, offset, num_bytes, end - start, content.hexdigest(), source)
            offset += num_bytes


class _SortedIds(Sequence[str]):
    """The ids of a key's rows, in order."""

    def __init__(self, ids: np.ndarray, order: np.ndarray) -> None:
        self._ids, self._order = ids, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: Any) -> Any:
        return bytes(self._ids[self._order[number]]).decode()


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _content(record: Record) -> Record:
    """What of a list's line decides the content of its shard."""
    return {key: value for key, value in record.items() if key not in _PLACES}


def read_plan(folder: Folder) -> list[PlannedShard]:
    """The shards as they were planned; none where there is no plan, or an earlier version made the lists."""
    return read_jsonl(folder / PLAN_FILE, PlannedShard)


def read_rows(folder: Folder, shard: PlannedShard) -> list[AnyRow]:
    """The rows of one shard; the rest of their list is not read.

    Raises:
        UserError: the list was altered.
    """
    place = folder / shard.rows_file
    rows: list[AnyRow] = []
    try:
        for record in _records(folder, shard):
            if shard.rows_file == MANIFEST_FILE:
                row, faults = parse_record(
                    record, shard.name, Path(), ("questions", SPEECH_SPLIT)
                )  # its paths are absolute
                if faults:
                    raise FormatError("; ".join(faults))
                rows.append(row)
            else:
                rows.append(checked(record, _TYPE_OF[shard.rows_file]))
        if len(rows) != shard.num_rows:
            raise FormatError(f"holds {len(rows)} rows of {shard.name}, {shard.num_rows} are planned")
    except ValueError as error:
        raise UserError(f"{place} was altered since it was planned ({error}): run lst prepare again") from None
    return rows


def _records(folder: Folder, shard: PlannedShard) -> list[Record]:
    content = storage.read_range(folder / shard.rows_file, shard.offset, shard.num_bytes)
    return [json.loads(line) for line in content.splitlines()]


def differences(folder: Folder, lists: Lists) -> list[str]:
    """What differs between the lists in a folder and new ones, a line a kind, and which shards it costs."""
    before = {shard.name: shard for shard in read_plan(folder)}
    now = {shard.name: shard for shard in lists.shards}
    same = {name for name, shard in now.items() if name in before and before[name].rows_sha256 == shard.rows_sha256}
    try:
        old = {row["id"]: row for name, shard in before.items() if name not in same for row in _records(folder, shard)}
    except (ValueError, KeyError, TypeError, OSError):
        return ["the lists of the corpus are not those of a run that ended: they are made again"]
    new = {row["id"]: row for name in now if name not in same for row in lists.records[name]()}
    both = [row_id for row_id in new if row_id in old]
    changed = [row_id for row_id in both if _content(new[row_id]) != _content(old[row_id])]
    texts = [row_id for row_id in changed if new[row_id].get("text") != old[row_id].get("text")]
    audio = [row_id for row_id in changed if new[row_id].get("audio_sha256") != old[row_id].get("audio_sha256")]
    others = [row_id for row_id in changed if row_id not in {*texts, *audio}]
    kinds: list[tuple[str, list[str], Callable[[str], str]]] = [
        (
            "changed texts",
            texts,
            lambda row_id: f"{row_id} ({_apart(old[row_id]['text'], new[row_id]['text'])})",
        ),
        ("changed recordings", audio, lambda row_id: f"{row_id} ({new[row_id].get('path', '')})"),
        ("rows changed otherwise", others, lambda row_id: f"{row_id} ({_changed_keys(old[row_id], new[row_id])})"),
        ("new rows", [row_id for row_id in new if row_id not in old], str),
        ("rows that are gone", [row_id for row_id in old if row_id not in new], str),
    ]
    made = [name for name, shard in now.items() if name not in same and len(shard)]
    num_shards = sum(bool(len(shard)) for shard in lists.shards)
    found = [f"  {what}: {len(ids):,}, {_first(ids, told)}" for what, ids, told in kinds if ids]
    return [
        f"the corpus has changed since it was prepared{':' if found else ', but no row of it differs'}",
        *found,
        f"  shards that are made again: {len(made):,} of {num_shards:,}{', ' * bool(made)}{_first(made, str)}",
        "  codebook, text pieces and held-out utterances stay (data.refit=true chooses them anew)",
    ]


def _changed_keys(old: Record, new: Record) -> str:
    """The columns in which two states of a row differ."""
    return ", ".join(key for key in dict.fromkeys([*_content(old), *_content(new)]) if old.get(key) != new.get(key))


def _apart(old: str, new: str) -> str:
    """Where two texts begin to differ.

    >>> _apart("a long text that was said", "a long text that was sung")
    "'t that was said', now 't that was sung'"
    """
    same = next((n for n, (left, right) in enumerate(zip(old, new, strict=False)) if left != right), len(old))
    start = max(0, same - 12)
    return f"{shown(old[start:])}, now {shown(new[start:])}"


def _first(names: Sequence[str], told: Callable[[str], str]) -> str:
    return ", ".join(map(told, names[:3])) + (", …" if len(names) > 3 else "")
