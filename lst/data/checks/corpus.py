"""Checks recordings before they are prepared: every problem of every row, and what the corpus is like."""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lst import storage
from lst.data.alignment import imported_faults
from lst.data.alignment.known_languages import language_problems
from lst.data.audio import AudioInfo
from lst.data.audio.levels import AudioLevels, measured_faults
from lst.data.checks.content import AudioContent, TextContent
from lst.data.checks.report import CheckReport
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow, check_on_the_fly, load_corpus
from lst.data.corpora.row_checks import Fault, RowChecker, row_problems, with_probes
from lst.data.corpora.row_languages import name_notes
from lst.data.recordings.cut import is_cut
from lst.data.shards import NO_SOURCE, SourceHours, licence_warnings, source_lines
from lst.errors import UserError
from lst.progress import Progress
from lst.storage import Location

# Faults with which decoding an utterance tells nothing more.
NOT_DECODED = ("missing audio", "unreadable audio", "sample rate", "segment or channel")
DECODED_AHEAD = 4  # utterances a thread
DECODED_S = 120.0  # of a long recording at a time
MOST_SOURCES = 32  # that are told one by one
# Archives and audio of other kinds.
UNREAD_SUFFIXES = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar", ".m4a", ".aac", ".mp4", ".webm"),
    *(".wma", ".aif", ".aiff", ".au", ".sph", ".amr", ".arrow", ".ark", ".caf"),
)
RATE_HZ = 16_000  # what all audio is brought to
MIN_WORDS_A_SECOND, MAX_WORDS_A_SECOND = 0.3, 7.0  # outside of these a transcript seldom fits its audio


def check_corpus(
    path: Location,
    layout: str,
    min_duration_s: float,
    max_duration_s: float,
    decode: bool,
    max_examples: int,
    align: AlignConfig | None = None,
    num_workers: int = 1,
    data: DataConfig | None = None,
    language: str | None = None,
    seen: Callable[[ManifestRow, AudioLevels | None], None] | None = None,
) -> CheckReport:
    """Checks ids, transcripts, audio files, rates, channels, segments, durations and alignments of a corpus.

    Args:
        path: a folder or a manifest, or its URL; see ``load_corpus``.
        layout: its layout, or ``auto``.
        min_duration_s: shortest utterance allowed.
        max_duration_s: longest.
        decode: decode all audio, which finds damage behind a sound header, wrong levels and copies of recordings; else
            headers are read.
        max_examples: examples of each kind of problem that are kept; 0 keeps all.
        align: where it takes alignments over, these are checked against transcripts and durations.
        num_workers: processes that read headers.
        data: which recordings are cut, where some are.
        language: of the transcripts; None takes the rows' own, else English.
        seen: is shown each row, with its levels where it was decoded.

    Returns:
        The report; a corpus that cannot be read at all is a problem in it, too.
    """
    report = CheckReport(f"corpus {path}", max_examples)
    try:
        needs_text = data is None or data.transcribe is None
        rows, problems, layout = load_corpus(path, layout, language=language, needs_text=needs_text)
    except UserError as error:
        report.extend("corpus", getattr(error, "problems", [str(error)]))
        return report
    _add(report, problems)
    long = _LongRecordings(data)
    checker = RowChecker(min_duration_s, max_duration_s, long.is_cut, needs_text)
    tally = _Tally()
    align = align or AlignConfig()
    texts, audio = TextContent(align.is_english), AudioContent()
    checked_rows: list[ManifestRow] = []
    with Progress(len(rows), "checking audio" if decode else "checking headers", unit="utterance") as progress:
        for checked, info, levels, faults in _measured(rows, checker, decode, num_workers, long):
            is_good = not faults
            if is_good:
                faults = [*faults, *(("same audio", fault) for fault in audio.add(checked, levels))]
            _add(report, row_problems(checked, faults))
            tally.add(checked, info, is_good)
            if checked.text.strip():
                texts.add(checked)
            long.add(checked)
            if seen is not None:
                seen(checked, levels)
            checked_rows.append(checked)
            progress.advance()
    _add(report, checker.check_in_part(problems))
    for kind, message in texts.problems():
        report.add(kind, message)
    report.extend("alignment", language_problems(align, checked_rows))
    try:
        for row, found in zip(checked_rows, imported_faults(align, checked_rows) or [], strict=False):
            report.extend("alignment", found, row.place)
    except UserError as error:
        report.extend("alignment", getattr(error, "problems", [str(error)]))
    report.statistics = {"layout": layout, **tally.statistics()}
    if texts.known_share is not None:
        report.statistics["dictionary words"] = texts.known_share
    report.notes = [
        *name_notes(checked_rows, language),
        *tally.notes(),
        *texts.notes(),
        *audio.notes(),
        *long.notes(),
        *_passed_over(path, {one.place for one in problems}),
    ]
    return report


