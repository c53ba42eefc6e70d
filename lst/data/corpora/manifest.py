"""The manifest: a file with one row an utterance, its audio and its transcript. ``row_checks`` checks the rows.

    manifest.{jsonl,tsv,csv} ── parse_manifest ──► rows ── check_rows ──► good rows
                                      └─ problems ─────────┴─ problems ──► apply_on_error: raise, or skip rows

Columns; ``path`` and ``text`` are required:

    id                  of the utterance; default: the audio file's name (``lst.data.corpora.ids``)
    path                audio file: relative to the manifest's folder, absolute, or a URL (``s3://…``)
    text                transcript
    speaker             who speaks
    language            of the transcript, as a code or an English name; default: ``data.language``
    split               train…, or dev, valid, val, test, eval …
    duration_s          seconds: of the file, or with ``start_s`` of the segment
    start_s             start of a segment of the file, in seconds; 0 is a segment too
    channel             the channel to read, counted from 0; default: the mean of all channels
    member              the audio file's name within ``path``, which is then an uncompressed tar
    transcript_confidence   how sure the recogniser was that made the text, from 0 to 1
    words               JSON: [[word, start_s, end_s], …], times from the utterance's start; a score may follow
    ending_start_word   first word of the ending, for cloze items
    source, licence, consent    of the utterance; they travel with it (``lst.data.corpora.provenance``)

Every row that cannot be used comes back as a ``ManifestProblem`` with its place.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from lst.data.audio import as_on_disk
from lst.data.corpora.provenance import COLUMNS, columns_of, provenance_of
from lst.data.corpora.records import Record, parsed_record, raw_records, table_cells
from lst.data.corpora.row_table import RowBlock, RowTable
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow
from lst.data.languages import language_of
from lst.data.utterance import TimedWord
from lst.errors import UserError, raise_problems
from lst.parallel import ordered_map
from lst.progress import say
from lst.storage import PlaceError, named_in, write_jsonl

# Names of each column, in lower case; if a row has several of them, the first one counts.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "key", "file_id", "utterance_id"),
    "path": ("path", "audio", "audio_path", "audio_filepath", "file", "wav", "filename", "file_name"),
    "text": ("text", "transcript", "transcription", "sentence", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "locale", "lang"),
    "duration_s": ("duration_s", "duration", "seconds"),
    "split": ("split", "subset"),
    "ending_start_word": ("ending_start_word",),
    "start_s": ("start_s", "offset"),
    "channel": ("channel",),
    "member": ("member",),
    "transcript_confidence": ("transcript_confidence",),
}
REQUIRED = ("path", "text")
# Above each time, channel and word that a person could mean; what is computed of it stays a number.
MAX_NUMBER = 1e9
MANIFEST_SUFFIXES = (".jsonl", ".tsv", ".csv")
JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")  # lines of objects, or one array of them
EXAMPLES = {
    ".jsonl": '{"id": "utt_1", "path": "audio/utt_1.wav", "text": "hello there", "speaker": "ann"}\n'
    '{"id": "utt_2", "path": "audio/utt_2.wav", "text": "good morning", "speaker": "ben"}',
    ".tsv": "id\tpath\ttext\tspeaker\nutt_1\taudio/utt_1.wav\thello there\tann",
    ".csv": 'id,path,text,speaker\nutt_1,audio/utt_1.wav,"hello, there",ann',
}
SPLITS_ALLOWED = "train…, or dev, valid, validation, val, test, eval (all of these are held out)"
# A line of a file, and its content: cells of a table, or an object that is not yet parsed.
_Line: TypeAlias = tuple[int, Any]
# Lines that a process parses before it hands their rows over.
LINES_TOGETHER = 256
TimedCells: TypeAlias = tuple[str, float, float, float | None]
_VALID_SPLIT = re.compile(r"(dev|valid|validation|val|test|eval)([\W_\d].*)?")


def split_of(value: str) -> str | None:
    """Maps a corpus's name of a split to ``"train"``, ``"valid"`` or ``""``; None if the name is not allowed.

    >>> split_of("train-clean-100"), split_of("Dev"), split_of(""), split_of("testing")
    ('train', 'valid', '', None)
    """
    name = value.strip().lower()
    if not name:
        return ""
    return "train" if name.startswith("train") else "valid" if _VALID_SPLIT.fullmatch(name) else None


def read_manifest(path: Path) -> RowTable:
    """Reads a manifest of prepared data, whose splits may be ``questions`` and ``speech`` too. No audio is opened.

    Raises:
        UserError: as ``parse_manifest``; ``ProblemsError`` names every bad row.
    """
    rows, problems = parse_manifest(path, ("questions", "speech"))
    raise_problems(f"manifest {path}", [str(problem) for problem in problems])
    return rows


def parse_manifest(
    path: Path, more_splits: Sequence[str] = (), needs_text: bool = True, num_workers: int = 1
) -> tuple[RowTable, list[ManifestProblem]]:
    """Reads a manifest: JSON lines, an array of JSON objects, or a table with a header line, separated by tabs or
    commas.

    ``ALIASES`` lists the names of columns; other columns are ignored. Blank lines are skipped. The audio is not opened:
    see ``check_rows``.

    Args:
        path: the file.
        more_splits: names of splits that are allowed beside those of training and held-out utterances.
        needs_text: whether a column of transcripts must be there.
        num_workers: processes that read lines; what is read does not depend on it.

    Returns:
        The rows, and the problems of the lines that gave none.

    Raises:
        UserError: the file is absent, not UTF-8, of another kind, without rows, or lacks a required column.
    """
    is_json = path.name.lower().endswith(JSON_SUFFIXES)
    suffix = ".jsonl" if is_json else path.suffix.lower()
    if suffix not in MANIFEST_SUFFIXES:
        raise UserError(f"manifest {path}: its name must end in {', '.join(MANIFEST_SUFFIXES)}.")
    lines = raw_records(path) if is_json else table_cells(path)
    header = None if is_json else _checked_header(path, lines, needs_text)
    rows, problems, columns = RowTable(), list[ManifestProblem](), dict[str, None]()
    num_lines = num_records = 0
    parse = partial(_parse_lines, header, path.parent.absolute(), more_splits)
    for parsed in ordered_map(parse, _together(lines), num_workers):
        rows.add(parsed.rows)
        problems += parsed.problems
        columns |= dict.fromkeys(parsed.columns)
        num_lines += parsed.num_lines
        num_records += parsed.num_records
    if not num_lines:
        raise UserError(f"manifest {path} holds no rows. For example:", *EXAMPLES[suffix].split("\n"))
    if num_records:
        _check_columns(path, list(columns), needs_text)
        _say_which_text(path, columns)
    return rows, problems


class _Parsed(NamedTuple):
    """Some lines of a manifest, parsed: rows, problems of those without one, all columns in order, and counts."""

    rows: RowBlock
    problems: list[ManifestProblem]
    columns: list[str]
    num_lines: int
    num_records: int


def _together(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    while found := list(islice(lines, LINES_TOGETHER)):
        yield found


def _parse_lines(header: list[str] | None, folder: Path, more_splits: Sequence[str], lines: Sequence[_Line]) -> _Parsed:
    rows, problems, columns, num_records = list[ManifestRow](), list[ManifestProblem](), dict[str, None](), 0
    for number, content in lines:
        record = parsed_record(content) if header is None else _record_of_cells(header, content)
        if isinstance(record, str):
            problems.append(ManifestProblem(f"line {number}", "", record))
            continue
        num_records += 1
        columns |= dict.fromkeys(record)
        row, faults = parse_record(record, f"line {number}", folder, more_splits)
        problems += record_problems(row, faults)
        rows += [] if faults else [row]
    return _Parsed(RowBlock.of(rows), problems, list(columns), len(lines), num_records)


def _record_of_cells(header: Sequence[str], cells: Sequence[str]) -> Record | str:
    """Cells by lower-case column name, or what is wrong with the line."""
    if len(cells) != len(header):
        return f"has {len(cells)} cells, the header has {len(header)}"
    return dict(zip(header, cells, strict=True))


def _say_which_text(path: Path, columns: Collection[str]) -> None:
    """Says which column is read where several may hold the transcript."""
    names = [name for name in ALIASES["text"] if name in columns]
    if len(names) > 1:
        say(f"{path.name}: of its columns {', '.join(names)}, {names[0]} is taken for the text")


def record_problems(row: ManifestRow, faults: Sequence[str]) -> list[ManifestProblem]:
    """The faults that ``parse_record`` found, as problems; the first one holds the row."""
    return [
        ManifestProblem(row.place, row.id, fault, row.path, row=None if number else row)
        for number, fault in enumerate(faults)
    ]


def _checked_header(path: Path, cells: Iterator[_Line], needs_text: bool) -> list[str]:
    """The columns of a table, whose first line is read; ``UserError`` if a needed one is missing or repeated."""
    first = next(cells, None)
    if first is None:
        return []
    header = [name.strip().lower() for name in first[1]]
    _check_columns(path, header, needs_text)
    repeated = sorted({name for name in header if header.count(name) > 1 and name})
    if repeated:
        raise UserError(f"manifest {path}: column {', '.join(repeated)} occurs more than once. Rename or remove one.")
    return header


def _check_columns(path: Path, columns: Sequence[str], needs_text: bool) -> None:
    """Raises ``UserError`` if a required column is absent, with the columns found and needed, and an example."""
    required = [name for name in REQUIRED if needs_text or name != "text"]
    missing = [name for name in required if not set(ALIASES[name]) & set(columns)]
    if not missing:
        return
    needed = "; ".join(f"{name} (or {', '.join(ALIASES[name][1:])})" for name in REQUIRED)
    more = [aliases for name, aliases in ALIASES.items() if name not in REQUIRED]
    optional = "; ".join(map(" or ".join, [*more, COLUMNS["source"], COLUMNS["licence"], COLUMNS["consent"]]))
    raise UserError(
        f"manifest {path} has no column for: {', '.join(missing)}.",
        f"Columns found: {', '.join(repr(column) for column in columns) or 'none'}",
        f"Columns needed: {needed}",
        f"Columns that may be there: {optional}",
        "For example:",
        *EXAMPLES.get(path.suffix.lower(), EXAMPLES[".jsonl"]).split("\n"),
    )


def parse_record(
    record: Record, place: str, folder: Path, more_splits: Sequence[str] = ()
) -> tuple[ManifestRow, list[str]]:
    """Makes a row of a record.

    Args:
        record: cells by column name in lower case; see ``ALIASES``.
        place: line or file of the record, for messages.
        folder: where relative paths start.
        more_splits: as for ``parse_manifest``.

    Returns:
        The row, and every fault of the record. A faulty row has the cells that could be read, and names the others in
        ``unread``.

    >>> row, faults = parse_record({"audio": "/a/b.wav", "text": "hello", "offset": "1.5"}, "line 2", Path("/a"))
    >>> row.id, row.start_s, faults
    ('b-0001500', 1.5, [])
    >>> parse_record({"path": "/a/b.wav", "text": "hello", "duration": "long"}, "line 3", Path("/a"))[1]
    ["duration 'long' is not a number of at least 0"]
    """
    faults: dict[str, list[str]] = {name: [] for name in (*ALIASES, "words")}
    cells = {name: _cell(record, name, faults[name]) for name in ALIASES}
    path, member = cells["path"].strip(), cells["member"].strip()
    if not path or "\0" in path:
        faults["path"].append("the audio file's name holds a NUL character" if path else "names no audio file")
    audio: Path | str = path
    try:
        audio = as_on_disk(named_in(folder, path.replace("\0", "")))
    except PlaceError as error:
        faults["path"].append(str(error))
    if not set(ALIASES["text"]) & set(record):
        faults["text"].append("has no transcript")
    split = cells["split"] if cells["split"] in more_splits else split_of(cells["split"])
    if split is None:
        faults["split"].append(f"split {cells['split']!r} is unknown; allowed are {SPLITS_ALLOWED}")
    ending = parse_number(cells["ending_start_word"], "ending_start_word", faults["ending_start_word"], whole=True)
    start_s = parse_number(cells["start_s"], "start_s", faults["start_s"])
    channel = parse_number(cells["channel"], "channel", faults["channel"], whole=True)
    duration_s = parse_number(cells["duration_s"], "duration", faults["duration_s"])
    confidence = parse_number(cells["transcript_confidence"], "transcript_confidence", faults["transcript_confidence"])
    words = parse_timed_words(record.get("words"), faults["words"])
    language = parse_language(cells["language"], faults["language"])
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
        transcript_confidence=confidence,
        unread=frozenset(unread),
        has_own_id=bool(cells["id"].strip()),
        provenance=provenance_of(record),
        language=language,
    )
    return row, [fault for own in faults.values() for fault in own]


def parse_timed_words(value: Any, faults: list[str]) -> tuple[TimedWord, ...]:
    """Parses timed words: a list of ``[word, start_s, end_s]``, each with a score or without; or JSON of that."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        faults.append(f"words must be a list of [word, start_s, end_s] (in a table as JSON), not {str(value)[:60]}")
        return ()
    words = []
    for number, item in enumerate(value):
        # Pieces of long recordings keep all that an alignment says of a word.
        has_more = isinstance(item, list) and len(item) == 6
        cells = timed_cells(item[:4] if has_more else item)
        if cells is None or cells[1] < 0 or (has_more and not _is_more_of_word(*item[4:])):
            faults.append(
                f"words: item {number} must be [word, start_s, end_s] or with a score, times numbers of at least 0, "
                f"not {str(item)[:60]}"
            )
        else:
            ends_s, is_unaligned = item[4:] if has_more else ((), False)
            words.append(TimedWord(*cells, character_ends_s=tuple(map(float, ends_s)), is_unaligned=is_unaligned))
    return tuple(words)


