"""The manifest: one row an utterance, with its audio file and its transcript; read, written and checked here.

    manifest.{jsonl,tsv,csv} ── parse_manifest ──► rows ── check_rows ──► good rows
                                      └─ problems ─────────┴─ problems ──► apply_on_error: raise, or leave rows out

Nothing is dropped in silence: what cannot be used comes back as a ``ManifestProblem`` with its place.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lst.data.audio import AudioInfo, probe_audio
from lst.errors import ProblemsError, UserError, raise_problems
from lst.files import write_jsonl
from lst.progress import Progress

# Names a column may have, compared in lower case; where a row has several of them, the first one counts.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "key", "file_id", "utterance_id"),
    "path": ("path", "audio", "audio_path", "audio_filepath", "file", "wav", "filename", "file_name"),
    "text": ("text", "transcript", "transcription", "sentence", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "duration_s": ("duration_s", "duration", "seconds"),
    "split": ("split", "subset"),
    "ending_start_word": ("ending_start_word",),
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
DURATION_SLACK_S, DURATION_SLACK_SHARE = 0.1, 0.02  # allowed between a stated duration and the header's
ON_ERROR = ("raise", "skip")
ID_RULE = (
    "must be made of A–Z, a–z, 0–9, _ and - alone: it names the members of a tar file, "
    "where a dot starts the suffix and a slash a folder"
)
_ID = re.compile(r"[A-Za-z0-9_-]+")
_VALID_SPLIT = re.compile(r"(dev|valid|validation|val|test|eval)([\W_\d].*)?")


@dataclass(frozen=True)
class ManifestRow:
    """One utterance of a corpus."""

    id: str  # names it everywhere; letters, digits, _ and -
    path: Path  # its audio file, absolute when read from a manifest
    text: str  # its transcript as given
    speaker: str = UNKNOWN_SPEAKER
    split: str = ""  # "train", "valid" or, not yet assigned, ""
    duration_s: float | None = None  # as stated; as in the audio's header after check_rows
    ending_start_word: int | None = None  # the ending's first word in text.split(), where sentence ends are known
    place: str = field(default="", compare=False, repr=False)  # where the row stands, for messages


@dataclass(frozen=True)
class ManifestProblem:
    """Why one utterance cannot be used: its place (a line or a file), its id and audio file if known, the reason."""

    place: str
    id: str
    message: str
    path: Path | None = None

    def __str__(self) -> str:
        name = f" (id {self.id!r})" if self.id else ""
        return f"{self.place}{name}: {self.message}"


def read_utf8(path: Path) -> str:
    """Reads a text file as UTF-8, with or without a byte-order mark; ``UserError`` where that cannot be done."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}. "
            f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {path.name} > utf8_{path.name}"
        ) from None


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
    text = read_utf8(path)
    records = _json_records(text) if path.suffix.lower() == ".jsonl" else _table_records(path, text)
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
        row, faults = _parse_row(record, f"line {line}", path.parent.absolute())
        problems += [ManifestProblem(row.place, row.id, fault, row.path) for fault in faults]
        if not faults:
            rows.append(row)
    return rows, problems


def _shown(text: str, num_chars: int = 60) -> str:
    """The start of a text, quoted, for a message."""
    return repr(text[:num_chars]) + ("…" if len(text) > num_chars else "")


def _json_records(text: str) -> list[tuple[int, dict[str, Any] | str]]:
    """Lines of JSON as (line number, object with lower-case keys, or what is wrong with the line)."""
    records: list[tuple[int, dict[str, Any] | str]] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
            # An escape such as \ud800 alone is no character and cannot be written again.
            json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            records.append((line, f"not JSON ({error}): {_shown(content)}"))
            continue
        if isinstance(record, dict):
            records.append((line, {name.strip().lower(): value for name, value in record.items()}))
        else:
            records.append((line, f"not a JSON object: {_shown(content)}"))
    return records


def _table_records(path: Path, text: str) -> list[tuple[int, dict[str, Any] | str]]:
    """Lines of a table as (line number, cells by lower-case column name, or what is wrong with the line)."""
    cells = _table_cells(path, text)
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


