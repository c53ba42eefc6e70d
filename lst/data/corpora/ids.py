"""Utterance ids, made by one rule for all corpora.

::

    the corpus's own id, else the audio's name ──id_of──► characters that ids may have
    two utterances with the same ──settle_ids──► folder (or tar) and name; a hash where these agree too

An id that stands in a manifest's column ``id`` is kept as it is, and refused if it is not unique. Other ids may change
where a corpus grows and a name comes again; ``keep_ids`` keeps those of rows that were prepared before.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lst.data.corpora.manifest import ManifestRow
from lst.storage import is_url

MAX_ID_CHARS = 160  # an id is a part of file names, which may have 255 bytes
_HASH_CHARS = 8
_PIECE_TIMES = re.compile(r"-\d{8,}-\d{8,}$")
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")


def id_of(name: str) -> str:
    """Makes an id of any name. Accents are dropped; each run of other characters becomes ``_``.

    Where letters or digits are lost, or the name is too long, a hash of the name keeps ids apart.

    >>> id_of("./clips/a b.1"), id_of("café #2"), id_of("长信")
    ('clips_a_b_1', 'cafe_2', 'utt-21c1b5c7')
    """
    name = unicodedata.normalize("NFC", name).removeprefix("./")
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    made = _OTHERS.sub("_", plain)
    if made == name and len(made) <= MAX_ID_CHARS and made:
        return made
    made = made.strip("_") if made.strip("_-") else "utt"
    is_whole = not any(char.isalnum() and not char.isascii() for char in plain) and made != "utt"
    return made if is_whole and len(made) <= MAX_ID_CHARS else with_hash(made, name)


def with_hash(made: str, name: str) -> str:
    """An id followed by a hash of the name that it was made of, not too long."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{made[: MAX_ID_CHARS - _HASH_CHARS - 1]}-{digest}"


def piece_id(name: str, start_s: float, end_s: float) -> str:
    """The id of a piece of a longer recording: the recording's, and start and end in milliseconds of its file.

    >>> piece_id("talk", 61.2, 70.0345)
    'talk-00061200-00070034'
    """
    times = f"-{round(1000 * start_s):08d}-{round(1000 * end_s):08d}"
    if len(name) + len(times) > MAX_ID_CHARS:
        name = with_hash(name[: MAX_ID_CHARS - len(times) - _HASH_CHARS - 1], name)
    return name + times


def is_piece_id(name: str) -> bool:
    """Whether an id is of the form that ``piece_id`` gives.

    >>> is_piece_id("talk-00061200-00070034"), is_piece_id("talk-0006")
    (True, False)
    """
    return _PIECE_TIMES.search(name) is not None


def settle_ids(rows: Sequence[ManifestRow], root: Path) -> list[ManifestRow]:
    """Gives every row its id; the order of the rows does not matter.

    Args:
        rows: their ids are names, but of those with ``has_own_id``.
        root: the corpus; paths start from it.
    """
    ids = [row.id if row.has_own_id else id_of(row.id) for row in rows]
    for longer_id in (_id_with_folder, _id_with_hash):
        alike: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(ids):
            alike[name].append(number)
        for numbers in alike.values():
            if len(numbers) > 1:
                longer = {number: longer_id(rows[number], root) for number in numbers if not rows[number].has_own_id}
                # One name for all is one utterance several times, which is reported by its short id.
                if len({*longer.values()}) > 1 or len(longer) < len(numbers):
                    for number, name in longer.items():
                        ids[number] = name
    return [row if row.id == made else replace(row, id=made) for row, made in zip(rows, ids, strict=True)]


def ids_apart(rows: Sequence[ManifestRow], before: Iterable[ManifestRow] = ()) -> list[ManifestRow]:
    """Puts the corpus's name before ids that several corpora have.

    Args:
        rows: of all corpora.
        before: rows of an earlier state of the corpora: their ids stay, with the name before them or without.
    """
    corpora: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        corpora[row.id].add(row.provenance.corpus)
    # A recording that was cut is known by its pieces.
    known = {(row.provenance.corpus, _PIECE_TIMES.sub("", row.id)) for row in before}

    def apart(row: ManifestRow) -> str:
        corpus = row.provenance.corpus
        made = id_of(f"{corpus}-{row.id}")
        made = with_hash(made, f"{corpus}/{row.id}") if made in corpora else made
        is_shared = len(corpora[row.id]) > 1 and (corpus, row.id) not in known
        return made if is_shared or (corpus, made) in known else row.id

    ids = map(apart, rows)
    return [row if row.id == made else replace(row, id=made) for row, made in zip(rows, ids, strict=True)]


def keep_ids(rows: Sequence[ManifestRow], before: Iterable[ManifestRow]) -> list[ManifestRow]:
    """Gives rows the ids that their audio had before, where these are still free.

    Args:
        rows: with ids of their own or of ``settle_ids``.
        before: rows of an earlier state of the corpus.
    """
    taken = {row.id for row in rows}
    # Of rows with the same audio it is not known which is which.
    places = Counter(_audio_of(row) for row in rows)
    earlier: dict[str, str] = {}
    for row in before:
        if row.id not in taken and places[place := _audio_of(row)] == 1:
            earlier[place] = "" if place in earlier else row.id
    return [
        replace(row, id=known) if not row.has_own_id and (known := earlier.get(_audio_of(row))) else row for row in rows
    ]


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
