"""Checks rows: ids, transcripts, audio headers, segments. Decides whether work may go on without the bad ones."""

from __future__ import annotations

import itertools
import math
import re
import time
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from lst.data.audio import AudioInfo, described, is_present, probe_audio
from lst.data.audio.read import place_faults, rate_fault
from lst.data.corpora.ids import MAX_ID_CHARS, id_of
from lst.data.corpora.provenance import NULLS
from lst.data.corpora.records import shown
from lst.data.corpora.row_table import RowBlock, RowTable, name_key, repeated, rows_of
from lst.data.corpora.rows import LongFate, ManifestProblem, ManifestRow
from lst.data.utterance import TOLERANCE_S
from lst.errors import ProblemsError, UserError
from lst.parallel import ordered_map
from lst.progress import Progress

DURATION_SLACK_S, DURATION_SLACK_SHARE = 0.1, 0.02  # allowed between a stated duration and the header's
ON_ERROR = ("raise", "skip")
ID_RULE = (
    "must be made of A–Z, a–z, 0–9, _ and - alone: it names the members of a tar file, "
    "where a dot starts the suffix and a slash a folder"
)
_ID = re.compile(r"[A-Za-z0-9_-]+")
_LONG_NUMBER = re.compile(r"\d{1001}")
_SAYABLE = re.compile(r"[A-Za-z0-9]")
# (kind of check, message)
Fault: TypeAlias = tuple[str, str]
Probe: TypeAlias = Callable[[], AudioInfo]
# Headers that a process reads before it hands them over, and those that it reads at the same time where it waits.
PROBED_TOGETHER, PROBES_AHEAD = 128, 32
# By the first headers a process tells whether it waits: so many of them, and seconds a header.
PROBED_FIRST, MOST_WAITING_S = 4, 5e-4
KINDS = (
    "id",
    "transcript",
    "speaker",
    "language",
    "missing audio",
    "unreadable audio",
    "sample rate",
    "duration",
    "segment or channel",
    "timed words",
    "alignment",
)


