"""Makes ids unique: by the rule of all corpora, and as they were when rows were prepared before.

::

    two utterances with the same id ──settled_ids──► folder (or tar) and name; a hash where these agree too

An id that stands in a manifest's column ``id`` is kept as it is, and refused if it is not unique. Other ids may change
where a corpus grows and a name comes again; ``keep_ids`` keeps those of rows that were prepared before.

Of each row a key of 64 bits is held in memory. Only rows with the same key are read again and compared by name.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lst.data.corpora.ids import id_of, with_hash, without_times
from lst.data.corpora.row_table import RowTable, made_id, name_key, repeated
from lst.data.corpora.rows import ManifestRow
from lst.storage import is_url


def settled_ids(rows: RowTable, partial: Sequence[ManifestRow], root: Path) -> dict[int, str]:
    """Ids that are longer than ``made_id``, as several rows have that one; the order of the rows does not matter.

    Args:
        rows: their ids are names, but of those with ``has_own_id``.
        partial: rows that could be read only in part.
        root: the corpus; paths start from it.

    Returns:
        The id by the row's number; ``partial`` follow on ``rows``.
    """

    def row_of(number: int) -> ManifestRow:
        return rows[number] if number < len(rows) else partial[number - len(rows)]

    keys = np.concatenate([rows.id_keys, np.array([name_key(made_id(row)) for row in partial], np.uint64)])
    found: dict[int, str] = {}
    for longer_id in (_id_with_folder, _id_with_hash):
        alike: dict[str, list[int]] = defaultdict(list)
        for number in repeated(keys).tolist():
            alike[found.get(number) or made_id(row_of(number))].append(number)
        for numbers in alike.values():
            if len(numbers) > 1:
                named = {number: row for number in numbers if not (row := row_of(number)).has_own_id}
                longer = {number: longer_id(row, root) for number, row in named.items()}
                # One name for all is one utterance several times, which is reported by its short id.
                if len({*longer.values()}) > 1 or len(longer) < len(numbers):
                    found |= longer
        for number, name in found.items():
            keys[number] = name_key(name)
    return found


def ids_apart(rows: Sequence[ManifestRow], before: Iterable[ManifestRow] = ()) -> RowTable:
    """Puts the corpus's name before ids that several corpora have.

    Args:
        rows: of all corpora.
        before: rows of an earlier state of the corpora: their ids stay, with the name before them or without.
    """
    table, corpora = RowTable.of(rows), defaultdict[str, set[str]](set)
    for number in repeated(table.id_keys).tolist():
        row = table[number]
        corpora[row.id].add(row.provenance.corpus)
    shared = {name for name, own in corpora.items() if len(own) > 1}
    # A recording that was cut is known by its pieces.
    known = {_key_in_corpus(row.provenance.corpus, without_times(row.id)) for row in before}
    if not shared and not known:
        return table
    taken = np.sort(_own_keys(table))

    def apart(row: ManifestRow) -> ManifestRow:
        corpus = row.provenance.corpus
        if row.id not in shared and not known:
            return row
        name, key = id_of(f"{corpus}-{row.id}"), name_key(id_of(f"{corpus}-{row.id}"))
        place = int(np.searchsorted(taken, np.uint64(key)))
        if place < len(taken) and taken[place] == key:
            name = with_hash(name, f"{corpus}/{row.id}")
        had_no_name = _key_in_corpus(corpus, row.id) in known
        is_named = (row.id in shared and not had_no_name) or _key_in_corpus(corpus, name) in known
        return replace(row, id=name) if is_named else row

    return RowTable(map(apart, table))


def _key_in_corpus(corpus: str, name: str) -> int:
    return name_key(f"{corpus}\0{name}")


def keep_ids(rows: RowTable, before: Sequence[ManifestRow]) -> RowTable:
    """Gives rows the ids that their audio had before, where these are still free.

    Args:
        rows: with ids of their own or of ``settled_ids``.
        before: rows of an earlier state of the corpus.
    """
    if not before:
        return rows
    earlier = RowTable.of(before)
    # Of rows whose id is gone, few in a corpus that has grown.
    gone = _rows_without(earlier, rows)
    wanted = {_audio_of(row): "" for row in gone}
    if not wanted:
        return rows
    # Of rows with the same audio it is not known which is which.
    places = Counter(place for row in rows if (place := _audio_of(row)) in wanted)
    known: dict[str, str] = {}
    for row in gone:
        if places[place := _audio_of(row)] == 1:
            known[place] = "" if place in known else row.id
    if not any(known.values()):
        return rows
    return RowTable(
        replace(row, id=name) if not row.has_own_id and (name := known.get(_audio_of(row))) else row for row in rows
    )


def _rows_without(rows: RowTable, others: RowTable) -> list[ManifestRow]:
    """The rows whose id none of the others has."""
    return [rows[number] for number in np.flatnonzero(~np.isin(_own_keys(rows), _own_keys(others))).tolist()]


def _own_keys(rows: RowTable) -> np.ndarray:
    """``name_key`` of the id of each row, as it is."""
    if rows.facts.has_made_ids:
        return rows.id_keys
    return np.fromiter((name_key(row.id) for row in rows), np.uint64, len(rows))


def _audio_of(row: ManifestRow) -> str:
    return f"{row.path}\0{row.member}\0{row.channel}\0{row.is_segment}\0{row.start_s:.6f}"


def _place(row: ManifestRow, root: Path) -> str:
    """Folder, or tar, and name of a row, from the corpus's folder on."""
    path = str(row.path).partition("://")[2] if is_url(row.path) else os.path.relpath(row.path, root)
    stem, folder = os.path.splitext(path)[0], os.path.dirname(path)
    is_named_by_file = not row.member and row.id.startswith(os.path.basename(stem))
    channel = "" if row.channel is None else f"-c{row.channel}"
    return f"{folder if is_named_by_file else stem}/{row.id}{channel}".lstrip("./")


def _id_with_folder(row: ManifestRow, root: Path) -> str:
    return id_of(_place(row, root))


def _id_with_hash(row: ManifestRow, root: Path) -> str:
    return with_hash(id_of(row.id), _place(row, root))
