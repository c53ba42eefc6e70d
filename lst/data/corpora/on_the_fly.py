"""Reads and writes ``.on_the_fly`` files: JSON lines of words and their speech units.

    {"file_id": "utt_1", "interleaved": "<LST MODE SEP>TEXT hello<LST MODE SEP>HUBERT 12 7 7<LST MODE SEP>TEXT [SIL]…"}

``<LST MODE SEP>`` opens each segment: a word (TEXT), then its units (HUBERT). ``[SIL]`` is the word of a silence. The
units of a word may be empty or left out. Scores, speakers and audio are not part of the format. What is read and
written again has the same tokens, ``file_id`` included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from lst import storage
from lst.data.audio import AUDIO_SUFFIXES
from lst.data.corpora.ids import id_of, with_hash
from lst.data.corpora.manifest import MANIFEST_SUFFIXES
from lst.data.corpora.records import MAX_LINE_BYTES
from lst.data.corpora.row_checks import duration_fault
from lst.data.corpora.rows import ManifestProblem
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.progress import Progress
from lst.storage import FileList, Location, absolute, locate

SUFFIX = ".on_the_fly"
SEPARATOR, SILENCE = "<LST MODE SEP>", "[SIL]"
MAX_UNIT = 65_535


@dataclass(frozen=True)
class UnitRow:
    """A line of an ``.on_the_fly`` file that was checked, to be read again later.

    Attributes:
        id: of the utterance.
        text: its words, joined by spaces.
        place: path or URL of the file.
        offset, num_bytes: the line in the file.
        num_units: units of the utterance.
        max_unit: its largest unit.
        split: ``"train"``, ``"valid"``, or ``""`` if not yet assigned.
    """

    id: str
    text: str
    place: str
    offset: int
    num_bytes: int
    num_units: int
    max_unit: int
    split: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The fields by name."""
        return asdict(self)


