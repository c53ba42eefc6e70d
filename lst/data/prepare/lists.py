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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from lst.data.corpora.row_table import MOST_SOURCES, Picked, RowTable, rows_of
from lst.data.prepare.id_order import PackedIds
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
from lst.parallel import ordered_map
from lst.progress import say
from lst.storage import Folder, FormatError, TemporaryBytes, read_jsonl
from lst.storage.typed import checked

# Rows whose ids a process tells together.
KEYED_TOGETHER = 1_024
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
        rows: utterances in the order of their lists.
    """

    shards: list[PlannedShard]
    hashes: dict[str, str]
    contents: dict[str, TemporaryBytes]
    records: dict[str, Callable[[], Iterator[Record]]]
    rows: Sequence[SpokenRow]

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
    num_workers: int = 1,
) -> Lists:
    """Sorts rows and texts into shards.

    Args:
        rows: utterances, each with its split.
        texts: written texts.
        questions: whose parts are among the rows.
        before: the shards until now; none where the corpus is new.
        size: utterances a shard.
        more: what else decides a row's content: the hash of its audio, given times of words.
        num_workers: processes that make lines; they do not depend on it.
    """
    ids, orders = _ids_by_key(rows, num_workers)
    known: dict[_Key, list[PlannedShard]] = {}
    for shard in before:
        known.setdefault(_Key(shard.split, shard.rows_file, shard.source), []).append(shard)
    groups: list[_Group] = []
    for split in SPLITS:
        numbers = free_numbers(shard for shard in before if shard.split == split)
        keys = {key for key in {*orders, *known} if key.split == split and key.file != TEXTS_FILE}
        for key in sorted(keys, key=lambda key: (LIST_FILES.index(key.file), key.source)):
            order = ids.order(np.array(orders.pop(key, ()), np.uint32))
            groups.append(_Group(key, rows, ids, order, known.get(key, ()), size, numbers, more))
    ordered = np.concatenate([np.zeros(0, np.uint32), *(group.order for group in groups)])
    key = _Key("text", TEXTS_FILE)
    text_ids, before_texts = PackedIds(text.id for text in texts), known.get(key, ())
    order, text_size = text_ids.order(np.arange(len(texts))), size * TEXTS_FOR_AN_UTTERANCE
    groups.append(_Group(key, texts, text_ids, order, before_texts, text_size, free_numbers(before_texts), None))
    return _planned(groups, questions, Picked(rows, ordered), num_workers)


def _ids_by_key(rows: Sequence[SpokenRow], num_workers: int) -> tuple[PackedIds, dict[_Key, array[int]]]:
    """The id of each row, and the numbers of the rows of each key."""
    blocks: Iterable[Sequence[SpokenRow] | bytes] = [rows]
    names = {_stated(row).name for row in rows} if not isinstance(rows, RowTable) else rows.facts.sources
    if has_many := len(names) > MOST_SOURCES:
        say(
            f"the rows name more than {MOST_SOURCES} sources, and no more can be weighted: they stay with the rows, "
            "and losses are not told by them"
        )
    if isinstance(rows, RowTable):
        blocks = rows.contents(KEYED_TOGETHER)
    orders: dict[_Key, array[int]] = {}
    ids, number = PackedIds(), 0
    for found in ordered_map(partial(_ids_and_keys, has_many), blocks, num_workers):
        for name, key in found:
            ids.add(name)
            orders.setdefault(key, array("I")).append(number)
            number += 1
    return ids, orders


def _ids_and_keys(by_corpus: bool, block: Sequence[SpokenRow] | bytes) -> list[tuple[str, _Key]]:
    """Id and key of each row; with ``by_corpus``, sources are told apart by their corpora alone."""
    rows = rows_of(block) if isinstance(block, bytes) else block
    return [
        (row.id, _Key(row.split, _FILE_OF[type(row)], stated.corpus if by_corpus else stated.name))
        for row in rows
        for stated in [_stated(row)]
    ]


def _planned(
    groups: Sequence[_Group], questions: Sequence[Question], rows: Sequence[SpokenRow], num_workers: int
) -> Lists:
    """The lists of all groups and of the questions, written to temporary files."""
    files = [*([] if rows else [MANIFEST_FILE]), *(group.key.file for group in groups)]
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
        planned = list(group.planned(contents[file].num_bytes, partial(write, file), num_workers))
        shards += planned
        starts = accumulate((len(shard) for shard in planned), initial=0)
        for shard, start in zip(planned, starts, strict=False):
            records[shard.name] = partial(group.records, start, start + len(shard))
    for shard in shards:
        write(PLAN_FILE, _line(shard.record))
    return Lists(
        shards, {name: digest.hexdigest() for name, digest in sorted(digests.items())}, contents, records, rows
    )


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
        ids: of all rows.
        order: numbers of the key's own rows among them, sorted by id.
        before: the key's shards until now.
        size: rows a shard.
        numbers: of new shards.
        more: as of ``arrange``; None for texts.
    """

    key: _Key
    rows: Sequence[Any]
    ids: PackedIds
    order: np.ndarray
    before: Sequence[PlannedShard]
    size: int
    numbers: Iterator[int]
    more: MoreOfRow | None

    def records(self, start: int, end: int) -> Iterator[Record]:
        for number in self.order[start:end].tolist():
            record = _record(self.rows[number])
            yield record if self.more is None else record | self.more(number)

    def planned(self, offset: int, write: Callable[[bytes], int], num_workers: int) -> Iterator[PlannedShard]:
        """Its shards, whose lines are written to their list from ``offset`` on."""
        split, file, source = self.key
        ids = Picked(self.ids, self.order)
        ranges = list(ranges_of(split, ids, self.before, self.size, self.numbers))
        made = ordered_map(_lines_of, (self._rows_and_more(found.start, found.end) for found in ranges), num_workers)
        for (name, first_id, start, end), (lines, rows_sha256) in zip(ranges, made, strict=True):
            num_bytes = write(lines)
            yield PlannedShard(name, first_id, file, offset, num_bytes, end - start, rows_sha256, source)
            offset += num_bytes

    def _rows_and_more(self, start: int, end: int) -> _RowsAndMore:
        numbers = self.order[start:end].tolist()
        rows: bytes | list[AnyRow]
        if isinstance(self.rows, RowTable):
            rows = b"".join(map(self.rows.line, numbers))
        else:
            rows = [self.rows[number] for number in numbers]
        return _RowsAndMore(rows, [{} if self.more is None else self.more(number) for number in numbers])


class _RowsAndMore(NamedTuple):
    """Rows of a shard, perhaps as ``rows_of`` takes them, and what else decides the content of each."""

    rows: Sequence[AnyRow] | bytes
    more: Sequence[dict[str, str]]


def _lines_of(job: _RowsAndMore) -> tuple[bytes, str]:
    """The lines of a shard, and SHA-256 of what of them decides its content."""
    rows = rows_of(job.rows) if isinstance(job.rows, bytes) else job.rows
    records = [_record(row) | more for row, more in zip(rows, job.more, strict=True)]
    content = hashlib.sha256(b"".join(_line(_content(record)) for record in records))
    return b"".join(map(_line, records)), content.hexdigest()


def _record(row: AnyRow) -> Record:
    return row_record(row) if isinstance(row, ManifestRow) else asdict(row)


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
    try:
        return [json.loads(line) for line in content.splitlines()]
    except RecursionError:
        raise FormatError("is nested too deeply") from None


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