@dataclass(frozen=True)
class RowChecker:
    """Checks rows, each by itself.

    Attributes:
        min_duration_s: shortest utterance allowed, itself included.
        max_duration_s: longest utterance allowed, itself included.
        fate: what becomes of a row with its duration, if it is a long recording; a function that other processes can be
            sent.
        needs_text: whether a row without a transcript is faulty.
    """

    min_duration_s: float
    max_duration_s: float
    fate: Callable[[ManifestRow], LongFate] | None = None
    needs_text: bool = True

    def check(
        self, row: ManifestRow, probe: Probe, first_place: str = ""
    ) -> tuple[ManifestRow, AudioInfo | None, list[Fault]]:
        """Checks one row.

        Args:
            row: the row; its ``unread`` columns are not checked.
            probe: reads the audio's header; see ``with_probes``.
            first_place: of an earlier row with the same id; see ``places_of_same_ids``.

        Returns:
            The row with the duration from the audio's header; that header if it can be read; all faults of the row.
        """
        faults = [] if "id" in row.unread else _id_faults(row, first_place)
        if "text" not in row.unread and (self.needs_text or row.text.strip()):
            faults += [("transcript", fault) for fault in text_faults(row.text, row.language)]
            if row.text.strip() in NULLS:
                faults.append(
                    ("transcript", f"the transcript is {row.text.strip()!r}, as programs write a missing one")
                )
            num_words = len(row.text.split())
            if row.ending_start_word is not None and not 0 < row.ending_start_word < num_words:
                message = f"ending_start_word {row.ending_start_word} is outside of 1 … {num_words - 1}"
                faults.append(("transcript", message))
        info, audio_faults = (None, []) if row.unread & {"path", "member"} else self._audio(row, probe)
        faults += audio_faults
        if info is not None and not audio_faults:
            row = replace(row, duration_s=utterance_duration_s(row, info))
        if "speaker" not in row.unread and row.speaker in NULLS:
            message = (
                f"the speaker is {row.speaker!r}, as programs write a missing one; leave the cell empty if nobody knows"
            )
            faults.append(("speaker", message))
        faults += [("timed words", fault) for fault in timed_word_faults(row)]
        return row, info, faults

    def check_in_part(self, problems: Iterable[ManifestProblem], whole: RowTable) -> list[ManifestProblem]:
        """Checks the rows that could be read only in part. An id belongs to a whole row if there is one.

        Returns:
            The new problems of these rows.
        """
        rows = [problem.row for problem in problems if problem.row is not None]
        places = _places_of({row.id for row in rows}, whole) if rows else {}
        found = []
        for row, probe in with_probes(rows):
            found += row_problems(row, self.check(row, probe, places.get(row.id, ""))[2])
            if "id" not in row.unread:
                places.setdefault(row.id, _place_of(row))
        return found

    def _audio(self, row: ManifestRow, probe: Probe) -> tuple[AudioInfo | None, list[Fault]]:
        """The audio's header, and every fault of the audio."""
        name = described(row.path, row.member)
        if not is_present(row.path):
            return None, [("missing audio", f"transcript without audio: {row.path} does not exist")]
        try:
            info = probe()
        except UserError as error:
            return None, [("unreadable audio", f"audio: {error}")]
        if info.num_frames == 0:
            return None, [("unreadable audio", f"audio: {name} is empty, its duration is 0 s")]
        fault = rate_fault(info.sample_rate_hz)
        faults = [("sample rate", f"audio: {name} {fault}")] if fault else []
        places = place_faults(row, info.duration_s, info.num_channels)
        faults += [("segment or channel", fault) for fault in places]
        if not places and not row.unread & {"start_s", "duration_s"}:
            faults += [("duration", fault) for fault in self._duration(row, info)]
        return info, faults

    def _duration(self, row: ManifestRow, info: AudioInfo) -> list[str]:
        faults = []
        duration_s = utterance_duration_s(row, info)
        fault = duration_fault(duration_s, self.min_duration_s, self.max_duration_s)
        if fault:
            fate = LongFate() if self.fate is None else self.fate(replace(row, duration_s=duration_s))
            why = fate.why_whole
            told = f"; it is not cut, as {why}: data.align.method=ctc cuts it" if why else ""
            faults += [] if fate.is_cut else [fault + told]
        slack_s = DURATION_SLACK_S + DURATION_SLACK_SHARE * info.duration_s
        if not row.is_segment and row.duration_s is not None and abs(row.duration_s - info.duration_s) > slack_s:
            stated = f"{row.duration_s:.2f}" if row.duration_s < 1e6 else f"{row.duration_s:g}"
            faults.append(f"duration is stated as {stated} s, but the audio has {info.duration_s:.2f} s")
        return faults


def _id_faults(row: ManifestRow, first_place: str) -> list[Fault]:
    faults = [] if is_well_formed_id(row.id) else [("id", f"id {shown(row.id, 200)} {ID_RULE}")]
    if len(row.id) > MAX_ID_CHARS:
        faults.append(("id", f"id {shown(row.id)} has {len(row.id):,} characters, at most {MAX_ID_CHARS} are allowed"))
    if first_place:
        faults.append(("id", f"the id is also at {first_place}; ids must be unique"))
    return faults


def _place_of(row: ManifestRow) -> str:
    return row.place or str(row.path)


def places_of_same_ids(rows: RowTable) -> dict[int, str]:
    """For each row whose id an earlier one has, by its number: the place of the first of them."""
    firsts, found = dict[str, str](), dict[int, str]()
    for number in repeated(rows.id_keys).tolist():
        row = rows[number]
        if "id" in row.unread:
            continue
        if row.id in firsts:
            found[number] = firsts[row.id]
        firsts.setdefault(row.id, _place_of(row))
    return found