def on_the_fly_files(corpus: str | None, listed: FileList | None = None) -> list[Location]:
    """The ``.on_the_fly`` files of a corpus: a named file, or all files in a folder or URL; empty for other corpora.

    Args:
        corpus: a file or a folder, or its URL.
        listed: its files, if they have been listed already.

    Raises:
        UserError: the named file is absent, or the folder also has recordings or manifests.
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
    """Parses a line. The utterance's id is made of ``file_id`` (``id_of``).

    Raises:
        ValueError: the line does not have the format; the message says why.

    >>> line = b'{"file_id": "utt/1", "interleaved": "<LST MODE SEP>TEXT hello<LST MODE SEP>HUBERT 12 7 7"}'
    >>> utterance = parse_line(line, frame_rate_hz=25)
    >>> utterance.id, utterance.words[0][:3], utterance.units.tolist()
    ('utt_1', ('hello', 0, 3), [12, 7, 7])
    """
    record = json.loads(line)
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("file_id", "interleaved")):
        raise ValueError("is not an object with the texts file_id and interleaved")
    if not record["file_id"]:
        raise ValueError("file_id is empty")
    (record["file_id"] + record["interleaved"]).encode()  # a lone surrogate could not be written again
    before, *segments = record["interleaved"].split(SEPARATOR)
    if before.strip():
        raise ValueError(f"interleaved begins with {before[:40]!r}, not with {SEPARATOR}")
    starts: list[tuple[str, int]] = []
    listed: list[int] = []  # units of each segment, −1 where no list of units follows
    units: list[int] = []
    for segment in segments:
        mode, _, content = segment.strip().partition(" ")
        if mode == "TEXT":
            starts.append((content.strip(), len(units)))
            listed.append(-1)
            if not starts[-1][0]:
                raise ValueError("a TEXT segment holds no word")
        elif mode == "HUBERT":
            if not starts or len(units) > starts[-1][1]:
                raise ValueError("a HUBERT segment does not follow the word that it belongs to")
            units += (own := _parse_units(content))
            listed[-1] = len(own)
        else:
            raise ValueError(f"a segment opens with {mode[:40]!r}; allowed are TEXT, HUBERT")
    ends = [*(start for _, start in starts[1:]), len(units)]
    spans = zip(starts, ends, strict=False)  # without a segment, there is an end but no start
    words = [Word(text, start, end, 0.0) for (text, start), end in spans if text != SILENCE]
    numbers = iter(range(len(words)))
    written = tuple(
        (-1 if text == SILENCE else next(numbers), num_units)
        for (text, _), num_units in zip(starts, listed, strict=True)
    )
    utterance = Utterance(
        id=(name := id_of(record["file_id"])),
        speaker="",
        text=" ".join(word.text for word in words),
        duration_s=round(len(units) / frame_rate_hz, 3),
        units=np.array(units, np.uint16),
        words=tuple(words),
        source_id="" if name == record["file_id"] else record["file_id"],
    )
    return utterance if written == _plain_segments(utterance) else replace(utterance, source_segments=written)


def _plain_segments(utterance: Utterance) -> tuple[tuple[int, int], ...]:
    """The segments as they are written where their source does not say: see ``Utterance.source_segments``."""
    return tuple((segment.word, segment.end_frame - segment.start_frame or -1) for segment in utterance.segments())


def _parse_units(content: str) -> list[int]:
    numbers = content.split()
    wrong = [number for number in numbers if not (number.isascii() and number.isdigit() and int(number) <= MAX_UNIT)]
    if wrong:
        raise ValueError(f"{wrong[0][:40]!r} is not a unit: a unit is a whole number from 0 to {MAX_UNIT}")
    return list(map(int, numbers))


def format_line(utterance: Utterance) -> bytes:
    """Formats an utterance as a line without line end; ``UserError`` for a word that the format cannot express."""
    parts = []
    units = utterance.units.tolist()
    position = 0
    for word, num_units in utterance.source_segments or _plain_segments(utterance):
        text = SILENCE if word < 0 else utterance.words[word].text
        if word >= 0 and (SEPARATOR in text or text == SILENCE or text != text.strip() or not text):
            raise UserError(f"utterance {utterance.id!r}: the word {text!r} cannot be written as {SUFFIX}")
        parts.append(f"{SEPARATOR}TEXT {text}")
        if num_units >= 0:
            own = units[position : position + num_units]
            parts.append(f"{SEPARATOR}HUBERT {' '.join(map(str, own))}")
            position += num_units
    name = utterance.source_id or utterance.id
    return json.dumps({"file_id": name, "interleaved": "".join(parts)}, ensure_ascii=False).encode()


def write_on_the_fly(place: Location, utterances: Iterable[Utterance]) -> int:
    """Writes utterances to a path or a URL, atomically; returns their number."""
    count = 0
    with storage.staged(place) as temporary, open(temporary, "wb") as file:
        for utterance in utterances:
            file.write(format_line(utterance) + b"\n")
            count += 1
    return count


def read_row(row: UnitRow, frame_rate_hz: int) -> Utterance:
    """Reads the utterance of a row again; ``UserError`` if the file has changed."""
    place = locate(row.place)
    line = storage.read_range(place, row.offset, row.num_bytes)
    try:
        utterance = parse_line(line, frame_rate_hz)
    except ValueError as error:
        raise UserError(f"{place}, byte {row.offset}: {error}") from None
    if row.id not in _ids_of(utterance) or utterance.num_frames != row.num_units:
        raise UserError(f"{place}, byte {row.offset}: utterance {row.id!r} is no longer there")
    name = utterance.source_id or utterance.id
    return replace(utterance, id=row.id, source_id="" if name == row.id else name)


def _ids_of(utterance: Utterance) -> tuple[str, str]:
    """The id of an utterance, and the one that it gets where another one has that id already."""
    return utterance.id, with_hash(utterance.id, utterance.source_id or utterance.id)


def check_on_the_fly(
    files: Iterable[Location], frame_rate_hz: int, min_duration_s: float, max_duration_s: float, num_units: int
) -> tuple[list[UnitRow], list[ManifestProblem], int]:
    """Reads and checks every line once.

    Args:
        files: the files.
        frame_rate_hz: units a second.
        min_duration_s: shortest utterance allowed, itself included.
        max_duration_s: longest utterance allowed, itself included.
        num_units: size of the codebook; 0 if it is not known.

    Returns:
        The good rows, all problems of the other lines, and the number of lines.
    """
    rows: list[UnitRow] = []
    problems: list[ManifestProblem] = []
    first_places: dict[str, str] = {}
    names: set[str] = set()
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
                if utterance.id in first_places and (name := utterance.source_id or utterance.id) not in names:
                    utterance = replace(utterance, id=with_hash(utterance.id, name))
                names.add(utterance.source_id or utterance.id)
                if utterance.id in first_places:
                    faults.append(f"the id is also at {first_places[utterance.id]}; ids must be unique")
                first_places.setdefault(utterance.id, where)
                problems += [ManifestProblem(where, utterance.id, fault) for fault in faults]
                if not faults:
                    counts = (len(line), utterance.num_frames, int(utterance.units.max()))
                    rows.append(UnitRow(utterance.id, utterance.text, str(file), offset, *counts))
    return rows, problems, num_lines


def _lines(file: Location) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    with storage.open_binary(file) as opened:
        for number, line in enumerate(iter(partial(opened.readline, MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise UserError(f"{file}, line {number} is longer than {MAX_LINE_BYTES:,} bytes: it is no utterance.")
            if line.strip():
                yield number, offset, line.rstrip(b"\n")
            offset += len(line)


def _faults(utterance: Utterance, min_duration_s: float, max_duration_s: float, num_units: int) -> list[str]:
    faults = [] if utterance.words else ["holds no word"]
    if not utterance.num_frames:
        return [*faults, "holds no unit"]
    if fault := duration_fault(utterance.duration_s, min_duration_s, max_duration_s):
        faults.append(fault)
    if num_units and int(utterance.units.max()) >= num_units:
        faults.append(f"unit {utterance.units.max()} is outside the codebook of data.on_the_fly_units={num_units}")
    return faults