def _is_more_of_word(ends_s: Any, is_unaligned: Any) -> bool:
    """Whether these are the times of a word's characters, and whether it was not found."""
    return isinstance(ends_s, list) and all(map(is_finite_number, ends_s)) and isinstance(is_unaligned, bool)


def parse_language(cell: str, faults: list[str]) -> str:
    """The code of a language; empty if the cell names none.

    A number is a class label of a table of the Hub, whose names are not in the table.
    """
    try:
        return "" if cell.strip().isdecimal() else language_of(cell)
    except ValueError as error:
        faults.append(f"language {error}")
        return ""


def timed_cells(item: Any) -> TimedCells | None:
    """The cells of a list ``[text, number, number]``, or of four with a score; None if an item is anything else."""
    if not isinstance(item, list) or not 3 <= len(item) <= 4 or not isinstance(item[0], str):
        return None
    text, first, second, score = [*item, None][:4]
    if not (is_finite_number(first) and is_finite_number(second) and (score is None or is_finite_number(score))):
        return None
    return text, float(first), float(second), None if score is None else float(score)


def is_finite_number(value: Any) -> bool:
    """Whether a value of JSON is a number of at most ``MAX_NUMBER``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= MAX_NUMBER


def _cell(record: Record, name: str, faults: list[str]) -> str:
    """A cell as text; empty if it is absent or null."""
    value = next((record[alias] for alias in ALIASES[name] if alias in record), None)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        faults.append(f"{name} must be text or a number, not {json.dumps(value)[:60]}")
        return ""
    return str(value)


def parse_number(cell: str, name: str, faults: list[str], whole: bool = False) -> float | None:
    """Parses a cell as a number from 0 to ``MAX_NUMBER``; None if it is empty. A whole number may be written 3.0."""
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if 0 <= value <= MAX_NUMBER and not (whole and value % 1):
        return value
    limits = f"of at least 0{f' and at most {MAX_NUMBER:g}' if value > MAX_NUMBER else ''}"
    faults.append(f"{name} {cell!r} is not a {'whole ' if whole else ''}number {limits}")
    return None


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Writes rows as JSON lines with absolute audio paths, atomically. Inverse of ``read_manifest``."""
    if path.suffix.lower() != ".jsonl":
        raise UserError(f"manifest {path} is written as JSON lines: its name must end in .jsonl.")
    write_jsonl(path, [row_record(row) for row in rows])


def _word_cells(word: TimedWord) -> list[Any]:
    """Word, start, end and score; then, where an alignment says so, ends of characters and whether it was not found."""
    has_more = word.character_ends_s or word.is_unaligned
    return [*word[:4], *([list(word.character_ends_s), word.is_unaligned] if has_more else [])]


def row_record(row: ManifestRow) -> Record:
    """A row as an object of a manifest; columns of segments, channels, tars, words, provenance only if it has them."""
    columns = ("text", "speaker", "split", "duration_s", "ending_start_word")
    path = row.path if isinstance(row.path, str) else str(row.path.absolute())
    optional = {
        "start_s": row.start_s if row.is_segment else None,
        "channel": row.channel,
        "member": row.member or None,
        "transcript_confidence": row.transcript_confidence,
        "words": [_word_cells(word) for word in row.words] or None,
        "language": row.language or None,
    }
    record = {"id": row.id, "path": path, **{name: getattr(row, name) for name in columns}}
    return record | {name: value for name, value in optional.items() if value is not None} | columns_of(row.provenance)
