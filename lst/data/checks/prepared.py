"""Checks prepared data as it lies on disk: index, shards, hashes, every sample, and the vocabulary they belong to."""

from __future__ import annotations

import io
import itertools
import json
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lst import storage
from lst.data.audio.tars import TAR_ERRORS, member_fault, members, open_tar
from lst.data.checks.report import CheckReport
from lst.data.corpora.row_checks import Fault, is_well_formed_id
from lst.data.prepared import (
    LEFT_OUT_FILE,
    LIST_FILES,
    QUESTIONS_FILE,
    VOCABULARY_FILE,
    artefact_path,
    check_artefacts,
    file_problems,
)
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    Index,
    IndexEntry,
    LeftOut,
    NamedRow,
    entries_of,
    has_provenance,
    hours_by_source,
    is_altered,
    licence_warnings,
    read_index,
    source_lines,
    verify_shards,
)
from lst.data.shards.samples import UNREADABLE
from lst.data.utterance import Utterance, Word
from lst.errors import LstError, ProblemsError
from lst.progress import Progress
from lst.storage import Folder, read_jsonl
from lst.storage.access import size_problem
from lst.tokenizers.vocabulary import Vocabulary

TEXT_SPLIT = "text"
FRAME_SLACK = 2  # frames by which units may differ from duration × rate: feature extractors round, pad or drop an end


def check_prepared(folder: Folder, full: bool, max_examples: int) -> CheckReport:
    """Checks a folder of ``lst prepare`` without changing it.

    Args:
        folder: with ``index.json``; a path or a URL.
        full: compare the shards' hashes, not only their sizes.
        max_examples: examples of each kind of problem that are kept; 0 keeps all.

    Returns:
        The report. Damage to one sample or shard does not keep the others from being checked.
    """
    report = CheckReport(f"prepared data in {folder}", max_examples)
    try:
        index = read_index(folder)
    except LstError as error:
        report.add("index", str(error))
        return report
    if is_altered(index):
        report.add("index", f"{INDEX_FILE} was altered: it does not fit its own check")
    _check_artefacts(report, folder, index)
    report.extend("file", file_problems(folder, index, full).values())
    if "files" not in index:
        report.notes.append("the index has no hashes of lists, records and card, as an earlier version wrote it")
    vocabulary = _vocabulary(report, folder)
    checker = _SampleChecker(report, index, vocabulary)
    with Progress(
        sum(entry["num_utterances"] for entry in entries_of(index)), "checking samples", unit="utterance"
    ) as progress:
        for split, entries in index["splits"].items():
            for entry in entries:
                _check_shard(checker, folder, split, entry, full, progress)
    _check_left_out(report, folder, index, checker)
    report.statistics = checker.statistics()
    if has_provenance(index):
        hours = hours_by_source(index)
        report.statistics |= source_lines(hours)
        report.notes += licence_warnings(hours)
    return report


def _check_artefacts(report: CheckReport, folder: Folder, index: Index) -> None:
    try:
        check_artefacts(folder, index)
    except ProblemsError as error:
        report.extend("codebook, tokenizer or vocabulary", error.problems)
    except LstError as error:
        report.add("codebook, tokenizer or vocabulary", f"cannot be compared: {error}")


def _vocabulary(report: CheckReport, folder: Folder) -> Vocabulary | None:
    try:
        return Vocabulary.load(artefact_path(folder, VOCABULARY_FILE))
    except LstError:  # listed by check_artefacts
        report.notes.append("without its vocabulary, units cannot be compared with the codebook's size")
        return None


