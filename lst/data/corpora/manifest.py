"""The manifest: one row an utterance, with its audio and its transcript; read and written here, checked by row_checks.

    manifest.{jsonl,tsv,csv} ── parse_manifest ──► rows ── check_rows ──► good rows
                                      └─ problems ─────────┴─ problems ──► apply_on_error: raise, or leave rows out

Columns, of which ``path`` and ``text`` are needed:

    id                  names the utterance; without it, the audio file's name does (and the start of a segment)
    path                audio file, from the manifest's own folder, absolute, or a URL (``s3://…``)
    text                transcript
    speaker             who speaks
    split               train…, or dev, valid, val, test, eval …
    duration_s          seconds: of the file, or with ``start_s`` of the segment
    start_s             makes the row a segment of its file: where it starts, in seconds; may be 0
    channel             the one channel that is read, from 0; without it, channels are averaged
    member              the audio file's name within ``path``, which is then an uncompressed tar
    words               JSON: [[word, start_s, end_s], …], from the utterance's start; a score may follow
    ending_start_word   first word of the ending, for cloze items

Nothing is dropped in silence: what cannot be used comes back as a ``ManifestProblem`` with its place.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lst.data.audio import format_audio_ref
from lst.data.corpora.records import json_records, read_utf8, table_cells
from lst.data.utterance import TimedWord
from lst.errors import UserError, raise_problems
from lst.storage import PlaceError, named_in, write_jsonl

# Names a column may have, compared in lower case; where a row has several of them, the first one counts.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "key", "file_id", "utterance_id"),
    "path": ("path", "audio", "audio_path", "audio_filepath", "file", "wav", "filename", "file_name"),
    "text": ("text", "transcript", "transcription", "sentence", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "duration_s": ("duration_s", "duration", "seconds"),
    "split": ("split", "subset"),
    "ending_start_word": ("ending_start_word",),
    "start_s": ("start_s", "offset"),
    "channel": ("channel",),
    "member": ("member",),
}
REQUIRED = ("path", "text")
UNKNOWN_SPEAKER = "unknown"
MANIFEST_SUFFIXES = (".jsonl", ".tsv", ".csv")
EXAMPLES = {
    ".jsonl": '{"id": "utt_1", "path": "audio/utt_1.wav", "text": "hello there", "speaker": "ann"}\n'
    '{"id": "utt_2", "path": "audio/utt_2.wav", "text": "good morning", "speaker": "ben"}',
    ".tsv": "id\tpath\ttext\tspeaker\nutt_1\taudio/utt_1.wav\thello there\tann",
    ".csv": 'id,path,text,speaker\nutt_1,audio/utt_1.wav,"hello, there",ann',
}
SPLITS_ALLOWED = "train…, or dev, valid, validation, val, test, eval (all of these are held out)"
_VALID_SPLIT = re.compile(r"(dev|valid|validation|val|test|eval)([\W_\d].*)?")


@dataclass(frozen=True)
class ManifestRow:
    """One utterance of a corpus."""

    id: str  # names it everywhere; letters, digits, _ and -
    path: Path | str  # its audio file, absolute when read from a manifest; a str where it is a URL
    text: str  # its transcript as given
    speaker: str = UNKNOWN_SPEAKER
    split: str = ""  # "train", "valid" or, not yet assigned, ""
    duration_s: float | None = None  # as stated, of the file or the segment; as in the audio's header after check_rows
    ending_start_word: int | None = None  # the ending's first word in text.split(), where sentence ends are known
    place: str = field(default="", compare=False, repr=False)  # where the row stands, for messages
    start_s: float = 0.0  # where the utterance begins in its file
    channel: int | None = None  # the channel it is in, from 0; None averages all
    member: str = ""  # name of the audio file when ``path`` is a tar
    is_segment: bool = False  # whether it is a part of its file: set by a start above 0, too
    words: tuple[TimedWord, ...] = ()  # times that the source gives, from the utterance's start
    unread: frozenset[str] = field(default=frozenset(), compare=False, repr=False)  # columns that could not be read

    def __post_init__(self) -> None:
        if self.start_s > 0:
            object.__setattr__(self, "is_segment", True)

    @property
    def audio_ref(self) -> str:
        """One text that says where the audio is; ``lst.data.audio.read.read_audio_ref`` reads it."""
        return format_audio_ref(self)


@dataclass(frozen=True)
class ManifestProblem:
    """Why one utterance cannot be used: its place (a line or a file), its id and audio file if known, the reason.

    The first problem of a row that was read in part holds it, so that what was read is checked, too.
    """

    place: str
    id: str
    message: str
    path: Path | str | None = None
    kind: str = "row"  # what was checked: see row_checks.KINDS; "row" where there is no row to check
    row: ManifestRow | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        name = f" (id {self.id!r})" if self.id else ""
        return f"{self.place}{name}: {self.message}"


def split_of(value: str) -> str | None:
    """Maps a corpus's name of a split to ``"train"``, ``"valid"`` or ``""``; None when it is none of those allowed."""
    name = value.strip().lower()
    if not name:
        return ""
    return "train" if name.startswith("train") else "valid" if _VALID_SPLIT.fullmatch(name) else None