def _table_cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not blank; broken quoting is an error, as it may hide lines."""
    tabs = path.suffix.lower() == ".tsv"
    rules: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), **rules)
    cells, start_line = [], 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                cells.append((start_line, values))
            start_line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"manifest {path}, line {start_line} cannot be split into cells ({error}). In CSV, a cell that holds "
            'a comma, a quote or a line break stands in "…" with quotes inside doubled; TSV needs no quotes.'
        ) from None
    return cells


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


def _parse_row(record: dict[str, Any], place: str, folder: Path) -> tuple[ManifestRow, list[str]]:
    """A record as a row, and what is wrong with it; a faulty row only serves to name itself."""
    faults: list[str] = []
    cells = {name: _cell(record, name, faults) for name in ALIASES}
    path = cells["path"].strip()
    if not path or "\0" in path:
        faults.append("the audio file's name holds a NUL character" if path else "names no audio file")
    if not set(ALIASES["text"]) & set(record):
        faults.append("has no transcript")
    split = split_of(cells["split"])
    if split is None:
        faults.append(f"split {cells['split']!r} is unknown; allowed are {SPLITS_ALLOWED}")
    ending = _number(cells["ending_start_word"], "ending_start_word", faults, whole=True)
    row = ManifestRow(
        id=cells["id"].strip() or Path(path).stem,
        path=folder / path,
        text=cells["text"],
        speaker=cells["speaker"].strip() or UNKNOWN_SPEAKER,
        split=split or "",
        duration_s=_number(cells["duration_s"], "duration", faults),
        ending_start_word=None if ending is None else int(ending),
        place=place,
    )
    return row, faults


def _cell(record: dict[str, Any], name: str, faults: list[str]) -> str:
    """A cell as text; absent and null ones are empty."""
    value = next((record[alias] for alias in ALIASES[name] if alias in record), None)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        faults.append(f"{name} must be text or a number, not {json.dumps(value)[:60]}")
        return ""
    return str(value)


def _number(cell: str, name: str, faults: list[str], whole: bool = False) -> float | None:
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
    columns = ("text", "speaker", "split", "duration_s", "ending_start_word")
    records = [
        {"id": row.id, "path": str(row.path.absolute()), **{name: getattr(row, name) for name in columns}}
        for row in rows
    ]
    write_jsonl(path, records)


def check_rows(
    rows: Sequence[ManifestRow], min_duration_s: float, max_duration_s: float
) -> tuple[list[ManifestRow], list[ManifestProblem]]:
    """Checks ids, transcripts and audio headers of all rows in one pass; durations are seconds, both ends allowed.

    Of the rows with one id the first is kept. A file damaged behind a sound header is found when it is decoded.

    Returns the good rows in their order, with ``duration_s`` from the audio's header, and every problem of the others.
    """
    good: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    first_places: dict[str, str] = {}
    with Progress(len(rows), "checking the manifest", unit="file") as progress:
        for row in rows:
            place = row.place or str(row.path)
            faults = [] if _ID.fullmatch(row.id) else [f"id {row.id!r} {ID_RULE}"]
            faults += text_faults(row.text)
            if row.id in first_places:
                faults.append(f"the id is there before, at {first_places[row.id]}; ids must be unique")
            first_places.setdefault(row.id, place)
            num_words = len(row.text.split())
            if row.ending_start_word is not None and not 0 < row.ending_start_word < num_words:
                faults.append(f"ending_start_word {row.ending_start_word} is outside of 1 … {num_words - 1}")
            info, audio_faults = _audio_faults(row, min_duration_s, max_duration_s)
            faults += audio_faults
            problems += [ManifestProblem(place, row.id, fault, row.path) for fault in faults]
            if info is not None and not faults:
                good.append(replace(row, duration_s=info.duration_s))
            progress.advance()
    return good, problems


def text_faults(text: str) -> list[str]:
    """What keeps a transcript from being read as English: empty, no letter a–z, letters of another script.

    Accents are no fault (``é`` counts as ``e``), nor are the other Latin letters (``æ``) beside English ones.
    """
    if not text.strip():
        return ["the transcript is empty"]
    plain = unicodedata.normalize("NFKD", text)  # an accent becomes a mark of its own, which is no letter
    letters = dict.fromkeys(char for char in plain if char.isalpha() and unicodedata.category(char) != "Lm")
    names = {letter: unicodedata.name(letter, "unnamed") for letter in letters}
    foreign = [letter for letter, name in names.items() if not name.startswith("LATIN ")]
    faults = []
    if not any("a" <= letter.lower() <= "z" for letter in letters):
        faults.append(f"the transcript has no letter a–z: {_shown(text)}")
    if foreign:
        scripts = dict.fromkeys(names[letter].split()[0].capitalize() for letter in foreign)
        shown = " ".join(repr(letter) for letter in foreign[:10]) + (" …" if len(foreign) > 10 else "")
        faults.append(f"the transcript has letters that are not English: {shown} ({', '.join(scripts)})")
    return faults


def _audio_faults(row: ManifestRow, min_duration_s: float, max_duration_s: float) -> tuple[AudioInfo | None, list[str]]:
    """The audio's header, and what is wrong with it."""
    if not os.path.exists(row.path):
        return None, [f"transcript without audio: {row.path} does not exist"]
    try:
        info = probe_audio(row.path)
    except UserError as error:
        return None, [f"audio: {error}"]
    if info.num_frames == 0:
        return None, [f"audio: {row.path} is empty, its duration is 0 s"]
    faults = []
    if not min_duration_s <= info.duration_s <= max_duration_s:
        kind = "too short" if info.duration_s < min_duration_s else "too long"
        faults.append(f"is {kind}: {info.duration_s:.2f} s, allowed are {min_duration_s:g} to {max_duration_s:g} s")
    slack_s = DURATION_SLACK_S + DURATION_SLACK_SHARE * info.duration_s
    if row.duration_s is not None and abs(row.duration_s - info.duration_s) > slack_s:
        faults.append(f"duration is stated as {row.duration_s:.2f} s, but the audio has {info.duration_s:.2f} s")
    return info, faults