def read_samples(path: Folder) -> Iterator[tuple[str, Utterance | str]]:
    """Samples of one shard in order, as (key, utterance or problem).

    Raises:
        One of ``TAR_ERRORS``: the tar itself cannot be read from some place on.
    """

    def sample(key: str, parts: dict[str, bytes]) -> tuple[str, Utterance | str]:
        if parts.keys() != {"json", "units.npy"}:
            return key, f"has the members {', '.join(sorted(parts))}; json and units.npy are needed"
        try:
            units = np.lib.format.read_array(io.BytesIO(parts["units.npy"]), allow_pickle=False)
            return key, Utterance.from_record(json.loads(parts["json"]), units)
        except UNREADABLE as error:
            return key, f"cannot be read ({type(error).__name__}: {error})"

    with storage.open_binary(path) as opened, open_tar(path, opened) as tar:
        key, parts = "", dict[str, bytes]()
        for member in members(tar, opened):
            if fault := member_fault(member) or size_problem(member.size):
                raise tarfile.HeaderError(f"member {member.name[:100]!r} {fault}")
            member_key, _, kind = member.name.partition(".")
            if parts and (member_key != key or kind in parts):
                yield sample(key, parts)
                parts = {}
            key = member_key
            opened.seek(member.offset_data)
            parts[kind] = opened.read(member.size)
        if parts:
            yield sample(key, parts)


def _check_shard(
    checker: _SampleChecker, folder: Folder, split: str, entry: IndexEntry, full: bool, progress: Progress
) -> None:
    """One shard's size and hash, its samples, and whether they are as many as the index says."""
    report, name = checker.report, entry["name"]
    try:
        verify_shards(folder, [entry], full)
    except ProblemsError as error:
        for problem in error.problems:
            report.add("shard hash" if "SHA-256" in problem else "shard file", problem)
    path = folder / SHARD_FOLDER / f"{name}.tar"
    if not storage.exists(path):
        return
    num_utterances = num_units = 0
    try:
        for key, sample in read_samples(path):
            num_utterances += 1
            place = f"{path.name}, key {key!r}"
            if isinstance(sample, str):
                report.add("sample", f"{place}: {sample}")
            else:
                num_units += sample.num_frames
                checker.check(key, sample, split, place)
            progress.advance()
    except TAR_ERRORS as error:
        report.add("shard file", f"{path.name} cannot be read after {num_utterances} samples ({error})")
    counts = (("utterances", num_utterances, entry["num_utterances"]), ("units", num_units, entry["num_units"]))
    for what, found, recorded in counts:
        if found != recorded:
            report.add("index", f"{path.name} holds {found:,} {what}, the index says {recorded}")


@dataclass
class _Totals:
    num_utterances: int = 0
    num_units: int = 0
    num_words: int = 0
    duration_s: float = 0.0


