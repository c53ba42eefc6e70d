"""What several corpora have in common: ids, and recordings that lie in more than one of them."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from lst.data.audio.tars import open_audio_bytes
from lst.data.checks.report import CheckReport
from lst.data.corpora import ManifestRow
from lst.data.corpora.row_table import RowTable, name_key, repeated
from lst.errors import UserError
from lst.storage import is_url

# Files of one length that begin alike are taken for copies.
COMPARED_BYTES = 1 << 18


class SharedContent:
    """Compares corpora that are to be prepared together.

    Recordings are compared by their samples where these were decoded. Else files of one duration and size are, by how
    they begin; audio behind URLs is not read. Of each row two keys are held in memory.
    """

    def __init__(self) -> None:
        self.rows, self.names = RowTable(), list[str]()
        # Of each row: the number of its corpus; a key of its samples, or of its duration and size; which of the two.
        self.corpora, self.keys, self.are_decoded = array("H"), array("Q"), bytearray()

    def add(self, corpus: str, row: ManifestRow, digest: bytes | None) -> None:
        """Keeps what is compared of a row; ``digest`` is that of its samples, where they were decoded."""
        if corpus not in self.names:
            self.names.append(corpus)
        length = f"{row.duration_s or 0.0} {0 if row.member else _size(row)}"
        self.rows.append(row)
        self.corpora.append(self.names.index(corpus))
        self.keys.append(name_key(length) if digest is None else int.from_bytes(digest[:8], "little"))
        self.are_decoded.append(digest is not None)

    def report(self, max_examples: int) -> CheckReport:
        """Recordings that one corpus holds out and another one does not are problems, all others notes."""
        report = CheckReport(f"corpora {', '.join(self.names)} together", max_examples)
        if shared := self._shared_ids():
            report.notes.append(
                f"{len(shared):,} ids are in several corpora (the first is {shared[0]!r}): lst prepare puts the "
                "corpus's name in front"
            )
        twice: Counter[str] = Counter()
        example = ""
        for pair in self._copies():
            first, second = (self.rows[number] for number in pair)
            names = [self.names[self.corpora[number]] for number in pair]
            if "valid" in (first.split, second.split) and first.split != second.split:
                told = [
                    f"{row.split or 'no split'} of {name} ({row.id})"
                    for row, name in zip((first, second), names, strict=True)
                ]
                report.add("same audio", f"one recording is in {told[0]} and {told[1]}: take one of them out")
            else:
                twice[" and ".join(names)] += 1
                example = example or f"{first.id}, {second.id}"
        if twice:
            counts = ", ".join(f"{count:,} in {pair}" for pair, count in twice.items())
            report.notes.append(
                f"recordings that are in two corpora: {counts} ({example}). Take one of them out: the one may be held "
                "out while models are trained on the other"
            )
        report.statistics = {"utterances": len(self.rows)}
        return report

    def _shared_ids(self) -> list[str]:
        owners: defaultdict[str, set[int]] = defaultdict(set)
        for number in repeated(self.rows.id_keys).tolist():
            owners[self.rows[number].id].add(self.corpora[number])
        return [name for name, own in owners.items() if len(own) > 1]

    def _copies(self) -> Iterator[tuple[int, int]]:
        """Each recording that another corpus has, with the first one of it, by their numbers."""
        alike: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
        for number in sorted(repeated(np.array(self.keys, np.uint64)).tolist()):
            alike[self.keys[number], bool(self.are_decoded[number])].append(number)
        for (key, is_decoded), group in alike.items():
            if len({self.corpora[number] for number in group}) < 2:
                continue
            first: dict[bytes | int, int] = {}
            for number in group:
                found = key if is_decoded else _beginning(self.rows[number])
                if found is not None and self.corpora[first.setdefault(found, number)] != self.corpora[number]:
                    yield first[found], number


def _size(row: ManifestRow) -> int:
    return 0 if isinstance(row.path, str) else row.path.stat().st_size if row.path.is_file() else 0


def _beginning(row: ManifestRow) -> bytes | None:
    """A hash of the file's beginning and of what of it is the utterance; None where it is not read."""
    if is_url(row.path):
        return None
    try:
        with open_audio_bytes(row.path, row.member) as file:
            found = hashlib.blake2b(file.read(COMPARED_BYTES), digest_size=16)
    except UserError:
        return None  # the corpus's own report tells
    found.update(repr((row.start_s, row.channel)).encode())
    return found.digest()