def _places_of(ids: set[str], rows: RowTable) -> dict[str, str]:
    """The place of the first row with each of these ids, where there is one."""
    keys = [name_key(made) for name in ids for made in {name, id_of(name)}]
    places: dict[str, str] = {}
    for number in np.flatnonzero(np.isin(rows.id_keys, np.array(keys, np.uint64))).tolist():
        row = rows[number]
        if row.id in ids and "id" not in row.unread:
            places.setdefault(row.id, _place_of(row))
    return places


def is_well_formed_id(name: str) -> bool:
    """Whether an id has only letters, digits, ``_`` and ``-``.

    >>> is_well_formed_id("p225_001"), is_well_formed_id("p225/001")
    (True, False)
    """
    return _ID.fullmatch(name) is not None


def duration_fault(duration_s: float, min_duration_s: float, max_duration_s: float) -> str:
    """Why an utterance has a wrong length; empty if it has not.

    >>> duration_fault(0.2, 0.5, 30)
    'is too short: 0.20 s, allowed are 0.5 to 30 s'
    """
    if min_duration_s <= duration_s <= max_duration_s:
        return ""
    kind = "short" if duration_s < min_duration_s else "long"
    return f"is too {kind}: {duration_s:.2f} s, allowed are {min_duration_s:g} to {max_duration_s:g} s"


def utterance_duration_s(row: ManifestRow, info: AudioInfo) -> float:
    """Seconds of the row's audio: of its file, or of its segment."""
    if not row.is_segment:
        return info.duration_s
    left_s = info.duration_s - row.start_s
    return left_s if row.duration_s is None else min(row.duration_s, left_s)


def timed_word_faults(row: ManifestRow) -> list[str]:
    """Faults in the times of a row's words: order, length, place."""
    faults = []
    previous_end_s = 0.0
    for number, word in enumerate(row.words):
        name = f"word {number} ({shown(word.text, 30)}), {word.start_s:g} to {word.end_s:g} s,"
        if not word.text.strip():
            faults.append(f"word {number} is empty")
        if word.end_s < word.start_s:
            faults.append(f"{name} ends before it starts")
        if word.start_s < previous_end_s - TOLERANCE_S:
            faults.append(f"{name} starts before the one before it ends ({previous_end_s:g} s)")
        if row.duration_s is not None and word.end_s > row.duration_s + TOLERANCE_S:
            faults.append(f"{name} ends after the utterance ({row.duration_s:g} s)")
        previous_end_s = max(previous_end_s, word.end_s)
    return faults


def check_rows(
    rows: Sequence[ManifestRow],
    min_duration_s: float,
    max_duration_s: float,
    found: Sequence[ManifestProblem] = (),
    num_workers: int = 1,
    fate: Callable[[ManifestRow], LongFate] | None = None,
    needs_text: bool = True,
) -> tuple[RowTable, list[ManifestProblem]]:
    """Checks ids, transcripts and audio headers of all rows in one pass.

    Of the rows with the same id, the first is kept. A segment must lie within its file; channels and members of tars
    must exist. Damage behind a good header is only found when the file is decoded.

    Args:
        rows: the rows that were read completely.
        min_duration_s: shortest utterance allowed, itself included.
        max_duration_s: longest utterance allowed, itself included.
        found: problems of the other rows; those read in part are checked too.
        num_workers: processes that check; small corpora need no second one.
        fate, needs_text: as of ``RowChecker``.

    Returns:
        The good rows in their order, with ``duration_s`` from the audio's header, and all problems except ``found``.
        Neither depends on ``num_workers``.
    """
    table, good, problems = RowTable.of(rows), RowTable(), list[ManifestProblem]()
    checker = RowChecker(min_duration_s, max_duration_s, fate, needs_text)
    with Progress(len(table), "checking the manifest", unit="file") as progress:
        for block, faulty, num_rows in ordered_map(partial(_check_some, checker), jobs_of(table), num_workers):
            good.add(block)
            problems += faulty
            progress.advance(num_rows)
    return good, [*problems, *checker.check_in_part(found, table)]