class _SampleChecker:
    """Checks one utterance after the other and adds up what they are like."""

    def __init__(self, report: CheckReport, index: Index, vocabulary: Vocabulary | None) -> None:
        self.report, self.vocabulary = report, vocabulary
        # In imported files of units a word may own no frame. An aligner gives each word at least one.
        self.allows_empty_words = "on_the_fly" in index["aligner"]
        self.keeps_repeats = not getattr(vocabulary, "deduplicated", False)
        self.places: dict[str, str] = {}
        self.speakers: dict[str, set[str]] = {}
        self.totals: dict[str, _Totals] = {}
        self.is_used = np.zeros(1 << 16, bool)  # of each number that a unit can be

    def is_written(self, split: str) -> bool:
        """Whether the samples of a split are written texts; of text alone, held-out ones are too."""
        return split == TEXT_SPLIT or (self.vocabulary is not None and self.vocabulary.num_units == 0)

    def check(self, key: str, utterance: Utterance, split: str, place: str) -> None:
        faults = id_faults(key, utterance.id)
        if utterance.id in self.places:
            faults.append(("id", f"the id is there before, in {self.places[utterance.id]}"))
        self.places.setdefault(utterance.id, place)
        # Speech alone has neither text nor words.
        has_text = isinstance(utterance.text, str) and bool(utterance.text.strip())
        if not has_text and (utterance.text or utterance.words or self.is_written(split)):
            faults.append(("text", "the text is empty"))
        faults += self._units(utterance, split)
        if utterance.pieces is not None and self.vocabulary is not None:
            outside = (utterance.pieces < 0) | (utterance.pieces >= self.vocabulary.num_text)
            if outside.any():
                worst = int(utterance.pieces[outside][0])
                faults.append(("text pieces", f"piece {worst} is outside the {self.vocabulary.num_text} of the text"))
        if not self.is_written(split) and (has_text or utterance.words):
            faults += word_faults(utterance, self.allows_empty_words)
        for kind, message in faults:
            self.report.add(kind, f"{place}: {message}")
        totals = self.totals.setdefault(split, _Totals())
        totals.num_utterances += 1
        totals.num_units += utterance.num_frames
        totals.num_words += len(utterance.words) or len(str(utterance.text).split())
        totals.duration_s += utterance.duration_s if _is_number(utterance.duration_s) else 0.0
        if utterance.speaker:
            self.speakers.setdefault(split, set()).add(str(utterance.speaker))

    def _units(self, utterance: Utterance, split: str) -> list[Fault]:
        """Problems of the units and of their number."""
        units = utterance.units
        if units.ndim != 1 or units.dtype != np.uint16:
            return [
                ("units", f"units are {units.dtype} of shape {list(units.shape)}, uint16 of one dimension is right")
            ]
        if self.is_written(split):
            return [("units", f"a written text has {len(units)} units")] if len(units) else []
        faults: list[Fault] = []
        self.is_used[units] = True
        if not len(units):
            faults.append(("units", "has no units"))
        elif self.vocabulary is not None and int(units.max()) >= self.vocabulary.num_units:
            num_units = self.vocabulary.num_units
            faults.append(
                ("units", f"unit {int(units.max())} is outside the codebook of {num_units}: 0 … {num_units - 1}")
            )
        if not _is_number(utterance.duration_s) or utterance.duration_s <= 0:
            faults.append(("number of units", f"the duration is {utterance.duration_s!r} s"))
        elif self.vocabulary is not None:
            a_frame = int(getattr(self.vocabulary, "units_a_frame", 1))
            expected = utterance.duration_s * self.vocabulary.frame_rate_hz * a_frame
            slack = FRAME_SLACK * a_frame
            # With a delay pattern, each further codebook of a codec ends a frame later.
            delay = (a_frame - 1) * a_frame
            if len(units) > expected + slack + delay or (self.keeps_repeats and len(units) < expected - slack):
                what = f"{utterance.duration_s:g} s at {self.vocabulary.frame_rate_hz} Hz are {expected:.1f}"
                faults.append(("number of units", f"has {len(units)} units, but {what}"))
        return faults

    def statistics(self) -> dict[str, Any]:
        """Sums a split, and how much of the codebook is used."""
        found: dict[str, Any] = {}
        for split, totals in self.totals.items():
            shown: dict[str, Any] = {"utterances": totals.num_utterances, "words": totals.num_words}
            if not self.is_written(split):
                shown |= {
                    "hours": totals.duration_s / 3600,
                    "speakers": len(self.speakers.get(split, ())),
                    "units": totals.num_units,
                }
            found[split] = shown
        if self.vocabulary is not None:
            found["units in use"] = f"{self.is_used.sum():,} of {self.vocabulary.num_units:,}"
        return found


def id_faults(key: str, utterance_id: Any) -> list[Fault]:
    """Problems of a sample's key and id."""
    if not isinstance(utterance_id, str) or not is_well_formed_id(utterance_id):
        return [("id", f"id {utterance_id!r} is not made of A–Z, a–z, 0–9, _ and - alone")]
    return [("id", f"the record's id is {utterance_id!r}, another than the key")] if utterance_id != key else []


