"""Transcripts of other languages than English as labels of a CTC model.

A dictionary of Latin letters without accents, such as that of MMS_FA, gets romanised words. One with other letters gets
the words as they are written, by the case of their language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lst.data.alignment.ctc.labels import CharacterGroup, LabelMap
from lst.data.text import PieceReadings, folded, romanised, word_readings

# A number with signs between its digits, or what lies between numbers.
_PART = re.compile(r"\d(?:[\d.,:/-]*\d)?|\D+")


def is_romanised(labels: Sequence[str]) -> bool:
    """Whether a dictionary wants romanised text: its letters are a–z."""
    letters = [label for label in labels if len(label) == 1 and label.isalpha()]
    return bool(letters) and all(map(str.isascii, letters))


class ForeignLabelMap(LabelMap):
    """``LabelMap`` of a language other than English.

    Args:
        labels, blank_id: as of ``LabelMap``.
        language: its code.
    """

    def __init__(self, labels: Sequence[str], blank_id: int, language: str) -> None:
        super().__init__(labels, blank_id)
        self.language = language
        self.is_romanised = is_romanised(labels)

    def _pieces(self, text: str) -> Iterable[tuple[str, list[CharacterGroup]]]:
        return ((piece.text, self._letters(piece)) for piece in word_readings(text, (), self.language))

    def _letters(self, piece: PieceReadings) -> list[CharacterGroup]:
        """The letters of a piece, or the words of its number where the language's are known."""
        plain = next(filter(None, piece.readings), ())
        if any(map(str.isdecimal, piece.text)) and not any(map(str.isdecimal, "".join(plain))):
            ids = self._ids_of(plain)
            return [CharacterGroup(len(piece.text), tuple([self.star_id] if ids is None else ids))]
        return self._groups(piece.text)

    def _groups(self, written: str) -> list[CharacterGroup]:
        """Letters; digits are those of the dictionary, or any sound."""
        groups: list[CharacterGroup] = []
        for match in _PART.finditer(written):
            if match[0][0].isdecimal():
                digits = [self._ids.get(char) for char in match[0] if char.isdecimal()]
                known = [digit for digit in digits if digit is not None]
                is_known = len(known) == len(digits)
                groups.append(CharacterGroup(len(match[0]), tuple(known) if is_known else (self.star_id,)))
            else:
                groups += self._letter_groups(match[0], (written[: match.start()], written[match.end() :]))
        return groups

    def _letter_groups(self, run: str, around: tuple[str, str]) -> list[CharacterGroup]:
        """Labels of a run without digits; ``around`` is the rest of its word."""
        if not self.is_romanised:
            return [
                CharacterGroup(1, tuple(self._say(self._cased(char), _is_inner(run, place, place + 1, around))))
                for place, char in enumerate(run)
            ]
        groups, start = [], 0
        for part in romanised(run, self.language):
            end = start + part.num_characters
            # At the edge of a word an apostrophe is a quotation mark.
            is_quote = part.letters == "'" and not _is_inner(run, start, end, around)
            ids = [self._label_of(char) for char in part.letters]
            labels = () if is_quote else tuple(label for label in ids if label is not None)
            groups.append(CharacterGroup(end - start, labels if part.is_known else (self.star_id,)))
            start = end
        return groups

    def _cased(self, char: str) -> str:
        """A character in the case that the dictionary has; without one, as it is written."""
        lower = folded(char, self.language)
        return lower if lower in self._ids else char

    def _ids_of(self, tokens: Sequence[str]) -> list[int] | None:
        if self.is_romanised:
            tokens = ["".join(part.letters for part in romanised(token, self.language)) for token in tokens]
        return super()._ids_of(tokens)


def _is_inner(run: str, start: int, end: int, around: tuple[str, str]) -> bool:
    """Whether letters or digits stand on both sides of a part of a run."""
    sides = (around[0] + run[:start], run[end:] + around[1])
    return all(any(map(str.isalnum, side)) for side in sides)