def _measured(
    rows: Sequence[ManifestRow], checker: RowChecker, decode: bool, num_workers: int, long: _LongRecordings
) -> Iterator[tuple[ManifestRow, AudioInfo | None, AudioLevels | None, list[Fault]]]:
    """Each row as it was checked, its header, its levels with ``decode``, and its faults. Threads decode ahead."""
    num_threads = min(os.cpu_count() or 1, 32)
    waiting: deque[tuple[ManifestRow, AudioInfo | None, list[Fault], Future[tuple[AudioLevels, list[str]]] | None]]
    waiting = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for row, probe in with_probes(rows, num_workers):
            checked, info, faults = checker.check(row, probe)
            is_decoded = decode and info is not None and not any(kind in NOT_DECODED for kind, _ in faults)
            waiting.append((checked, info, faults, pool.submit(long.measured, checked) if is_decoded else None))
            while len(waiting) > DECODED_AHEAD * num_threads:
                yield _with_levels(*waiting.popleft())
        while waiting:
            yield _with_levels(*waiting.popleft())


def _with_levels(
    row: ManifestRow, info: AudioInfo | None, faults: list[Fault], future: Future[tuple[AudioLevels, list[str]]] | None
) -> tuple[ManifestRow, AudioInfo | None, AudioLevels | None, list[Fault]]:
    if future is None:
        return row, info, None, faults
    try:
        levels, found = future.result()
    except UserError as error:
        return row, info, None, [*faults, ("unreadable audio", f"audio: {error}")]
    return row, info, levels, [*faults, *(("level", f"audio: {fault}") for fault in found)]


class _LongRecordings:
    """Recordings that are cut into utterances before they are used, and those without a transcript."""

    def __init__(self, data: DataConfig | None) -> None:
        self.data, self.num_rows, self.duration_s = data, 0, 0.0
        self.num_silent, self.silent_s = 0, 0.0

    def is_cut(self, row: ManifestRow) -> bool:
        """Whether a row is such a recording."""
        return self.data is not None and is_cut(row, self.data)

    def add(self, row: ManifestRow) -> None:
        """Counts a row, if it is one."""
        if self.data is not None and self.data.transcribe is not None and not row.text.strip():
            self.num_silent += 1
            self.silent_s += row.duration_s or 0.0
        if self.is_cut(row):
            self.num_rows += 1
            self.duration_s += row.duration_s or 0.0

    def measured(self, row: ManifestRow) -> tuple[AudioLevels, list[str]]:
        """As ``measured_faults``; a long recording is decoded part by part, and its loudest part is measured."""
        if not self.is_cut(row):
            return measured_faults(row)
        duration_s = row.duration_s or 0.0
        parts = [
            replace(row, start_s=row.start_s + at_s, duration_s=min(DECODED_S, duration_s - at_s), is_segment=True)
            for at_s in np.arange(0.0, duration_s - 0.01, DECODED_S).tolist()
        ]
        levels, faults = max(map(measured_faults, parts), key=lambda found: found[0].rms)
        return levels, faults

    def notes(self) -> list[str]:
        """What becomes of them."""
        found = []
        if self.data is not None and self.num_silent:
            what = f"{self.data.transcribe} transcribes them" if self.data.is_heard else "they become speech alone"
            found.append(
                f"{self.num_silent:,} recordings of {self.silent_s / 3600:,.2f} h have no transcript: {what} "
                f"(data.transcribe={self.data.transcribe})"
            )
        if self.data is None or not self.num_rows:
            return found
        return [
            *found,
            f"{self.num_rows:,} recordings of {self.duration_s / 3600:,.2f} h are longer than "
            f"{self.data.longest_whole_s:g} s: lst prepare cuts them at pauses into utterances of at most "
            f"{self.data.longest_piece_s:g} s (data.cut_above_s, data.cut_to_s)",
        ]


def _passed_over(place: Location, reported: set[str]) -> list[str]:
    """A note of files in a corpus's folder that hold audio, perhaps, but are of no kind that is read."""
    path = storage.locate(place)
    if not isinstance(path, Path) or not path.is_dir():
        return []
    listed = storage.list_files(path).names
    names = [name for name in listed if name.lower().endswith(UNREAD_SUFFIXES) and name not in reported]
    if not names:
        return []
    kinds = Counter("." + name.lower().rpartition(".")[2] for name in names)
    shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return [f"files that are not read: {shown} (the first is {names[0]}); unpack or convert them if they belong to it"]


