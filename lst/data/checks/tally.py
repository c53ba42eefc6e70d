"""Sums over the rows of a corpus: hours, words, speakers, splits, files, rates, sources."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from typing import Any

import numpy as np

from lst.data.audio import AudioInfo
from lst.data.corpora import UNKNOWN_SPEAKER, ManifestRow
from lst.data.corpora.row_table import name_key
from lst.data.shards import NO_SOURCE, SourceHours, licence_warnings, source_lines

MOST_SOURCES = 32  # that are told one by one
RATE_HZ = 16_000  # what all audio is brought to
MIN_WORDS_A_SECOND, MAX_WORDS_A_SECOND = 0.3, 7.0  # outside of these a transcript seldom fits its audio


class Tally:
    """Sums over rows. Durations are kept for their quantiles and keys to tell files apart: 25 bytes a row.

    Parts of a corpus can be added up.
    """

    def __init__(self) -> None:
        self.num_rows = self.num_good = self.num_words = self.num_odd_rates = self.num_timed = 0
        self.spoken_s = 0.0  # with a transcript
        self.durations_s = array("d")
        self.speakers: set[str] = set()
        self.splits: Counter[str] = Counter()
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.languages: Counter[str] = Counter()
        self.stated: dict[tuple[str, str, str], array[float]] = {}  # seconds by provenance
        # Keys of places, as segments of one file are one file; and the number of each one's kind.
        self.files, self.kinds = array("Q"), array("H")
        self.kind_names: dict[str, int] = {}

    def merge(self, other: Tally) -> None:
        """Adds the sums of the next part of the corpus."""
        self.num_rows += other.num_rows
        self.num_good += other.num_good
        self.num_words += other.num_words
        self.spoken_s += other.spoken_s
        self.num_odd_rates += other.num_odd_rates
        self.num_timed += other.num_timed
        self.durations_s.extend(other.durations_s)
        self.speakers |= other.speakers
        self.splits.update(other.splits)
        self.rates.update(other.rates)
        self.channels.update(other.channels)
        self.languages.update(other.languages)
        for stated, durations_s in other.stated.items():
            self.stated.setdefault(stated, array("d")).extend(durations_s)
        numbers = [self.kind_names.setdefault(name, len(self.kind_names)) for name in other.kind_names]
        self.files.extend(other.files)
        self.kinds.extend(numbers[kind] for kind in other.kinds)

    def add(self, row: ManifestRow, info: AudioInfo | None, is_good: bool) -> None:
        """Adds a row; ``info`` is its audio's header."""
        self.num_rows += 1
        self.splits[row.split or "none"] += 1
        if info is not None:
            self.rates[info.sample_rate_hz] += 1
            self.channels[info.num_channels] += 1
        if row.language and row.text.strip():
            self.languages[row.language] += 1
        file = name_key(f"{row.path}\0{row.member}")
        if not self.files or self.files[-1] != file:
            kind = os.path.splitext(row.member or row.path)[1].lower().lstrip(".") or "no suffix"
            kind = f"{kind} in a tar" if row.member else kind
            self.files.append(file)
            self.kinds.append(self.kind_names.setdefault(kind, len(self.kind_names)))
        if row.speaker != UNKNOWN_SPEAKER:
            self.speakers.add(row.speaker)
        if not is_good or row.duration_s is None:
            return
        self.num_good += 1
        self.num_timed += bool(row.words)
        num_words = len(row.text.split())
        self.num_words += num_words
        self.spoken_s += row.duration_s if num_words else 0.0
        self.durations_s.append(row.duration_s)
        stated = row.provenance
        key = (stated.name or NO_SOURCE, stated.licence, stated.consent)
        self.stated.setdefault(key, array("d")).append(row.duration_s)
        words_a_second = num_words / max(row.duration_s, 1e-9)
        # Speech without a transcript has no rate.
        self.num_odd_rates += num_words > 0 and not MIN_WORDS_A_SECOND <= words_a_second <= MAX_WORDS_A_SECOND

    def statistics(self) -> dict[str, Any]:
        """The sums by their names, for the report."""
        durations_s = np.asarray(self.durations_s, dtype=np.float64)
        found: dict[str, Any] = {
            "utterances": self.num_rows,
            "good utterances": self.num_good,
            "hours": float(durations_s.sum()) / 3600,
            "speakers": len(self.speakers),
            "splits": dict(self.splits.most_common()),
            "words": self.num_words,
            "files": self._files_by_kind(),
            "sample rates (Hz)": {str(rate): count for rate, count in self.rates.most_common()},
            "channels": {str(count): number for count, number in self.channels.most_common()},
        }
        if len(durations_s):
            quantiles = np.quantile(durations_s, [0, 0.5, 0.95, 1])
            names = ("shortest", "median", "95 %", "longest")
            found["durations (s)"] = dict(zip(names, (round(float(value), 3) for value in quantiles), strict=True))
        if self.spoken_s:
            found["words a second"] = self.num_words / self.spoken_s
        if self.num_timed:
            found["with timed words"] = self.num_timed
        return found | source_lines(self._hours())

    def _files_by_kind(self) -> dict[str, int]:
        """How many files there are of each kind, the most frequent first."""
        _, firsts = np.unique(np.array(self.files, np.uint64), return_index=True)
        kinds = np.array(self.kinds, np.int64)[np.sort(firsts)]
        names = list(self.kind_names)
        return dict(Counter(names[kind] for kind in kinds.tolist()).most_common())

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
            notes.append(
                "no speaker is named: held-out utterances are chosen one by one, segments of a file together, not by "
                "speaker"
            )
        return notes
