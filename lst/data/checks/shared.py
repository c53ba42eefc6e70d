"""What several corpora have in common: ids, and recordings that lie in more than one of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from lst.data.audio.levels import AudioLevels
from lst.data.audio.places import AudioRef
from lst.data.audio.tars import open_audio_bytes
from lst.data.checks.report import CheckReport
from lst.data.corpora import ManifestRow
from lst.errors import UserError
from lst.storage import is_url

# Files of one length that begin alike are taken for copies.
COMPARED_BYTES = 1 << 18


class _Row(NamedTuple):
    """What is kept of a row."""

    corpus: str
    id: str
    split: str
    audio: AudioRef
    digest: bytes | None
    length: tuple[float, int]


class SharedContent:
    """Compares corpora that are to be prepared together.

    Recordings are compared by their samples where these were decoded. Else files of one duration and size are, by how
    they begin; audio behind URLs is not read.
    """

    def __init__(self) -> None:
        self.rows: list[_Row] = []

    def add(self, corpus: str, row: ManifestRow, levels: AudioLevels | None) -> None:
        """Keeps what is compared of a row."""
        digest = None if levels is None else levels.digest
        length = (row.duration_s or 0.0, 0 if row.member else _size(row))
        audio = AudioRef(row.path, row.start_s, row.duration_s, row.is_segment, row.channel, row.member)
        self.rows.append(_Row(corpus, row.id, row.split, audio, digest, length))

    def report(self, max_examples: int) -> CheckReport:
        """Recordings that one corpus holds out and another one does not are problems, all others notes."""
        names = list(dict.fromkeys(row.corpus for row in self.rows))
        report = CheckReport(f"corpora {', '.join(names)} together", max_examples)
        owners: defaultdict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            owners[row.id].add(row.corpus)
        if shared := [name for name, own in owners.items() if len(own) > 1]:
            report.notes.append(
                f"{len(shared):,} ids are in several corpora (the first is {shared[0]!r}): lst prepare puts the "
                "corpus's name in front"
            )
        twice: Counter[str] = Counter()
        example = ""
        for first, second in self._copies():
            if "valid" in (first.split, second.split) and first.split != second.split:
                told = [f"{one.split or 'no split'} of {one.corpus} ({one.id})" for one in (first, second)]
                report.add("same audio", f"one recording is in {told[0]} and {told[1]}: take one of them out")
            else:
                twice[f"{first.corpus} and {second.corpus}"] += 1
                example = example or f"{first.id}, {second.id}"
        if twice:
            counts = ", ".join(f"{count:,} in {pair}" for pair, count in twice.items())
            report.notes.append(
                f"recordings that are in two corpora: {counts} ({example}). Take one of them out: the one may be held "
                "out while models are trained on the other"
            )
        report.statistics = {"utterances": len(self.rows)}
        return report

    def _copies(self) -> Iterator[tuple[_Row, _Row]]:
        """Each recording that another corpus has, with the first one of it."""
        by_length: defaultdict[object, list[_Row]] = defaultdict(list)
        for row in self.rows:
            by_length[row.digest or row.length].append(row)
        for group in by_length.values():
            if len({row.corpus for row in group}) < 2:
                continue
            first: dict[bytes, _Row] = {}
            for row in group:
                key = row.digest or _beginning(row)
                if key is not None and first.setdefault(key, row).corpus != row.corpus:
                    yield first[key], row


def _size(row: ManifestRow) -> int:
    return 0 if isinstance(row.path, str) else row.path.stat().st_size if row.path.is_file() else 0


def _beginning(row: _Row) -> bytes | None:
    """A hash of the file's beginning and of what of it is the utterance; None where it is not read."""
    audio = row.audio
    if is_url(audio.path):
        return None
    try:
        with open_audio_bytes(audio.path, audio.member) as file:
            found = hashlib.blake2b(file.read(COMPARED_BYTES), digest_size=16)
    except UserError:
        return None  # the corpus's own report tells
    found.update(repr((audio.start_s, audio.channel)).encode())
    return found.digest()