def read_manifest(path: Path) -> list[ManifestRow]:
    """Reads a manifest that must be free of faults in its rows; the audio is not looked at.

    Raises:
        UserError: as ``parse_manifest``; ``ProblemsError`` naming every bad row.
    """
    rows, problems = parse_manifest(path)
    raise_problems(f"manifest {path}", [str(problem) for problem in problems])
    return rows


def parse_manifest(path: Path) -> tuple[list[ManifestRow], list[ManifestProblem]]:
    """Reads a manifest: JSON lines, or tab (no quoting) or comma (with quoting) separated with a header line.

    Columns are found by ``ALIASES``; unknown ones are left alone, and an absent id is the audio file's stem.
    Blank lines mean nothing. The audio is not looked at: see ``check_rows``.

    Returns the rows, and the problems of those lines that gave none.

    Raises:
        UserError: the file is absent, not UTF-8, of another kind, without rows, or lacks a required column.
    """
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        raise UserError(f"manifest {path}: its name must end in {', '.join(MANIFEST_SUFFIXES)}.")
    records = list(json_records(path)) if path.suffix.lower() == ".jsonl" else _table_records(path, read_utf8(path))
    if not records:
        raise UserError(f"manifest {path} holds no rows. For example:\n{EXAMPLES[path.suffix.lower()]}")
    sound = [record for _, record in records if isinstance(record, dict)]
    if sound:
        _check_columns(path, list(dict.fromkeys(column for record in sound for column in record)))
    rows, problems = [], []
    for line, record in records:
        if isinstance(record, str):
            problems.append(ManifestProblem(f"line {line}", "", record))
            continue
        row, faults = parse_record(record, f"line {line}", path.parent.absolute())
        problems += record_problems(row, faults)
        if not faults:
            rows.append(row)
    return rows, problems


def record_problems(row: ManifestRow, faults: Sequence[str]) -> list[ManifestProblem]:
    """What is wrong with a record, as ``parse_record`` tells it, as problems; the first holds the row."""
    found = [ManifestProblem(row.place, row.id, fault, row.path) for fault in faults]
    return [replace(found[0], row=row), *found[1:]] if found else []