class CheckJob(NamedTuple):
    """Rows that one process checks together.

    Attributes:
        start: number of the first of them in the corpus.
        content: for ``rows_of``.
        same_ids: of ``places_of_same_ids``, by number in the corpus.
    """

    start: int
    content: bytes
    same_ids: dict[int, str]

    def probed(self) -> Iterator[tuple[ManifestRow, Probe, str]]:
        """The arguments of ``RowChecker.check`` for each of them."""
        for number, (row, probe) in enumerate(with_probes(rows_of(self.content)), self.start):
            yield row, probe, self.same_ids.get(number, "")


def jobs_of(rows: RowTable) -> Iterator[CheckJob]:
    """The rows in jobs that do not depend on the number of workers."""
    same_ids = places_of_same_ids(rows)
    numbers = sorted(same_ids)
    for start, content in zip(itertools.count(0, PROBED_TOGETHER), rows.contents(PROBED_TOGETHER), strict=False):
        own = numbers[bisect_left(numbers, start) : bisect_left(numbers, start + PROBED_TOGETHER)]
        yield CheckJob(start, content, {number: same_ids[number] for number in own})


def _check_some(checker: RowChecker, job: CheckJob) -> tuple[RowBlock, list[ManifestProblem], int]:
    """The good rows of a job, the problems of the others, and how many rows it has."""
    good, problems, num_rows = list[ManifestRow](), list[ManifestProblem](), 0
    for row, probe, first_place in job.probed():
        checked, _, faults = checker.check(row, probe, first_place)
        problems += row_problems(row, faults)
        good += [] if faults else [checked]
        num_rows += 1
    return RowBlock.of(good), problems, num_rows


def with_probes(rows: Sequence[ManifestRow]) -> Iterator[tuple[ManifestRow, Probe]]:
    """Yields the rows in order, each with a function that gives its audio's header.

    Headers are read ahead, many at a time where they wait for a network or a disk.
    """
    for start in range(0, len(rows), PROBED_TOGETHER):
        some = rows[start : start + PROBED_TOGETHER]
        # What of a row could not be read is not looked for.
        places = [("", "") if row.unread & {"path", "member"} else (row.path, row.member) for row in some]
        for row, info in zip(some, _probe_many(places), strict=True):
            yield row, partial(_told, info)


def _probe_many(places: Sequence[tuple[Path | str, str]]) -> list[AudioInfo | tuple[str, ...]]:
    """The headers of some files, or what is wrong with them, as not every error can be sent by a process.

    Where the first of them mostly waited, the others are read by many threads. Members of a tar follow one another.
    """
    found = []
    started_s, worked_s = time.perf_counter(), time.thread_time()
    for place in places[:PROBED_FIRST]:
        found.append(_probe(place))
    waited_s = (time.perf_counter() - started_s) - (time.thread_time() - worked_s)
    rest = places[PROBED_FIRST:]
    if rest and waited_s > MOST_WAITING_S * len(found) and not any(member for _, member in rest):
        with ThreadPoolExecutor(PROBES_AHEAD) as pool:
            return [*found, *pool.map(_probe, rest)]
    return [*found, *map(_probe, rest)]


def _probe(place: tuple[Path | str, str]) -> AudioInfo | tuple[str, ...]:
    path, member = place
    if not str(path) or not is_present(path):
        return (f"{path} does not exist or is not a file.",)
    try:
        return probe_audio(path, member)
    except UserError as error:
        return error.args


def _told(found: AudioInfo | tuple[str, ...]) -> AudioInfo:
    if isinstance(found, AudioInfo):
        return found
    raise UserError(*found)


def row_problems(row: ManifestRow, faults: Iterable[Fault]) -> list[ManifestProblem]:
    """The faults of a row as problems with its place."""
    place = _place_of(row)
    return [ManifestProblem(place, row.id, message, row.path, kind) for kind, message in faults]