def num_bad_rows(problems: Sequence[ManifestProblem]) -> int:
    """How many utterances ``problems`` are about; one may have several."""
    return len({(problem.place, problem.id) for problem in problems})


def apply_on_error(
    problems: Sequence[ManifestProblem], num_rows: int, on_error: str, max_skipped_share: float, subject: str
) -> None:
    """Decides whether work may go on without the utterances that have ``problems``; returning means yes.

    Args:
        problems: all of them; the caller records them when it goes on.
        num_rows: utterances seen, good and bad together.
        on_error: ``"raise"`` (any problem raises) or ``"skip"``.
        max_skipped_share: with ``"skip"``, the largest share of bad utterances, 0 to 1.
        subject: what was checked, for the error.

    Raises:
        UserError: an option is out of its range; else a ``ProblemsError``.
    """
    if on_error not in ON_ERROR or not 0 <= max_skipped_share <= 1:
        raise UserError(
            f"on_error={on_error} must be raise or skip, max_skipped_share={max_skipped_share} must be 0 to 1."
        )
    if not problems:
        return
    lines, bad = [str(problem) for problem in problems], num_bad_rows(problems)
    of_all, share = f"{bad:,} of {num_rows:,} utterances", bad / max(num_rows, 1)
    if on_error == "raise":
        limit = f"allowed up to max_skipped_share={max_skipped_share:g}"
        raise ProblemsError(subject, lines, f"Mend them, or leave {of_all} out with on_error=skip ({limit}).")
    subject = f"{subject}: {of_all} ({share:.1%}) would be skipped, allowed are {max_skipped_share:.1%}"
    if bad >= num_rows:
        raise ProblemsError(subject, lines, "Mend them: nothing would be left.")
    if share > max_skipped_share:
        enough = math.ceil(share * 1000) / 1000
        raise ProblemsError(subject, lines, f"Mend them, or allow more with max_skipped_share={enough:g}.")