def _table_records(path: Path, text: str) -> list[tuple[int, dict[str, Any] | str]]:
    """Lines of a table as (line number, cells by lower-case column name, or what is wrong with the line)."""
    cells = table_cells(path, text)
    if not cells:
        return []
    header = [name.strip().lower() for name in cells[0][1]]
    _check_columns(path, header)
    repeated = sorted({name for name in header if header.count(name) > 1 and name})
    if repeated:
        raise UserError(f"manifest {path}: column {', '.join(repeated)} is there more than once. Rename or remove one.")
    return [
        (line, dict(zip(header, values, strict=True)))
        if len(values) == len(header)
        else (line, f"has {len(values)} cells, the header has {len(header)}")
        for line, values in cells[1:]
    ]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raises ``UserError`` with columns found, needed and an example where a required one is absent."""
    missing = [name for name in REQUIRED if not set(ALIASES[name]) & set(columns)]
    if not missing:
        return
    needed = "; ".join(f"{name} (or {', '.join(ALIASES[name][1:])})" for name in REQUIRED)
    optional = "; ".join(" or ".join(aliases) for name, aliases in ALIASES.items() if name not in REQUIRED)
    raise UserError(
        f"manifest {path} has no column for: {', '.join(missing)}.\n"
        f"Columns found: {', '.join(repr(column) for column in columns) or 'none'}\n"
        f"Columns needed: {needed}\nColumns that may be there: {optional}\n"
        f"For example:\n{EXAMPLES[path.suffix.lower()]}"
    )


def parse_record(record: dict[str, Any], place: str, folder: Path) -> tuple[ManifestRow, list[str]]:
    """A record as a row, and what is wrong with it; a faulty row names itself, and what it has can be checked.

    Args:
        record: cells by column name in lower case; see ``ALIASES``.
        place: where it stands, for messages.
        folder: what relative paths start from.
    """
    faults: dict[str, list[str]] = {name: [] for name in (*ALIASES, "words")}
    cells = {name: _cell(record, name, faults[name]) for name in ALIASES}
    path, member = cells["path"].strip(), cells["member"].strip()
    if not path or "\0" in path:
        faults["path"].append("the audio file's name holds a NUL character" if path else "names no audio file")
    audio: Path | str = path
    try:
        audio = named_in(folder, path.replace("\0", ""))
    except PlaceError as error:
        faults["path"].append(str(error))
    if not set(ALIASES["text"]) & set(record):
        faults["text"].append("has no transcript")
    split = split_of(cells["split"])
    if split is None:
        faults["split"].append(f"split {cells['split']!r} is unknown; allowed are {SPLITS_ALLOWED}")
    ending = parse_number(cells["ending_start_word"], "ending_start_word", faults["ending_start_word"], whole=True)
    start_s = parse_number(cells["start_s"], "start_s", faults["start_s"])
    channel = parse_number(cells["channel"], "channel", faults["channel"], whole=True)
    duration_s = parse_number(cells["duration_s"], "duration", faults["duration_s"])
    words = parse_timed_words(record.get("words"), faults["words"])
    unread = {name for name, own in faults.items() if own}
    if not cells["id"].strip() and unread & {"path", "member", "start_s"}:
        unread.add("id")  # which comes from these
    stem = Path(member or path).stem
    row = ManifestRow(
        id=cells["id"].strip() or (stem if start_s is None else f"{stem}-{round(1000 * start_s):07d}"),
        path=audio,
        text=cells["text"],
        speaker=cells["speaker"].strip() or UNKNOWN_SPEAKER,
        split=split or "",
        duration_s=duration_s,
        ending_start_word=None if ending is None else int(ending),
        place=place,
        start_s=start_s or 0.0,
        channel=None if channel is None else int(channel),
        member=member,
        is_segment=start_s is not None,
        words=words,
        unread=frozenset(unread),
    )
    return row, [fault for own in faults.values() for fault in own]


def parse_timed_words(value: Any, faults: list[str]) -> tuple[TimedWord, ...]:
    """Words with their times, each a list ``[word, start_s, end_s]`` or, with a score, of four."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        # A cell of a table.
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        faults.append(f"words must be a list of [word, start_s, end_s] (in a table as JSON), not {str(value)[:60]}")
        return ()
    words = []
    for number, item in enumerate(value):
        has_cells = isinstance(item, list) and len(item) in (3, 4)
        values: list[Any] = [*item, None][:4] if has_cells else [None] * 4
        word, start_s, end_s, score = values
        sound = isinstance(word, str) and is_finite_number(start_s) and is_finite_number(end_s) and start_s >= 0
        if not sound or not (score is None or is_finite_number(score)):
            faults.append(
                f"words: item {number} must be [word, start_s, end_s] or with a score, times numbers of at least 0, "
                f"not {str(item)[:60]}"
            )
        else:
            words.append(TimedWord(word, float(start_s), float(end_s), None if score is None else float(score)))
    return tuple(words)


def is_finite_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _cell(record: dict[str, Any], name: str, faults: list[str]) -> str:
    """A cell as text; absent and null ones are empty."""
    value = next((record[alias] for alias in ALIASES[name] if alias in record), None)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        faults.append(f"{name} must be text or a number, not {json.dumps(value)[:60]}")
        return ""
    return str(value)


def parse_number(cell: str, name: str, faults: list[str], whole: bool = False) -> float | None:
    """A cell as a finite number of at least 0, None when empty; tables may write a whole one as 3.0."""
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0 and not (whole and value % 1):
        return value
    faults.append(f"{name} {cell!r} is not a {'whole ' if whole else ''}number of at least 0")
    return None


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Writes rows as JSON lines with absolute audio paths, whole or not at all; ``read_manifest`` gives them back."""
    if path.suffix.lower() != ".jsonl":
        raise UserError(f"manifest {path} is written as JSON lines: its name must end in .jsonl.")
    write_jsonl(path, [row_record(row) for row in rows])


def row_record(row: ManifestRow) -> dict[str, Any]:
    """A row as a line of a manifest; what makes it more than a whole file is there only where it is so."""
    columns = ("text", "speaker", "split", "duration_s", "ending_start_word")
    path = row.path if isinstance(row.path, str) else str(row.path.absolute())
    record = {"id": row.id, "path": path, **{name: getattr(row, name) for name in columns}}
    if row.is_segment:
        record["start_s"] = row.start_s
    if row.channel is not None:
        record["channel"] = row.channel
    if row.member:
        record["member"] = row.member
    if row.words:
        record["words"] = [[*word[:4]] for word in row.words]
    return record