def check_units(
    files: Sequence[Location],
    frame_rate_hz: int,
    min_duration_s: float,
    max_duration_s: float,
    num_units: int,
    max_examples: int,
) -> CheckReport:
    """Checks every line of ``.on_the_fly`` files; arguments as of ``check_on_the_fly`` and ``check_corpus``."""
    report = CheckReport(f"corpus of units, {len(files)} .on_the_fly files", max_examples)
    rows, problems, num_lines = check_on_the_fly(files, frame_rate_hz, min_duration_s, max_duration_s, num_units)
    _add(report, problems)
    report.statistics = {"utterances": len(rows), "lines": num_lines}
    if rows:
        report.statistics["largest unit"] = max(row.max_unit for row in rows)
    return report


def _add(report: CheckReport, problems: list[ManifestProblem]) -> None:
    for problem in problems:
        report.add(problem.kind, str(problem))


class _Tally:
    """Sums over rows; durations are kept for their quantiles and hashes to tell files apart, some bytes a row."""

    def __init__(self) -> None:
        self.num_rows = self.num_good = self.num_words = self.num_odd_rates = self.num_timed = 0
        self.durations_s: list[float] = []
        self.speakers: set[str] = set()
        self.splits: Counter[str] = Counter()
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.stated: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)  # seconds by provenance
        self.files: set[int] = set()  # hashes of their places: segments of one file are one file

    def add(self, row: ManifestRow, info: AudioInfo | None, is_good: bool) -> None:
        self.num_rows += 1
        self.splits[row.split or "none"] += 1
        if info is not None:
            self.rates[info.sample_rate_hz] += 1
            self.channels[info.num_channels] += 1
        if (file := hash((row.path, row.member))) not in self.files:
            self.files.add(file)
            kind = Path(row.member or row.path).suffix.lower().lstrip(".") or "no suffix"
            self.kinds[f"{kind} in a tar" if row.member else kind] += 1
        if row.speaker != UNKNOWN_SPEAKER:
            self.speakers.add(row.speaker)
        if not is_good or row.duration_s is None:
            return
        self.num_good += 1
        self.num_timed += bool(row.words)
        num_words = len(row.text.split())
        self.num_words += num_words
        self.durations_s.append(row.duration_s)
        stated = row.provenance
        self.stated[stated.name or NO_SOURCE, stated.licence, stated.consent].append(row.duration_s)
        words_a_second = num_words / max(row.duration_s, 1e-9)
        self.num_odd_rates += not MIN_WORDS_A_SECOND <= words_a_second <= MAX_WORDS_A_SECOND

    def statistics(self) -> dict[str, Any]:
        durations_s = np.asarray(self.durations_s, dtype=np.float64)
        found: dict[str, Any] = {
            "utterances": self.num_rows,
            "good utterances": self.num_good,
            "hours": float(durations_s.sum()) / 3600,
            "speakers": len(self.speakers),
            "splits": dict(self.splits.most_common()),
            "words": self.num_words,
            "files": dict(self.kinds.most_common()),
            "sample rates (Hz)": {str(rate): count for rate, count in self.rates.most_common()},
            "channels": {str(count): number for count, number in self.channels.most_common()},
        }
        if len(durations_s):
            quantiles = np.quantile(durations_s, [0, 0.5, 0.95, 1])
            names = ("shortest", "median", "95 %", "longest")
            found["durations (s)"] = dict(zip(names, (round(float(value), 3) for value in quantiles), strict=True))
            found["words a second"] = self.num_words / float(durations_s.sum())
        if self.num_timed:
            found["with timed words"] = self.num_timed
        return found | source_lines(self._hours())

    def _hours(self) -> list[SourceHours]:
        """Hours by source, licence and consent; none where nothing is stated."""
        if set(self.stated) <= {(NO_SOURCE, "", "")}:
            return []
        names = {source for source, _, _ in self.stated}
        shown = dict.fromkeys(names, f"{len(names):,} sources") if len(names) > MOST_SOURCES else {}
        return [
            SourceHours(shown.get(source, source), licence, consent, len(own), sum(own) / 3600)
            for (source, licence, consent), own in self.stated.items()
        ]

    def notes(self) -> list[str]:
        """Observations that are no problems."""
        notes = licence_warnings(self._hours())
        if low := {rate: count for rate, count in sorted(self.rates.items()) if rate < RATE_HZ}:
            shown = ", ".join(f"{count:,} at {rate:,} Hz" for rate, count in low.items())
            notes.append(f"audio below {RATE_HZ:,} Hz has no sound above half its rate: {shown}")
        if several := sum(count for channels, count in self.channels.items() if channels > 1):
            notes.append(f"{several:,} utterances are in files of several channels; without channel these are averaged")
        if self.num_odd_rates:
            notes.append(
                f"{self.num_odd_rates:,} utterances have fewer than {MIN_WORDS_A_SECOND:g} or more than "
                f"{MAX_WORDS_A_SECOND:g} words a second: their transcripts may not fit"
            )
        if self.num_good and not self.speakers:
            notes.append("no speaker is named: held-out utterances are chosen one by one, not by speaker")
        return notes
