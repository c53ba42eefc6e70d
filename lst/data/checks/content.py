"""Checks a corpus as a whole: the language of its transcripts, labels, repeated texts, audio that comes twice."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter

from lst.data.audio.levels import AudioLevels
from lst.data.corpora import ManifestRow
from lst.data.corpora.records import shown
from lst.data.corpora.row_checks import NULLS
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
_LABEL = re.compile(r"<[^<>]{1,40}>|\[[^\[\]]{1,40}\]|\([^()]{1,40}\)|\{[^{}]{1,40}\}|&(?:#\d+|[a-z]+);")


class TextContent:
    """Sums over transcripts; a hash is kept of each text, not the text.

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
        self.texts: Counter[bytes] = Counter()
        self.examples: dict[bytes, str] = {}  # of texts that came more than once
        self.foreign_example = ""
        self.dictionary: dict[str, tuple[str, ...]] = {}
        if is_english:
            # Without pocketsphinx there is no dictionary to compare with.
            with contextlib.suppress(UserError):
                self.dictionary = pronouncing_dictionary()

    def add(self, row: ManifestRow) -> None:
        """Counts one transcript. A missing one is a problem of its row already."""
        if row.text.strip() in NULLS:
            return
        self.num_rows += 1
        self.duration_s += row.duration_s or 0.0
        if labels := _LABEL.findall(row.text):
            self.num_labelled += 1
            if len(self.labels) < MAX_LABELS:
                self.labels.update(labels)
        plain = " ".join(row.text.lower().split())
        self.num_single_words += len(plain.split()) == 1
        key = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self.texts[key] += 1
        if self.texts[key] == 2:
            self.examples[key] = plain[:100]
        if self.dictionary and not row.language:
            self._count_words(row, _LABEL.sub(" ", plain))

    def _count_words(self, row: ManifestRow, text: str) -> None:
        words = letter_words(text)
        unknown = [word for word in words if not is_known(word, self.dictionary)]
        self.num_words += len(words)
        self.num_known += len(words) - len(unknown)
        self.num_common += sum(word in COMMON_WORDS for word in words)
        if len(self.unknown) < MAX_LABELS:
            self.unknown.update(unknown)
        if is_foreign(words, self.dictionary):
            self.num_foreign_rows += 1
            self.foreign_example = self.foreign_example or f"{row.place}: {shown(row.text)}"

    @property
    def known_share(self) -> float | None:
        """Share of words in the dictionary; None if too few words were counted."""
        return self.num_known / self.num_words if self.num_words >= MIN_WORDS else None

    def problems(self) -> list[tuple[str, str]]:
        """(kind, message) of what is wrong with the transcripts as a whole."""
        found = []
        share = self.known_share
        if self._are_names(share):
            found.append(
                (
                    "transcript",
                    f"the transcripts look like names of speakers: {len(self.texts):,} different single words in "
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
        for key, count in self.texts.most_common(3):
            if (
                count >= MIN_REPEATED
                and count >= SAME_TEXT_SHARE * self.num_rows
                and len(self.examples[key].split()) > 1
            ):
                message = (
                    f"{count:,} of {self.num_rows:,} utterances have the same transcript: {shown(self.examples[key])}"
                )
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
        return 2 * len(self.texts) <= self.num_rows and (is_slow or is_unknown)

    def notes(self) -> list[str]:
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
        for key, count in self.texts.most_common(3):
            is_text = count >= often and len(self.examples.get(key, "").split()) > 2
            if is_text and count < SAME_TEXT_SHARE * self.num_rows:
                notes.append(f"{count:,} utterances have the same transcript: {shown(self.examples[key])}")
        return notes

    @staticmethod
    def _most(counts: Counter[str]) -> str:
        return ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(5))


class AudioContent:
    """Finds audio that comes more than once: by its place, and by its samples where these were decoded."""

    def __init__(self) -> None:
        self.first: dict[bytes, tuple[str, str, int]] = {}  # id, split, hash of the text
        self.num_twice = self.num_other_texts = 0
        self.example = ""

    def add(self, row: ManifestRow, levels: AudioLevels | None) -> list[str]:
        """The problems of one row: its audio is that of an earlier row in another split."""
        # Rows of one file without times or channel are the same audio; a digest of samples finds copies, too.
        if levels is None:
            place = f"{row.path}\0{row.member}\0{row.start_s}\0{row.channel}\0{row.duration_s}"
            key = hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        else:
            key = levels.digest
        text = hash(" ".join(row.text.lower().split()))
        split = row.split or "train"  # what a row without a split becomes beside those that have one
        if key not in self.first:
            self.first[key] = (row.id, split, text)
            return []
        other_id, other_split, other_text = self.first[key]
        if split != other_split:
            return [f"its audio is that of {other_id!r}: one recording is in {other_split} and {split}"]
        if text != other_text:
            self.num_other_texts += 1
            self.example = self.example or f"{other_id}, {row.id}"
        else:
            self.num_twice += 1
        return []

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
