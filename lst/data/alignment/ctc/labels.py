"""Transcripts as labels of a CTC model: letters by its dictionary, numbers and signs as they are spoken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lst.data.text import PieceReadings, join_unsaid, spoken_words, word_readings

WORD_BOUNDARY = "|"
# A number, or any one character.
_PIECE = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|(?s:.)")
_SIGNS = "&%+=@$£"
_APOSTROPHES = "'’‘ʼ`"


class CharacterGroup(NamedTuple):
    """Written characters and their labels: mostly one each; a number has many labels, punctuation has none."""

    num_characters: int
    label_ids: tuple[int, ...]


@dataclass(frozen=True)
class CtcWord:
    """A word as written and its labels. The text has spaces only where unsaid pieces (a lone dash) joined it."""

    text: str
    groups: tuple[CharacterGroup, ...]

    @property
    def label_ids(self) -> list[int]:
        """Labels of the whole word, in order."""
        return [label for group in self.groups for label in group.label_ids]


class CtcReadings(NamedTuple):
    """A piece of a transcript and the ways to read it; one without labels is unsaid."""

    text: str
    words: tuple[CtcWord, ...]


class LabelMap:
    """Turns text into the labels of one dictionary. Letters that it lacks become the star, which matches any sound.

    Args:
        labels: [V], the dictionary; the star has the id V.
        blank_id: CTC's blank, which never stands for text, even if it is written as a dash.

    Attributes:
        language: of the texts; empty for English. ``ForeignLabelMap`` is for the others.
    """

    language = ""

    def __init__(self, labels: Sequence[str], blank_id: int) -> None:
        self.star_id = len(labels)
        self._ids: dict[str, int] = {}
        for index, label in enumerate(labels):
            if index != blank_id and len(label) == 1 and label != WORD_BOUNDARY:
                self._ids.setdefault(label, index)
        self.boundary_id = next((i for i, label in enumerate(labels) if label == WORD_BOUNDARY and i != blank_id), None)

    def words(self, text: str) -> list[CtcWord]:
        """Splits text at white space; a piece that is not said joins the word before it.

        Raises:
            ValueError: nothing is said.
        """
        words = join_unsaid(self._pieces(text), lambda groups: any(group.label_ids for group in groups))
        if not words:
            raise ValueError(f"nothing in {text!r} can be said: it has no letter and no digit")
        return [CtcWord(written, tuple(groups)) for written, groups in words]

    def readings(self, text: str, brackets: Sequence[str]) -> list[CtcReadings]:
        """The readings of each piece of a transcript, the plain one first.

        Raises:
            ValueError: nothing is said.
        """
        pieces = word_readings(text, brackets, self.language)
        found = [CtcReadings(piece.text, self._ways(piece)) for piece in pieces]
        if not any(word.label_ids for piece in found for word in piece.words):
            raise ValueError(f"nothing in {text!r} can be said: it has no letter and no digit")
        return found

    def _ways(self, piece: PieceReadings) -> tuple[CtcWord, ...]:
        """The readings of one piece: of a label silence first, of all others their letters."""
        letters = CtcWord(piece.text, tuple(self._letters(piece)))
        if not piece.plain:
            return CtcWord(piece.text, (CharacterGroup(len(piece.text), ()),)), letters
        is_whole = piece.plain == piece.text
        ways = {tuple(letters.label_ids): letters} if is_whole else {}
        for tokens in piece.readings[is_whole:]:
            if (ids := self._ids_of(tokens)) is not None:
                ways.setdefault(tuple(ids), CtcWord(piece.text, (CharacterGroup(len(piece.text), tuple(ids)),)))
        return tuple(ways.values()) or (letters,)

    def _pieces(self, text: str) -> Iterable[tuple[str, list[CharacterGroup]]]:
        """The pieces of a text between white space, and their plain reading."""
        return ((written, self._groups(written)) for written in text.split())

    def _letters(self, piece: PieceReadings) -> list[CharacterGroup]:
        """The plain reading of a piece."""
        return self._groups(piece.text)

    def _groups(self, written: str) -> list[CharacterGroup]:
        groups = []
        for match in _PIECE.finditer(written):
            around = (written[: match.start()], written[match.start() + 1 :])
            inner = all(any(map(str.isalnum, side)) for side in around)
            groups.append(CharacterGroup(len(match[0]), tuple(self._say(match[0], inner))))
        return groups

    def _say(self, piece: str, inner: bool) -> list[int]:
        """Labels of a number or one character; ``inner``: letters stand on both sides of it."""
        if piece in _APOSTROPHES:
            # At the edge of a word an apostrophe is a quotation mark.
            return [self._ids["'"]] if inner and "'" in self._ids else []
        for spelling in (piece, piece.lower(), piece.upper()):
            if spelling in self._ids:
                return [self._ids[spelling]]
        if piece in _SIGNS or (piece[0].isdecimal() and piece.isascii()):
            digits = [self._ids.get(char) for char in piece if char.isdecimal()]
            # A dictionary that has digits was trained on them, not on their names.
            return [digit for digit in digits if digit] if digits and all(digits) else self._say_in_words(piece)
        plain = unicodedata.normalize("NFKD", piece)
        letters = [char for char in plain if char.isalnum()]
        if not letters:
            return []
        if plain == piece:
            return [self.star_id]
        return [label for char in letters for label in self._say(char, inner)]

    def _say_in_words(self, piece: str) -> list[int]:
        """English words of a number or a sign; a star if the dictionary lacks any of their letters."""
        found = self._ids_of(spoken_words(piece)[0].tokens)
        return [self.star_id] if found is None else found

    def _ids_of(self, tokens: Sequence[str]) -> list[int] | None:
        """Labels of words of letters, with boundaries between them; None if the dictionary lacks a letter."""
        boundary = "" if self.boundary_id is None else WORD_BOUNDARY
        text = boundary.join(tokens)
        ids = [self.boundary_id if char == WORD_BOUNDARY else self._label_of(char) for char in text]
        found = [label for label in ids if label is not None]
        return found if len(found) == len(ids) else None

    def _label_of(self, char: str) -> int | None:
        return self._ids.get(char, self._ids.get(char.upper()))