def text_faults(text: str, language: str = "") -> list[str]:
    """Faults of a transcript: it is empty or cannot be said, or, if it is English, has letters of another script.

    Accents are allowed (``é`` counts as ``e``), and so are other Latin letters (``æ``) beside English ones. Digits are
    said. Other languages have letters of any script.

    Args:
        text: the transcript.
        language: code of its language; empty for English.

    >>> text_faults("café"), text_faults("42"), text_faults("—")
    ([], [], ["the transcript has no letter a–z and no digit: '—'"])
    """
    if not text.strip():
        return ["the transcript is empty"]
    if _LONG_NUMBER.search(text):
        return ["the transcript has a number of more than 1,000 digits, which no aligner reads"]
    if language:
        return [] if any(map(str.isalnum, text)) else [f"the transcript has no letter and no digit: {shown(text)}"]
    if text.isascii() and _SAYABLE.search(text):
        return []
    plain = unicodedata.normalize("NFKD", text)  # splits off accents, which are not letters
    letters = dict.fromkeys(char for char in plain if char.isalpha() and unicodedata.category(char) != "Lm")
    names = {letter: unicodedata.name(letter, "unnamed") for letter in letters}
    foreign = [letter for letter, name in names.items() if not name.startswith("LATIN ")]
    faults = []
    if not any("a" <= letter.lower() <= "z" for letter in letters) and not any("0" <= char <= "9" for char in plain):
        faults.append(f"the transcript has no letter a–z and no digit: {shown(text)}")
    if foreign:
        scripts = dict.fromkeys(names[letter].split()[0].capitalize() for letter in foreign)
        examples = " ".join(repr(letter) for letter in foreign[:10]) + (" …" if len(foreign) > 10 else "")
        faults.append(
            f"the transcript has letters that are not English: {examples} ({', '.join(scripts)}); if it is in another "
            "language, say so with data.language=CODE"
        )
    return faults


def num_bad_rows(problems: Sequence[ManifestProblem]) -> int:
    """Counts the utterances in ``problems``; an utterance may have several problems."""
    return len({(problem.place, problem.id) for problem in problems})


def apply_on_error(
    problems: Sequence[ManifestProblem],
    num_rows: int,
    on_error: str,
    max_skipped_share: float,
    subject: str,
    hint: str = "",
    noun: str = "utterance",
) -> None:
    """Raises an error if work may not go on without the utterances, or other rows, that have problems.

    Args:
        problems: all problems; the caller records them if it goes on.
        num_rows: number of rows, good and bad.
        on_error: ``"raise"`` (any problem is an error) or ``"skip"``.
        max_skipped_share: with ``"skip"``, the largest allowed share of bad rows, 0 to 1.
        subject: what was checked, for the error.
        hint: another way out, for the end of the error.
        noun: what a row is.

    Raises:
        UserError: an option is out of its range.
        ProblemsError: work may not go on.
    """
    if on_error not in ON_ERROR or not 0 <= max_skipped_share <= 1:
        raise UserError(
            f"on_error={on_error} must be raise or skip, max_skipped_share={max_skipped_share} must be 0 to 1."
        )
    if not problems:
        return
    lines, bad = [str(problem) for problem in problems], num_bad_rows(problems)
    more = f" {hint}" if hint else ""
    of_all, share = f"{bad:,} of {num_rows:,} {noun}s", bad / max(num_rows, 1)
    if on_error == "raise":
        limit = f"allowed up to max_skipped_share={max_skipped_share:g}"
        raise ProblemsError(subject, lines, f"Correct them, or leave out {of_all} with on_error=skip ({limit}).{more}")
    subject = f"{subject}: {of_all} ({share:.1%}) would be skipped, allowed are {max_skipped_share:.1%}"
    if bad >= num_rows:
        raise ProblemsError(subject, lines, f"Correct them: no {noun} would be left.{more}")
    if share > max_skipped_share:
        enough = math.ceil(share * 1000) / 1000
        raise ProblemsError(subject, lines, f"Correct them, or allow more with max_skipped_share={enough:g}.{more}")
