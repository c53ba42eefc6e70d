"""Checks a corpus as a whole: the language of its transcripts, labels, repeated texts, audio that comes twice."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

from lst.data.audio.levels import AudioLevels
from lst.data.corpora import ManifestRow
from lst.data.corpora.provenance import NULLS
from lst.data.corpora.records import shown
from lst.data.corpora.row_table import name_key, repeated
from lst.data.text.english import (
    COMMON_WORDS,
    MIN_COMMON_SHARE,
    MIN_KNOWN_SHARE,
    is_foreign,
    is_known,
    letter_words,
)
from lst.data.text.pronounce import pronouncing_dictionary
from lst.errors import UserError

# Shares of dictionary words: read English has 97 % and more, German about 55 %, as the dictionary holds many names.
USUAL_KNOWN_SHARE = 0.9
MIN_WORDS = 20
# A text of several words that comes so often, in numbers and as a share, is seldom what was said.
MIN_REPEATED, REPEATED_SHARE, SAME_TEXT_SHARE = 5, 0.01, 0.3
MIN_ROWS_OF_NAMES, MAX_RATE_OF_NAMES = 6, 0.7
MAX_LABELS = 10_000
KEY_BYTES = 16
_LABEL = re.compile(r"<[^<>]{1,40}>|\[[^\[\]]{1,40}\]|\([^()]{1,40}\)|\{[^{}]{1,40}\}|&(?:#\d+|[a-z]+);")


class TextContent:
    """Sums over transcripts; 12 bytes are kept of each, not the text. Parts of a corpus can be added up.

    Args:
        is_english: whether the aligner has an English dictionary, so that words outside of it tell something.
    """

    def __init__(self, is_english: bool) -> None:
        self.num_rows = self.num_words = self.num_known = self.num_common = self.num_foreign_rows = 0
        self.num_single_words = 0
        self.duration_s = 0.0
        self.unknown: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.num_labelled = 0
        self.keys, self.numbers = array("Q"), array("I")  # of each text, and of its row
        self.foreign_example = ""
        self.is_english = is_english

    def merge(self, other: TextContent) -> None:
        """Adds the sums of the next part of the corpus."""
        self.num_rows += other.num_rows
        self.num_words += other.num_words
        self.num_known += other.num_known
        self.num_common += other.num_common
        self.num_foreign_rows += other.num_foreign_rows
        self.num_single_words += other.num_single_words
        self.num_labelled += other.num_labelled
        self.duration_s += other.duration_s
        if len(self.unknown) < MAX_LABELS:
            self.unknown.update(other.unknown)
        if len(self.labels) < MAX_LABELS:
            self.labels.update(other.labels)
        self.keys.extend(other.keys)
        self.numbers.extend(other.numbers)
        self.foreign_example = self.foreign_example or other.foreign_example

    def add(self, row: ManifestRow, number: int) -> None:
        """Counts the transcript of a row, by its number. A missing one is a problem of its row already."""
        if row.text.strip() in NULLS:
            return
        self.num_rows += 1
        self.duration_s += row.duration_s or 0.0
        if labels := _LABEL.findall(row.text):
            self.num_labelled += 1
            self.labels.update(labels)
        plain = _plain(row.text)
        self.num_single_words += len(plain.split()) == 1
        self.keys.append(name_key(plain))
        self.numbers.append(number)
        dictionary = _dictionary() if self.is_english and not row.language else {}
        if dictionary:
            self._count_words(row, _LABEL.sub(" ", plain), dictionary)

    def _count_words(self, row: ManifestRow, text: str, dictionary: Mapping[str, tuple[str, ...]]) -> None:
        words = letter_words(text)
        unknown = [word for word in words if not is_known(word, dictionary)]
        self.num_words += len(words)
        self.num_known += len(words) - len(unknown)
        self.num_common += sum(word in COMMON_WORDS for word in words)
        self.unknown.update(unknown)
        if is_foreign(words, dictionary):
            self.num_foreign_rows += 1
            self.foreign_example = self.foreign_example or f"{row.place}: {shown(row.text)}"

    @property
    def known_share(self) -> float | None:
        """Share of words in the dictionary; None if too few words were counted."""
        return self.num_known / self.num_words if self.num_words >= MIN_WORDS else None

    def most_repeated(self) -> list[tuple[int, int]]:
        """The three texts that come most often: how often, and the number of a row with each."""
        _, firsts, counts = np.unique(np.array(self.keys, np.uint64), return_index=True, return_counts=True)
        order = np.lexsort((firsts, -counts))[:3]
        return [(int(counts[place]), self.numbers[firsts[place]]) for place in order]

    def problems(self, rows: Sequence[ManifestRow]) -> list[tuple[str, str]]:
        """(kind, message) of what is wrong with the transcripts as a whole; ``rows`` are those of the corpus."""
        found = []
        share = self.known_share
        if self._are_names(share):
            found.append(
                (
                    "transcript",
                    f"the transcripts look like names of speakers: {self._num_texts():,} different single words in "
                    f"{self.num_rows:,} rows. Check which column holds the text",
                )
            )
        elif self._is_foreign(share):
            found.append(
                (
                    "language",
                    f"the transcripts are not English: {share:.0%} of {self.num_words:,} words are in the aligner's "
                    f"dictionary; unknown are {self._most(self.unknown)}. For another language, say which with "
                    "data.language=CODE, or use data.align.method=ctc or import",
                )
            )
        for count, number in self.most_repeated():
            is_often = count >= MIN_REPEATED and count >= SAME_TEXT_SHARE * self.num_rows
            if is_often and len((text := _plain(rows[number].text)[:100]).split()) > 1:
                message = f"{count:,} of {self.num_rows:,} utterances have the same transcript: {shown(text)}"
                found.append(("transcript", message))
        return found

    def _is_foreign(self, share: float | None) -> bool:
        """Whether the transcripts are in another language, by rare dictionary words and rare common words."""
        if share is None:
            return False
        return share < MIN_KNOWN_SHARE or (
            share < USUAL_KNOWN_SHARE and self.num_common < MIN_COMMON_SHARE * self.num_words
        )

    def _are_names(self, share: float | None) -> bool:
        """Whether all transcripts are single words that come again, and are slow or unknown words."""
        if self.num_rows < MIN_ROWS_OF_NAMES or self.num_single_words < self.num_rows:
            return False
        is_slow = self.num_rows < MAX_RATE_OF_NAMES * self.duration_s
        is_unknown = self.num_known < MIN_KNOWN_SHARE * self.num_words
        return 2 * self._num_texts() <= self.num_rows and (is_slow or is_unknown)

    def _num_texts(self) -> int:
        return len(np.unique(np.array(self.keys, np.uint64)))

    def notes(self, rows: Sequence[ManifestRow]) -> list[str]:
        """Observations that are no problems."""
        notes = []
        share = self.known_share
        if share is not None and share < USUAL_KNOWN_SHARE and not self._is_foreign(share):
            notes.append(
                f"{share:.0%} of the words are in the aligner's English dictionary, the others are pronounced by rule: "
                f"{self._most(self.unknown)}"
            )
        if self.num_foreign_rows and not self._is_foreign(share):
            notes.append(f"{self.num_foreign_rows:,} transcripts have few dictionary words ({self.foreign_example})")
        if self.num_labelled:
            notes.append(f"{self.num_labelled:,} transcripts have labels or entities: {self._most(self.labels)}")
        often = max(MIN_REPEATED, REPEATED_SHARE * self.num_rows)
        for count, number in self.most_repeated():
            is_noted = often <= count < SAME_TEXT_SHARE * self.num_rows
            if is_noted and len((text := _plain(rows[number].text)[:100]).split()) > 2:
                notes.append(f"{count:,} utterances have the same transcript: {shown(text)}")
        return notes

    @staticmethod
    def _most(counts: Counter[str]) -> str:
        return ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(5))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


@lru_cache(maxsize=1)
def _dictionary() -> Mapping[str, tuple[str, ...]]:
    """The aligner's dictionary; empty without pocketsphinx, when there is none to compare with."""
    try:
        return pronouncing_dictionary()
    except UserError:
        return {}


