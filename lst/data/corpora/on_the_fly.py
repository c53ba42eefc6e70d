"""``.on_the_fly`` files: JSON lines of words and their speech units, read as a corpus and written from one.

    {"file_id": "utt_1", "interleaved": "<LST MODE SEP>TEXT hello<LST MODE SEP>HUBERT 12 7 7<LST MODE SEP>TEXT [SIL]…"}

Segments are opened by ``<LST MODE SEP>``: a word, then its units; ``[SIL]`` is the word of a silence; a word may own no
units, and then its units' segment is empty or not there. Scores, speakers and audio are not part of the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lst import storage
from lst.data.audio import AUDIO_SUFFIXES
from lst.data.corpora.manifest import MANIFEST_SUFFIXES, ManifestProblem
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.progress import Progress
from lst.storage import FileList, Location, absolute, locate

SUFFIX = ".on_the_fly"
SEPARATOR, SILENCE = "<LST MODE SEP>", "[SIL]"
MAX_UNIT = 65_535
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class UnitRow:
    """An utterance of such a file: where its line lies, and what must be known before it is read again."""

    id: str
    text: str
    place: str
    offset: int
    num_bytes: int
    num_units: int
    max_unit: int
    split: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def on_the_fly_files(corpus: str | None, listed: FileList | None = None) -> list[Location]:
    """The files that ``corpus`` names: one, or all of a folder (or URL) that holds some; else none.

    Args:
        corpus: a file or a folder, or its URL.
        listed: its files, if they have been listed already.

    Raises:
        UserError: the one file that it names is absent, or the folder holds recordings too.
    """
    if corpus is None:
        return []
    place = absolute(corpus)
    if place.name.endswith(SUFFIX):
        if not storage.exists(place):
            raise UserError(f"corpus {place} does not exist. Name an {SUFFIX} file, or a folder of some.")
        return [place]
    names = storage.list_sizes(place) if listed is None else listed.top
    files: list[Location] = [place / name for name in names if name.endswith(SUFFIX)]
    others = [name for name in names if name.lower().endswith((*MANIFEST_SUFFIXES, *AUDIO_SUFFIXES, ".tar"))]
    if files and others:
        raise UserError(
            f"corpus {place} holds {len(files)} {SUFFIX} files beside audio or lists ({others[0]}): name one file "
            f"(corpus={files[0]}), or move the {SUFFIX} files to a folder of their own"
        )
    return files


def parse_line(line: bytes, frame_rate_hz: int) -> Utterance:
    """The utterance of one line; its id is ``file_id`` with ``_`` for what an id may not hold.

    Raises:
        ValueError: the line is not of the format, and why.
    """
    record = json.loads(line)
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("file_id", "interleaved")):
        raise ValueError("is no object with the texts file_id and interleaved")
    if not record["file_id"]:
        raise ValueError("file_id is empty")
    (record["file_id"] + record["interleaved"]).encode()  # a lone surrogate could not be written again
    before, *segments = record["interleaved"].split(SEPARATOR)
    if before.strip():
        raise ValueError(f"interleaved begins with {before[:40]!r}, not with {SEPARATOR}")
    words: list[Word] = []
    units: list[int] = []
    current: str | None = None
    start = 0
    for segment in segments:
        mode, _, content = segment.strip().partition(" ")
        if mode == "TEXT":
            _close_word(words, current, start, len(units))
            current, start = content.strip(), len(units)
            if not current:
                raise ValueError("a TEXT segment holds no word")
        elif mode == "HUBERT":
            if current is None or len(units) > start:
                raise ValueError("a HUBERT segment does not follow the word that it belongs to")
            units += _parse_units(content)
        else:
            raise ValueError(f"a segment opens with {mode[:40]!r}; allowed are TEXT, HUBERT")
    _close_word(words, current, start, len(units))
    return Utterance(
        id=_NOT_OF_AN_ID.sub("_", record["file_id"]),
        speaker="",
        text=" ".join(word.text for word in words),
        duration_s=round(len(units) / frame_rate_hz, 3),
        units=np.array(units, np.uint16),
        words=tuple(words),
    )


def _close_word(words: list[Word], text: str | None, start: int, end: int) -> None:
    if text is not None and text != SILENCE:
        words.append(Word(text, start, end, 0.0))


def _parse_units(content: str) -> list[int]:
    numbers = content.split()
    wrong = [number for number in numbers if not (number.isascii() and number.isdigit() and int(number) <= MAX_UNIT)]
    if wrong:
        raise ValueError(f"{wrong[0][:40]!r} is no unit: a whole number from 0 to {MAX_UNIT}")
    return list(map(int, numbers))


def format_line(utterance: Utterance) -> bytes:
    """An utterance as a line, without its end; raises ``UserError`` for a word that the format cannot hold."""
    parts = []
    for segment in utterance.segments():
        text = SILENCE if segment.word < 0 else utterance.words[segment.word].text
        if segment.word >= 0 and (SEPARATOR in text or text == SILENCE or text != text.strip() or not text):
            raise UserError(f"utterance {utterance.id!r}: the word {text!r} cannot be written as {SUFFIX}")
        units = utterance.units[segment.start_frame : segment.end_frame].tolist()
        parts.append(f"{SEPARATOR}TEXT {text}")
        if units:
            parts.append(f"{SEPARATOR}HUBERT {' '.join(map(str, units))}")
    return json.dumps({"file_id": utterance.id, "interleaved": "".join(parts)}, ensure_ascii=False).encode()


def write_on_the_fly(place: Location, utterances: Iterable[Utterance]) -> int:
    """Writes utterances, whole or not at all, to a path or a URL; returns how many there were."""
    count = 0
    with storage.staged(place) as temporary, open(temporary, "wb") as file:
        for utterance in utterances:
            file.write(format_line(utterance) + b"\n")
            count += 1
    return count


def read_row(row: UnitRow, frame_rate_hz: int) -> Utterance:
    """The utterance of a row; raises ``UserError`` where the file has changed since."""
    place = locate(row.place)
    line = storage.read_range(place, row.offset, row.num_bytes)
    try:
        utterance = parse_line(line, frame_rate_hz)
    except ValueError as error:
        raise UserError(f"{place}, byte {row.offset}: {error}") from None
    if (utterance.id, utterance.num_frames) != (row.id, row.num_units):
        raise UserError(f"{place}, byte {row.offset}: utterance {row.id!r} is no longer there")
    return utterance


def check_on_the_fly(
    files: Iterable[Location], frame_rate_hz: int, min_duration_s: float, max_duration_s: float, num_units: int
) -> tuple[list[UnitRow], list[ManifestProblem], int]:
    """Reads every line once.

    Args:
        files: the files.
        frame_rate_hz: units a second.
        min_duration_s: shorter utterances are a problem.
        max_duration_s: longer ones too.
        num_units: size of the codebook; 0 where it is to be found.

    Returns:
        The good rows, every problem of the others, and how many lines there were.
    """
    rows: list[UnitRow] = []
    problems: list[ManifestProblem] = []
    first_places: dict[str, str] = {}
    num_lines = 0
    with Progress(sum(map(storage.size, files := list(files))), "checking the utterances", unit="byte") as progress:
        for file in files:
            for number, offset, line in _lines(file):
                num_lines += 1
                progress.advance(len(line) + 1)
                where = f"{locate(file).name}, line {number}"
                try:
                    utterance = parse_line(line, frame_rate_hz)
                except (ValueError, RecursionError) as error:
                    problems.append(ManifestProblem(where, "", str(error)))
                    continue
                faults = _faults(utterance, min_duration_s, max_duration_s, num_units)
                if utterance.id in first_places:
                    faults.append(f"the id is there before, at {first_places[utterance.id]}; ids must be unique")
                first_places.setdefault(utterance.id, where)
                problems += [ManifestProblem(where, utterance.id, fault) for fault in faults]
                if not faults:
                    largest = int(utterance.units.max())
                    rows.append(
                        UnitRow(
                            utterance.id, utterance.text, str(file), offset, len(line), utterance.num_frames, largest
                        )
                    )
    return rows, problems, num_lines


def _lines(file: Location) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    with storage.open_binary(file) as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                yield number, offset, line.rstrip(b"\n")
            offset += len(line)


def _faults(utterance: Utterance, min_duration_s: float, max_duration_s: float, num_units: int) -> list[str]:
    faults = [] if utterance.words else ["holds no word"]
    if not utterance.num_frames:
        return [*faults, "holds no unit"]
    if not min_duration_s <= utterance.duration_s <= max_duration_s:
        kind = "short" if utterance.duration_s < min_duration_s else "long"
        allowed = f"{min_duration_s:g} to {max_duration_s:g} s"
        faults.append(f"is too {kind}: {utterance.duration_s:.2f} s, allowed are {allowed}")
    if num_units and int(utterance.units.max()) >= num_units:
        faults.append(f"unit {utterance.units.max()} is outside the codebook of data.on_the_fly_units={num_units}")
    return faults
