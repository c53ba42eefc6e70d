"""Which texts occur in other texts: shared runs of words, and whole texts.

::

    texts ──Overlaps──▶ their n-grams, by hash
    other texts, in batches ──Overlaps.scan──▶ n-grams and whole texts that were seen, with where

Words become numbers, 0 for those that no text of interest has. The hash of L words of a batch, a polynomial modulo 2⁶⁴,
follows from running sums for any L, so all windows of a batch are looked up at once. What the hash finds is compared
word by word: there are no false matches. Memory is that of the texts of interest and of one batch.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

WORDS_A_BATCH = 1 << 18
_WORD = re.compile(r"\w+(?:'\w+)*")
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2⁶⁴
_INVERSE = pow(_BASE, -1, 1 << 64)


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: without case, punctuation and forms of characters.

    >>> words_of("“Don’t,” SHE said — twice.")
    ["don't", 'she', 'said', 'twice']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


class Seen(NamedTuple):
    """A run of words of a text that occurs in another text, whose id is ``source``."""

    words: str
    source: str


@dataclass
class _Grams:
    """The n-grams of one length, each once.

    Attributes:
        hashes: uint64 [grams], rising.
        places: [grams], where the words of one occurrence begin among all words of all texts.
        owners: texts that have each n-gram: those of gram i are ``owners[bounds[i]:bounds[i + 1]]``.
        bounds: [grams + 1].
        begun: by gram, the texts that begin with it and were not seen as a whole.
        is_seen: bool [grams].
        is_sought: bool [grams], whether it was not seen yet, or texts that begin with it were not.
    """

    hashes: np.ndarray
    places: np.ndarray
    owners: np.ndarray
    bounds: np.ndarray
    begun: dict[int, list[int]]
    is_seen: np.ndarray
    is_sought: np.ndarray


@dataclass
class Overlaps:
    """Looks for texts, and for their n-grams, in other texts.

    A text of fewer than ``ngram`` words is looked for as a whole.

    Args:
        texts: by id.
        ngram: words of an n-gram.

    Attributes:
        lengths: words of each text.
        shared: by id, an n-gram of the text that was seen.
        whole: by id, the texts that were seen as a whole, one word after the other.
        num_texts, num_words: that were looked through.
    """

    texts: Mapping[str, str]
    ngram: int
    lengths: dict[str, int] = field(init=False)
    shared: dict[str, Seen] = field(init=False, default_factory=dict)
    whole: dict[str, Seen] = field(init=False, default_factory=dict)
    num_texts: int = field(init=False, default=0)
    num_words: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        words = {name: words_of(text) for name, text in self.texts.items()}
        self.lengths = {name: len(own) for name, own in words.items()}
        self._names = list(words)
        self._vocabulary: dict[str, int] = {}
        ids = [self._vocabulary.setdefault(word, len(self._vocabulary) + 1) for own in words.values() for word in own]
        self._ids = np.array(ids, np.uint64)
        self._starts = np.cumsum([0, *self.lengths.values()])
        self._sums = _Sums(self._ids)
        self._grams = {
            length: self._grams_of(length) for length in sorted({self._length(n) for n in self._names} - {0})
        }

    def _length(self, name: str) -> int:
        """Words of the n-grams that a text is looked for by; 0 for a text without words."""
        return min(self.ngram, self.lengths[name])

    def _grams_of(self, length: int) -> _Grams:
        owners = [number for number, name in enumerate(self._names) if self._length(name) == length]
        places = np.concatenate(
            [np.arange(self._starts[number], self._starts[number + 1] - length + 1) for number in owners]
        )
        of_text = np.repeat(owners, [self.lengths[self._names[number]] - length + 1 for number in owners])
        hashes, first, inverse = np.unique(self._sums.hashes(places, length), return_index=True, return_inverse=True)
        begun: dict[int, list[int]] = {}
        for gram, number in zip(inverse[np.isin(places, self._starts[owners])].tolist(), owners, strict=True):
            begun.setdefault(gram, []).append(number)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(hashes) + 1))
        is_seen, is_sought = np.zeros(len(hashes), bool), np.ones(len(hashes), bool)
        return _Grams(hashes, places[first], of_text[order], bounds, begun, is_seen, is_sought)

    def scan(self, sources: Iterable[tuple[str, str]]) -> None:
        """Looks through other texts, each with its id."""
        ids: list[np.ndarray] = []
        names: list[str] = []
        num_words = 0
        for name, text in sources:
            words = words_of(text)
            # 0 stands for words that no text has, and between texts.
            ids.append(np.array([*(self._vocabulary.get(word, 0) for word in words), 0], np.uint64))
            names.append(name)
            self.num_texts, self.num_words = self.num_texts + 1, self.num_words + len(words)
            num_words += len(words) + 1
            if num_words >= WORDS_A_BATCH:
                self._scan_batch(ids, names)
                ids, names, num_words = [], [], 0
        if ids:
            self._scan_batch(ids, names)

    def _scan_batch(self, texts: Sequence[np.ndarray], names: Sequence[str]) -> None:
        ids = np.concatenate(texts)
        ends = np.cumsum([len(text) for text in texts])
        sums, unknown = _Sums(ids), np.concatenate([[0], np.cumsum(ids == 0)])
        for length, grams in self._grams.items():
            places = np.arange(len(ids) - length + 1)
            places = places[unknown[places + length] == unknown[places]]
            hashes = sums.hashes(places, length)
            found = np.minimum(np.searchsorted(grams.hashes, hashes), len(grams.hashes) - 1)
            is_hit = (grams.hashes[found] == hashes) & grams.is_sought[found]
            found, places = found[is_hit], places[is_hit]
            window = np.arange(length)
            same = (ids[places[:, None] + window] == self._ids[grams.places[found][:, None] + window]).all(axis=1)
            self._note(grams, found[same], places[same], length, _Batch(ids, sums, ends, names))

    def _note(self, grams: _Grams, found: np.ndarray, places: np.ndarray, length: int, batch: _Batch) -> None:
        """Notes which texts share the n-grams that were found at some places of a batch."""
        order = np.argsort(found, kind="stable")
        found, places = found[order], places[order]
        for gram, first, last in _runs(found):
            if not grams.is_seen[gram]:
                grams.is_seen[gram] = True
                seen = Seen(self._words(int(grams.places[gram]), length), batch.source(int(places[first])))
                for number in grams.owners[grams.bounds[gram] : grams.bounds[gram + 1]]:
                    self.shared.setdefault(self._names[number], seen)
            begun = grams.begun.get(gram, [])
            for number in begun:
                self._look_for_whole(number, places[first:last], batch)
            grams.begun[gram] = [number for number in begun if self._names[number] not in self.whole]
            grams.is_sought[gram] = bool(grams.begun[gram])

    def _look_for_whole(self, number: int, places: np.ndarray, batch: _Batch) -> None:
        """Notes whether a text stands at one of the places of a batch."""
        start, length = int(self._starts[number]), self.lengths[self._names[number]]
        own = self._ids[start : start + length]
        places = places[places + length <= len(batch.ids)]
        for place in places[batch.sums.hashes(places, length) == self._sums.hashes(np.array([start]), length)]:
            if np.array_equal(batch.ids[place : place + length], own):
                name = self._names[number]
                self.whole[name] = Seen(self._words(start, length), batch.source(int(place)))
                return

    def _words(self, start: int, length: int) -> str:
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = start - int(self._starts[number])
        return " ".join(words_of(self.texts[self._names[number]])[first : first + length])


class _Sums:
    """Hashes of all windows of some ids, uint64 [words]."""

    def __init__(self, ids: np.ndarray) -> None:
        powers = _powers(_INVERSE, len(ids))
        # Sums wrap around, which is what is wanted.
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(ids * powers, dtype=np.uint64)])
        self._powers = _powers(_BASE, len(ids))

    def hashes(self, places: np.ndarray, length: int) -> np.ndarray:
        """Hash of the ``length`` words from each place on, uint64 [places]."""
        found: np.ndarray = (self._sums[places + length] - self._sums[places]) * self._powers[places + length - 1]
        return found


def _powers(base: int, count: int) -> np.ndarray:
    """``base`` to the powers 0 … ``count`` − 1, uint64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


class _Batch(NamedTuple):
    """Texts that are looked through together: their ids, ends and names."""

    ids: np.ndarray
    sums: _Sums
    ends: np.ndarray
    names: Sequence[str]

    def source(self, place: int) -> str:
        """Name of the text that holds a place."""
        return self.names[int(np.searchsorted(self.ends, place, side="right"))]


def _runs(values: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """Value, start and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    bounds = [0, *edges.tolist(), len(values)]
    return ((int(values[first]), first, last) for first, last in pairwise(bounds) if last > first)
