"""Transcripts as spoken English words: letters a–z, numbers spelt out, pronunciations by rule for unknown words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lst.data.text.digit_groups import groups_behind

T = TypeVar("T")

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
GROUP_NAMES = ("", "thousand", "million", "billion", "trillion")
_TENS = ("_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPOKEN_SIGNS = {
    "&": " and ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "$": " dollar ",
    "£": " pound ",
}
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
_UNDECOMPOSED = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "th", "þ": "th"})

# Letters to ARPAbet, longest match first; written for this project from the regular spellings of English.
_GRAPHEMES = {
    "tion": "SH AH N",
    "sion": "ZH AH N",
    "cian": "SH AH N",
    "ture": "CH ER",
    "ough": "AO",
    "augh": "AO",
    "eigh": "EY",
    "igh": "AY",
    "tch": "CH",
    "dge": "JH",
    "sch": "SH",
    "eau": "OW",
    "air": "EH R",
    "ear": "IH R",
    "eer": "IH R",
    "oor": "AO R",
    "our": "AW R",
    "que": "K",
    "ch": "CH",
    "sh": "SH",
    "th": "TH",
    "ph": "F",
    "wh": "W",
    "ck": "K",
    "ng": "NG",
    "qu": "K W",
    "kn": "N",
    "wr": "R",
    "gn": "N",
    "gh": "G",
    "ee": "IY",
    "ea": "IY",
    "ie": "IY",
    "ei": "IY",
    "ai": "EY",
    "ay": "EY",
    "ey": "IY",
    "oa": "OW",
    "oe": "OW",
    "oo": "UW",
    "ou": "AW",
    "ow": "OW",
    "oi": "OY",
    "oy": "OY",
    "au": "AO",
    "aw": "AO",
    "ew": "UW",
    "ue": "UW",
    "ui": "UW",
    "ar": "AA R",
    "er": "ER",
    "ir": "ER",
    "or": "AO R",
    "ur": "ER",
    "ce": "S",
    "ci": "S IH",
    "cy": "S IY",
    "ge": "JH",
    "gi": "JH IH",
    "bb": "B",
    "cc": "K",
    "dd": "D",
    "ff": "F",
    "gg": "G",
    "ll": "L",
    "mm": "M",
    "nn": "N",
    "pp": "P",
    "rr": "R",
    "ss": "S",
    "tt": "T",
    "zz": "Z",
    "a": "AE",
    "b": "B",
    "c": "K",
    "d": "D",
    "e": "EH",
    "f": "F",
    "g": "G",
    "h": "HH",
    "i": "IH",
    "j": "JH",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "o": "AA",
    "p": "P",
    "q": "K",
    "r": "R",
    "s": "S",
    "t": "T",
    "u": "AH",
    "v": "V",
    "w": "W",
    "x": "K S",
    "y": "Y",
    "z": "Z",
}
_LONGEST = max(map(len, _GRAPHEMES))
_LONG_VOWELS = {"a": "EY", "e": "IY", "i": "AY", "o": "OW", "u": "UW"}
_MAGIC_E = re.compile(r"([aeiou])([bcdfgklmnpstvz])e$")


@dataclass(frozen=True)
class SpokenWord:
    """A word of the transcript and how it is spoken.

    Attributes:
        text: the word as written, with its punctuation.
        tokens: one or more words of lower-case letters and apostrophes, for the dictionary.
    """

    text: str
    tokens: tuple[str, ...]


def join_unsaid(
    pieces: Iterable[tuple[str, Sequence[T]]], is_said: Callable[[Sequence[T]], bool] = bool
) -> list[tuple[str, list[T]]]:
    """Joins each piece of text that is not said (a lone dash) to the word before it, or to the first word.

    Args:
        pieces: pairs of text and the parts that it is said with.
        is_said: whether such parts are said; by default any parts are.

    Returns:
        Words, each with its parts; none if nothing is said.

    >>> join_unsaid([("—", []), ("Well", ["well"]), ("…", []), ("yes", ["yes"])])
    [('— Well …', ['well']), ('yes', ['yes'])]
    """
    words: list[tuple[str, list[T]]] = []
    anything_said = False
    for text, parts in pieces:
        said = is_said(parts)
        if words and not (said and anything_said):
            words[-1] = (f"{words[-1][0]} {text}", [*words[-1][1], *parts])
        else:
            words.append((text, list(parts)))
        anything_said |= said
    return words if anything_said else []


def spoken_words(text: str) -> list[SpokenWord]:
    """Splits a transcript at white space into words and says how each is spoken.

    Raises:
        ValueError: a word has letters that are not English even after accents are removed, or nothing is said.

    >>> [(word.text, word.tokens) for word in spoken_words("Well — 12 miles!")]
    [('Well —', ('well',)), ('12', ('twelve',)), ('miles!', ('miles',))]
    """
    words = join_unsaid((written, spoken_tokens(plain)) for written, plain in plain_pieces(text))
    if not words:
        raise ValueError(f"nothing in {text!r} can be said: it has no letter and no digit")
    return [SpokenWord(written, tuple(tokens)) for written, tokens in words]


def plain_pieces(text: str) -> list[tuple[str, str]]:
    """The pieces between white space, each as written and with its part of a number of several pieces as words.

    >>> plain_pieces("1 250 000 miles")
    [('1', ' one million '), ('250', ' two hundred fifty thousand '), ('000', '  '), ('miles', 'miles')]
    """
    behind = groups_behind(text)
    if not behind:
        return [(written, written) for written in text.split()]
    pieces = []
    for found in re.finditer(r"\S+", text):
        digits = re.search(r"\d+", found[0])
        place = -1 if digits is None else found.start() + digits.start()
        pieces.append((found[0], _in_words(found[0], behind[place]) if place in behind else found[0]))
    return pieces


def _in_words(written: str, num_groups: int) -> str:
    """A group of digits, with a decimal part perhaps, as its part of the number."""

    def said(found: re.Match[str]) -> str:
        part = f" point {' '.join(found[2])}" if found[2] else ""
        return f" {group_words(found[1], num_groups)}{part} "

    return re.sub(r"(\d+)(?:\.(\d+))?", said, written, count=1)


def group_words(digits: str, num_groups: int) -> str:
    """What three digits are in a number with so many such groups behind them; nothing for zeros."""
    return f"{spell_number(str(int(digits)))} {GROUP_NAMES[num_groups]}".strip() if int(digits) else ""


def spoken_tokens(written: str) -> list[str]:
    # Decomposed first: signs such as ™ turn into letters, and Ǽ into Æ with an accent.
    decomposed = unicodedata.normalize("NFKD", written.translate(_APOSTROPHES)).lower().translate(_UNDECOMPOSED)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    foreign = sorted({char for char in plain if char.isalpha() and not "a" <= char <= "z"})
    if foreign:
        raise ValueError(f"the word {written!r} has letters that are not English: {' '.join(foreign)}")
    for sign, spoken in _SPOKEN_SIGNS.items():
        plain = plain.replace(sign, spoken)
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    plain = re.sub(r"(\d+)\.(\d+)", lambda m: f"{m[1]} point {' '.join(m[2])}", plain)
    plain = re.sub(r"\d+", lambda match: f" {spell_number(match[0])} ", plain)
    return [token.strip("'") for token in re.findall(r"[a-z']+", plain) if token.strip("'")]


def spell_number(digits: str) -> str:
    """Says a whole number in English words; from a million on, digit by digit.

    >>> spell_number("1066")
    'one thousand sixty six'
    """
    value = int(digits)
    if value >= 1_000_000 or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_ONES[int(digit)] for digit in digits)
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10] + (f" {_ONES[value % 10]}" if value % 10 else "")
    size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {spell_number(str(value % size))}" if value % size else ""
    return f"{spell_number(str(value // size))} {name}{rest}"


def pronounce_by_rule(token: str) -> str:
    """ARPAbet phones of an unknown word, by regular spelling: rough, but good enough to place its boundaries.

    >>> pronounce_by_rule("blick")
    'B L IH K'
    """
    letters = token.replace("'", "")
    magic = _MAGIC_E.search(letters) if len(letters) > 2 else None
    end = len(letters) - 1 if magic else len(letters)
    phones: list[str] = []
    position = 0
    while position < end:
        piece = _longest_grapheme(letters[position:end])
        if magic and position == magic.start():
            piece = letters[position]
            phones.append(_LONG_VOWELS[piece])
        elif piece == "y" and 0 < position == len(letters) - 1:
            phones.append("IY")
        else:
            phones.append(_GRAPHEMES[piece])
        position += len(piece)
    return " ".join(phones) or "AH"


def _longest_grapheme(letters: str) -> str:
    """The longest start of ``letters`` that has a pronunciation; every single letter has one."""
    return next(piece for size in range(_LONGEST, 0, -1) if (piece := letters[:size]) in _GRAPHEMES)


def is_by_rule(word: str, dictionary: Collection[str]) -> bool:
    """Whether any part of a word is missing in a lower-case dictionary; True for words with foreign letters."""
    try:
        return any(token not in dictionary for spoken in spoken_words(word) for token in spoken.tokens)
    except ValueError:
        return True