def word_faults(utterance: Utterance, allows_empty_words: bool = False) -> list[Fault]:
    """Problems of the words of spoken text: order, place, length, score, text.

    Args:
        utterance: with units.
        allows_empty_words: a word may own no frame.
    """
    if not utterance.words:
        return [("words", "has speech, but no words")]
    faults: list[Fault] = []
    previous_end = 0
    for number, word in enumerate(utterance.words):
        name = f"word {number} ({word.text!r}), frames {word.start_frame} to {word.end_frame},"
        if not (isinstance(word.text, str) and _is_frame(word.start_frame) and _is_frame(word.end_frame)):
            return [*faults, ("words", f"{name} must be a text and two whole numbers")]
        if not word.text.strip():
            faults.append(("words", f"{name} has an empty text"))
        may_be_empty = allows_empty_words or word.is_unaligned
        if word.end_frame < word.start_frame or (word.end_frame == word.start_frame and not may_be_empty):
            faults.append(("words", f"{name} has no length"))
        if number and word.start_frame < previous_end:
            faults.append(("words", f"{name} begins before the one before it ends (frame {previous_end})"))
        if word.start_frame < 0 or word.end_frame > utterance.num_frames:
            faults.append(("words", f"{name} is not within the {utterance.num_frames} frames"))
        if not _is_number(word.score):
            faults.append(("scores", f"{name} has the score {word.score!r}"))
        faults += [("words", f"{name} {fault}") for fault in _character_faults(word)]
        previous_end = max(previous_end, word.end_frame)
    if not faults:
        segments = utterance.segments()
        covered = [(segment.start_frame, segment.end_frame) for segment in segments]
        if (
            covered[0][0] != 0
            or covered[-1][1] != utterance.num_frames
            or any(before[1] != after[0] for before, after in itertools.pairwise(covered))
        ):
            faults.append(("words", "words and silences do not tile the utterance"))
    spoken = " ".join(word.text for word in utterance.words).split()
    written = str(utterance.text).split()
    if spoken != written:
        place = next(
            (n for n, (a, b) in enumerate(zip(spoken, written, strict=False)) if a != b), min(len(spoken), len(written))
        )
        here = [" ".join(side[place : place + 3]) or "its end" for side in (spoken, written)]
        faults.append(("text", f"the words do not give the text: at word {place}, {here[0]!r} against {here[1]!r}"))
    return faults


def _character_faults(word: Word) -> list[str]:
    """Problems of a word's character times, if it has some."""
    ends = getattr(word, "character_ends", ())
    if not ends:
        return []
    num_characters, num_frames = len("".join(word.text.split())), word.end_frame - word.start_frame
    if len(ends) != num_characters:
        return [f"has {len(ends)} character ends and {num_characters} characters"]
    if list(ends) != sorted(ends) or ends[0] < 0 or ends[-1] > num_frames:
        return [f"has character ends that are not in order or in its {num_frames} frames"]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_frame(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_left_out(report: CheckReport, folder: Folder, index: Index, checker: _SampleChecker) -> None:
    """Every utterance and text of the lists is in a shard or among those left out, and every shard is of the index."""
    try:
        rows = read_jsonl(folder / LEFT_OUT_FILE, LeftOut)
        ids = {
            item["id"]: name
            for name in LIST_FILES
            if name != QUESTIONS_FILE
            for item in read_jsonl(folder / name, NamedRow)
        }
    except LstError as error:
        report.add("left out", f"cannot be read: {error}")
        return
    left_out = {row["id"] for row in rows}
    if index["num_left_out"] != len(rows):
        message = f"{LEFT_OUT_FILE} lists {len(rows)}, the index says {index['num_left_out']} were left out"
        report.add("left out", message)
    for name, list_name in ids.items():
        if name not in checker.places and name not in left_out:
            report.add("left out", f"utterance {name!r} of {list_name} is in no shard and not in {LEFT_OUT_FILE}")
    known = {f"{entry['name']}.tar" for entry in entries_of(index)}
    report.extend(
        "shard file",
        [
            f"{name} is no shard of the index"
            for name in storage.list_sizes(folder / SHARD_FOLDER, ".tar")
            if name not in known
        ],
    )
