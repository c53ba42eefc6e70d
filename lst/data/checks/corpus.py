"""Checks recordings before they are prepared: every problem of every row, and what the corpus is like."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lst import storage
from lst.data.alignment import imported_faults
from lst.data.alignment.known_languages import language_problems
from lst.data.audio.levels import AudioLevels, measured_faults
from lst.data.checks.content import AudioContent, TextContent
from lst.data.checks.report import CheckReport
from lst.data.checks.tally import Tally
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestProblem, ManifestRow, check_on_the_fly, load_corpus
from lst.data.corpora.row_checks import CheckJob, Fault, RowChecker, jobs_of, row_problems
from lst.data.corpora.row_languages import name_notes
from lst.data.corpora.row_table import RowBlock, RowTable, rows_of
from lst.data.recordings.cut import fate_of_long, whole_notes
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import Progress
from lst.storage import Location

# Faults with which decoding an utterance tells nothing more.
NOT_DECODED = ("missing audio", "unreadable audio", "sample rate", "segment or channel")
MOST_THREADS = min(os.cpu_count() or 1, 32)  # that decode
DECODED_S = 120.0  # of a long recording at a time
TAKEN_OVER = ("import", "manifest")  # aligners that are given word times
# Archives and audio of other kinds.
UNREAD_SUFFIXES = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar", ".m4a", ".aac", ".mp4", ".webm"),
    *(".wma", ".aif", ".aiff", ".au", ".sph", ".amr", ".arrow", ".ark", ".caf"),
)


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
    seen: Callable[[ManifestRow, bytes | None], None] | None = None,
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
        num_workers: processes that check; the report does not depend on it.
        data: which recordings are cut, where some are.
        language: of the transcripts; None takes the rows' own, else English.
        seen: is shown each row, with the digest of its samples where it was decoded.

    Returns:
        The report; a corpus that cannot be read at all is a problem in it, too.
    """
    report = CheckReport(f"corpus {path}", max_examples)
    try:
        needs_text = data is None or data.transcribe is None
        rows, problems, layout = load_corpus(path, layout, None, language, needs_text, num_workers)
    except UserError as error:
        report.extend("corpus", getattr(error, "problems", [" ".join(str(error).splitlines())]))
        return report
    _add(report, problems)
    align = align or AlignConfig()
    fate = None if data is None else partial(fate_of_long, config=data)
    checker = RowChecker(min_duration_s, max_duration_s, fate, needs_text)
    # Where word times are taken over, rows are compared with them, by their durations.
    keeps = seen is not None or align.method in TAKEN_OVER
    settings = _Settings(checker, decode, max(1, MOST_THREADS // max(1, num_workers)), align, data, keeps)
    whole, checked = _check_rows(rows, settings, report, num_workers, seen)
    for row, message in whole.audio.problems(rows):
        _add(report, row_problems(row, [("same audio", message)]))
    _add(report, checker.check_in_part(problems, rows))
    for kind, message in whole.texts.problems(rows):
        report.add(kind, message)
    report.extend("alignment", language_problems(align, whole.tally.languages, len(rows)))
    try:
        for row, found in zip(checked, imported_faults(align, checked) or [], strict=False):
            report.extend("alignment", found, row.place)
    except UserError as error:
        report.extend("alignment", getattr(error, "problems", [str(error)]))
    report.statistics = {"layout": layout, **whole.tally.statistics()}
    if whole.texts.known_share is not None:
        report.statistics["dictionary words"] = whole.texts.known_share
    report.notes = [
        *name_notes(rows.facts.named, language),
        *whole.tally.notes(),
        *whole.texts.notes(rows),
        *whole.audio.notes(),
        *whole.long.notes(data),
        *_passed_over(path, {one.place for one in problems}),
    ]
    return report


def _check_rows(
    rows: RowTable,
    settings: _Settings,
    report: CheckReport,
    num_workers: int,
    seen: Callable[[ManifestRow, bytes | None], None] | None,
) -> tuple[_Part, RowTable]:
    """Reports the problems of each row; returns the sums, and the rows as they were checked where times are given."""
    whole, checked = _Part(settings), RowTable()
    what = "checking audio" if settings.decode else "checking headers"
    with Progress(len(rows), what, unit="utterance") as progress:
        for part in ordered_map(partial(_check_part, settings), jobs_of(rows), num_workers):
            for kind, message in part.found:
                report.add(kind, message)
            whole.merge(part)
            if seen is not None:
                for row, digest in zip(rows_of(part.checked.content), part.digests, strict=True):
                    seen(row, digest)
            if settings.align.method in TAKEN_OVER:
                checked.add(part.checked)
            progress.advance(part.tally.num_rows)
    return whole, checked


class _Settings(NamedTuple):
    """How rows are checked, by any process; ``num_threads`` decode audio, and the rows are kept where they are read."""

    checker: RowChecker
    decode: bool
    num_threads: int
    align: AlignConfig
    data: DataConfig | None
    keeps: bool


class _Part:
    """What was found in a part of a corpus.

    Attributes:
        found: (kind, message) of each problem of a row.
        tally, texts, audio, long: sums.
        checked: the rows with their durations, where they are kept.
        digests: of their samples, where these were decoded.
    """

    def __init__(self, settings: _Settings) -> None:
        self.found: list[tuple[str, str]] = []
        self.tally, self.long = Tally(), _LongRecordings()
        self.texts, self.audio = TextContent(settings.align.is_english), AudioContent()
        self.checked = RowBlock.of(())
        self.digests: list[bytes | None] = []

    def merge(self, part: _Part) -> None:
        """Adds the sums of the next part."""
        self.tally.merge(part.tally)
        self.texts.merge(part.texts)
        self.audio.merge(part.audio)
        self.long.merge(part.long)


def _check_part(settings: _Settings, job: CheckJob) -> _Part:
    """Checks some rows: each as it was checked, its header, its levels with ``decode``, its faults."""
    part, measure = _Part(settings), partial(_measured, settings.data)
    checked = list(itertools.starmap(settings.checker.check, job.probed()))
    with ThreadPoolExecutor(settings.num_threads) as pool:
        futures = [
            pool.submit(measure, row)
            if settings.decode and info is not None and not any(kind in NOT_DECODED for kind, _ in faults)
            else None
            for row, info, faults in checked
        ]
        for number, ((row, info, faults), future) in enumerate(zip(checked, futures, strict=True), job.start):
            levels, more = _levels_of(future)
            faults += more
            part.found += [(problem.kind, str(problem)) for problem in row_problems(row, faults)]
            if not faults:
                part.audio.add(row, levels, number)
            part.tally.add(row, info, is_good=not faults)
            if row.text.strip():
                part.texts.add(row, number)
            part.long.add(row, settings.data)
            part.digests += [levels.digest if levels else None] * settings.keeps
    part.checked = RowBlock.of([row for row, _, _ in checked] if settings.keeps else [])
    return part


def _levels_of(future: Future[tuple[AudioLevels, list[str]]] | None) -> tuple[AudioLevels | None, list[Fault]]:
    """What was measured of decoded audio, and its faults."""
    if future is None:
        return None, []
    try:
        levels, found = future.result()
    except UserError as error:
        return None, [("unreadable audio", f"audio: {error}")]
    return levels, [("level", f"audio: {fault}") for fault in found]


def _measured(data: DataConfig | None, row: ManifestRow) -> tuple[AudioLevels, list[str]]:
    """As ``measured_faults``; a long recording is decoded part by part, and its loudest part is measured."""
    if data is None or not fate_of_long(row, data).is_cut:
        return measured_faults(row)
    duration_s = row.duration_s or 0.0
    parts = [
        replace(row, start_s=row.start_s + at_s, duration_s=min(DECODED_S, duration_s - at_s), is_segment=True)
        for at_s in np.arange(0.0, duration_s - 0.01, DECODED_S).tolist()
    ]
    levels, faults = max(map(measured_faults, parts), key=lambda found: found[0].rms)
    return levels, faults


class _LongRecordings:
    """Recordings that are cut into utterances before they are used, and those without a transcript."""

    def __init__(self) -> None:
        self.num_rows = self.num_silent = 0
        self.duration_s = self.silent_s = 0.0
        self.whole: Counter[str] = Counter()

    def merge(self, other: _LongRecordings) -> None:
        """Adds the sums of the next part."""
        self.num_rows += other.num_rows
        self.num_silent += other.num_silent
        self.duration_s += other.duration_s
        self.silent_s += other.silent_s
        self.whole.update(other.whole)

    def add(self, row: ManifestRow, data: DataConfig | None) -> None:
        """Counts a row, if it is one."""
        if data is None:
            return
        if data.transcribe is not None and not row.text.strip():
            self.num_silent += 1
            self.silent_s += row.duration_s or 0.0
        fate = fate_of_long(row, data)
        self.whole.update([fate.why_whole] * bool(fate.why_whole))
        if fate.is_cut:
            self.num_rows += 1
            self.duration_s += row.duration_s or 0.0

    def notes(self, data: DataConfig | None) -> list[str]:
        """What becomes of them."""
        found = whole_notes(self.whole)
        if data is None:
            return found
        if self.num_silent:
            what = f"{data.transcribe} transcribes them" if data.is_heard else "they become speech alone"
            found.append(
                f"{self.num_silent:,} recordings of {self.silent_s / 3600:,.2f} h have no transcript: {what} "
                f"(data.transcribe={data.transcribe})"
            )
        if self.num_rows:
            found.append(
                f"{self.num_rows:,} recordings of {self.duration_s / 3600:,.2f} h are longer than "
                f"{data.longest_whole_s:g} s: lst prepare cuts them at pauses into utterances of at most "
                f"{data.longest_piece_s:g} s (data.cut_above_s, data.cut_to_s)"
            )
        return found


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