class AudioContent:
    """Finds audio that comes more than once: by its place, and by its samples where these were decoded.

    20 bytes are kept of each utterance. Those with the same audio are read again, and compared.
    """

    def __init__(self) -> None:
        self.keys, self.numbers = bytearray(), array("I")
        self.num_twice = self.num_other_texts = 0
        self.example = ""

    def merge(self, other: AudioContent) -> None:
        """Adds the next part of the corpus."""
        self.keys += other.keys
        self.numbers.extend(other.numbers)

    def add(self, row: ManifestRow, levels: AudioLevels | None, number: int) -> None:
        """Adds a row, by its number, with what was measured of its audio."""
        # Rows of one file without times or channel are the same audio; a digest of samples finds copies, too.
        place = f"{row.path}\0{row.member}\0{row.start_s}\0{row.channel}\0{row.duration_s}"
        content = place.encode("utf-8", "surrogatepass") if levels is None else levels.digest
        self.keys += hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
        self.numbers.append(number)

    def problems(self, rows: Sequence[ManifestRow]) -> Iterator[tuple[ManifestRow, str]]:
        """Rows whose audio is that of an earlier row in another split, and what to say of each.

        Args:
            rows: of the whole corpus.
        """
        keys = np.frombuffer(bytes(self.keys), np.uint64).reshape(-1, KEY_BYTES // 8)
        first: dict[bytes, tuple[str, str, str]] = {}  # id, split, text
        # Rows with half of the key in common are few, so that the other half decides in time.
        for place in repeated(keys[:, 0]).tolist():
            row = rows[self.numbers[place]]
            split = row.split or "train"  # what a row without a split becomes beside those that have one
            found = (row.id, split, _plain(row.text))
            earlier = first.setdefault(keys[place].tobytes(), found)
            if earlier is found:
                continue
            other_id, other_split, other_text = earlier
            if split != other_split:
                yield row, f"its audio is that of {other_id!r}: one recording is in {other_split} and {split}"
            elif found[2] != other_text:
                self.num_other_texts += 1
                self.example = self.example or f"{other_id}, {row.id}"
            else:
                self.num_twice += 1

    def notes(self) -> list[str]:
        """Observations that are no problems."""
        notes = []
        if self.num_twice:
            notes.append(f"{self.num_twice:,} utterances have the audio and the transcript of another one")
        if self.num_other_texts:
            notes.append(
                f"{self.num_other_texts:,} utterances have another one's audio, not its transcript ({self.example})"
            )
        return notes
