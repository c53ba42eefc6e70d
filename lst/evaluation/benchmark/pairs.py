"""Pairs of recordings, a true and a false one, from the folders of published benchmarks.

==========  ======================================================  ================================================
layout      files                                                   what pairs two of them
==========  ======================================================  ================================================
ZeroSpeech  ``gold.csv`` beside its ``.wav`` files                  ``id`` and ``voice``; ``correct`` is 1 or 0
SALMon      ``[PART/]sample_NUMBER_0.wav`` and ``…_1.wav``          part and number; 0 is true
slamkit     ``[PART/]NUMBER_…_LABEL.wav`` (sBLIMP: ``NUMBER+…``)    part and number; LABEL is such as ``correct`` or
                                                                    ``incorrect``
==========  ======================================================  ================================================

Recordings are matched by what names them, never by their order in a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lst.data.audio import probe_audio
from lst.data.corpora import ManifestProblem
from lst.data.corpora.records import table_cells
from lst.errors import UserError
from lst.evaluation.benchmark.text_items import TextItem
from lst.storage import fingerprint, sha256

GOLD_FILE = "gold.csv"
_TRUE = frozenset({"correct", "true", "pos", "positive", "good", "word", "real", "1.0", "1"})
_FALSE = frozenset({"incorrect", "false", "neg", "negative", "bad", "nonword", "fake", "0.0", "0"})
_SALMON = re.compile(r"sample_(\d+)_(\d+)")
_NUMBERED = re.compile(r"(\d+)[_+].*?([A-Za-z]+)")


class _Recording(NamedTuple):
    """A recording of a folder, before it is paired.

    Attributes:
        pair: id, without the voice.
        voice: empty where there is one voice alone.
        stratum: part of the benchmark.
        path: of its audio.
        text: what it says; empty where the folder does not say.
        is_true: which of its pair it is; None where nothing says so.
        place: line or file, for messages.
    """

    pair: str
    voice: str
    stratum: str
    path: Path
    text: str
    is_true: bool | None
    place: str


@dataclass(frozen=True)
class Pairs:
    """The pairs of a folder.

    Attributes:
        items: without context; the true recording is the first ending of every second one.
        problems: of recordings that make no pair.
        recordings: file of each utterance.
        num_voices: that say each pair, where ids end in ``--VOICE``; else 1.
        sha256: of all recordings.
    """

    items: list[TextItem]
    problems: list[ManifestProblem]
    recordings: dict[str, Path] = field(default_factory=dict)
    num_voices: int = 1
    sha256: str = ""


def read_pairs(folder: Path) -> Pairs:
    """The pairs of a folder, and every recording that is missing, doubled, without its partner, or no audio.

    Raises:
        UserError: there is no such folder, or it has none of the layouts.
    """
    if not folder.is_dir():
        raise UserError(f"items={folder} is no folder: pairs are recordings in a folder")
    problems: list[ManifestProblem] = []
    found = list(_recordings(folder, problems))
    if not found and not problems:
        raise UserError(
            f"items={folder} holds no pairs: allowed are {GOLD_FILE} beside .wav files, sample_NUMBER_0.wav and "
            "sample_NUMBER_1.wav, or NUMBER_…_correct.wav and NUMBER_…_incorrect.wav"
        )
    groups: dict[tuple[str, str], list[_Recording]] = {}
    for one in found:
        groups.setdefault((one.pair, one.voice), []).append(one)
    num_voices = len({one.voice for one in found})
    items: list[TextItem] = []
    recordings: dict[str, Path] = {}
    for group in groups.values():
        if faults := _faults(group):
            problems += faults
            continue
        true, false = sorted(group, key=lambda one: not one.is_true)
        name = _id(f"{true.pair}--{true.voice}" if true.voice else true.pair)
        label = len(items) % 2
        ordered = [false, true] if label else [true, false]
        items.append(TextItem(name, true.stratum, "", tuple(one.text for one in ordered), label, true.place))
        recordings |= {f"{name}-{number}": one.path for number, one in enumerate(ordered)}
    digest = fingerprint([(name, sha256(path)) for name, path in recordings.items()])
    return Pairs(items, problems, recordings, max(num_voices, 1), digest)


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _problem(one: _Recording, message: str) -> ManifestProblem:
    return ManifestProblem(one.place, one.pair, message, kind="pair")


def _faults(group: list[_Recording]) -> list[ManifestProblem]:
    """What is wrong with the recordings of one pair."""
    faults = []
    for one in group:
        if one.is_true is None:
            labels = "correct, incorrect"
            faults.append(_problem(one, f"nothing says which of its pair it is: end its name in one of {labels}, …"))
        if not one.path.exists():
            faults.append(_problem(one, f"its recording {one.path.name} is missing"))
            continue
        try:
            if probe_audio(one.path).num_frames == 0:
                faults.append(_problem(one, f"{one.path.name} is empty"))
        except UserError as error:
            faults.append(_problem(one, f"{one.path.name} is no audio: {error}"))
    counts = [sum(one.is_true is kind for one in group) for kind in (True, False)]
    if None not in {one.is_true for one in group} and counts != [1, 1]:
        told = f"{counts[0]} true and {counts[1]} false recordings{f' by {group[0].voice}' if group[0].voice else ''}"
        faults.append(_problem(group[0], f"a pair has one of each, and it has {told}"))
    return faults


def _recordings(folder: Path, problems: list[ManifestProblem]) -> Iterator[_Recording]:
    golds = sorted(folder.rglob(GOLD_FILE))
    if golds:
        for gold in golds:
            yield from _listed(gold, folder, problems)
        return
    for path in sorted(folder.rglob("*.wav")):
        part = "" if path.parent == folder else path.parent.relative_to(folder).as_posix()
        place = path.relative_to(folder).as_posix()
        start = f"{part}-" if part else ""
        if found := _SALMON.fullmatch(path.stem):
            label = {"0": True, "1": False}.get(found[2])
            yield _Recording(f"{start}{int(found[1])}", "", part, path, "", label, place)
        elif found := _NUMBERED.fullmatch(path.stem):
            label = True if found[2].lower() in _TRUE else False if found[2].lower() in _FALSE else None
            yield _Recording(f"{start}{int(found[1])}", "", part, path, "", label, place)
        else:
            problems.append(ManifestProblem(place, "", "its name does not say which pair it is of", path, kind="pair"))


def _listed(gold: Path, folder: Path, problems: list[ManifestProblem]) -> Iterator[_Recording]:
    """The recordings that a ``gold.csv`` lists; those beside it that it does not list are problems."""
    name = gold.relative_to(folder).as_posix()
    part = "" if gold.parent == folder else gold.parent.relative_to(folder).as_posix()
    header: list[str] = []
    listed: set[str] = set()
    for number, cells in table_cells(gold):
        place = f"{name}, line {number}"
        if not header:
            header = [cell.strip().lower() for cell in cells]
            if missing := {"id", "filename", "correct"} - set(header):
                problems.append(ManifestProblem(place, "", f"columns are missing: {', '.join(sorted(missing))}"))
                return
            continue
        row = dict(zip(header, map(str.strip, cells), strict=False))
        file = row.get("filename", "")
        if file in listed:
            problems.append(ManifestProblem(place, row.get("id", ""), f"{file} is listed twice", kind="pair"))
            continue
        listed.add(file)
        label = row.get("correct", "").lower()
        yield _Recording(
            f"{part}-{row.get('id', '')}" if part else row.get("id", ""),
            row.get("voice", ""),
            row.get("type", "") or part,
            gold.parent / (file if file.endswith(".wav") else f"{file}.wav"),
            row.get("word") or row.get("transcription") or "",
            True if label in _TRUE else False if label in _FALSE else None,
            place,
        )
    for path in sorted(gold.parent.glob("*.wav")):
        if not {path.name, path.stem} & listed:
            problems.append(ManifestProblem(path.name, "", f"{name} does not list it", path, kind="pair"))
