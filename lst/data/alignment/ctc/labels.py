"""A transcript in a CTC model's labels: letters by its dictionary, numbers and signs as they are said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lst.data.text import spoken_words

WORD_BOUNDARY = "|"
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_SIGNS = "&%+=@$£"
_APOSTROPHES = "'’‘ʼ`"


class CharacterGroup(NamedTuple):
    """Written characters and the labels that say them: often one and one; a number many; punctuation none."""

    num_characters: int
    label_ids: tuple[int, ...]


@dataclass(frozen=True)
class CtcWord:
    """A word as written (with spaces only where something unsaid joined it) and how it is said."""

    text: str
    groups: tuple[CharacterGroup, ...]

    @property
    def label_ids(self) -> list[int]:
        return [label for group in self.groups for label in group.label_ids]


class LabelMap:
    """Turns text to labels of one dictionary; a letter that it lacks becomes the star, which any sound may be.

    Args:
        labels: [V], the dictionary's; the star has the id V, behind the last.
        blank_id: CTC's blank, which is never text even where it is written as a dash.
    """

    def __init__(self, labels: Sequence[str], blank_id: int) -> None:
        self.star_id = len(labels)
        self._ids: dict[str, int] = {}
        for index, label in enumerate(labels):
            if index != blank_id and len(label) == 1 and label != WORD_BOUNDARY:
                self._ids.setdefault(label, index)
        self.boundary_id = next((i for i, label in enumerate(labels) if label == WORD_BOUNDARY and i != blank_id), None)

    def words(self, text: str) -> list[CtcWord]:
        """Splits at white space; what is not said joins the word before it.

        Raises:
            ValueError: nothing is said.
        """
        found: list[CtcWord] = []
        pending: list[tuple[str, list[CharacterGroup]]] = []
        for written in text.split():
            groups = self._groups(written)
            if any(group.label_ids for group in groups):
                pending.append((written, groups))
                found.append(_joined(pending))
                pending = []
            elif found:
                found[-1] = _joined([(found[-1].text, list(found[-1].groups)), (written, groups)])
            else:
                pending.append((written, groups))
        if not found:
            raise ValueError(f"nothing in {text!r} can be said: it has no letter and no digit")
        return found

    def _groups(self, written: str) -> list[CharacterGroup]:
        groups = []
        position = 0
        while position < len(written):
            number = _NUMBER.match(written, position)
            size = len(number[0]) if number else 1
            piece = written[position : position + size]
            inner = any(char.isalnum() for char in written[:position]) and any(
                char.isalnum() for char in written[position + 1 :]
            )
            groups.append(CharacterGroup(size, tuple(self._say(piece, inner))))
            position += size
        return groups

    def _say(self, piece: str, inner: bool) -> list[int]:
        """Labels of a number or one character; ``inner`` if letters stand at both sides."""
        if piece in _APOSTROPHES:
            # At the edge of a word it is a quotation mark.
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
        """English words of a number or a sign; one star where the dictionary has not all their letters."""
        ids: list[int] = []
        for word in spoken_words(piece)[0].tokens:
            if ids and self.boundary_id is not None:
                ids.append(self.boundary_id)
            for char in word:
                label = self._ids.get(char, self._ids.get(char.upper()))
                if label is None:
                    return [self.star_id]
                ids.append(label)
        return ids


def _joined(parts: Sequence[tuple[str, list[CharacterGroup]]]) -> CtcWord:
    return CtcWord(" ".join(text for text, _ in parts), tuple(group for _, groups in parts for group in groups))
