"""Transcripts as spoken English words: letters a–z, numbers spelt out, pronunciations by rule for unknown words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lst.data.text.digit_groups import groups_behind
from lst.data.text.readings import CURRENCY_SIGNS, MONEY, money, money_name, ordinal_of, spell_number

T = TypeVar("T")

GROUP_NAMES = ("", "thousand", "million", "billion", "trillion")
_SPOKEN_SIGNS = {
    "&": " and ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "$": " dollar ",
    "£": " pound ",
}
_GROUP = re.compile(r"(\d+)(?:\.(\d+)|(?:st|nd|rd|th)\b)?([–-](?=\d))?", re.IGNORECASE)
_SIGN_AHEAD = re.compile(rf"([{re.escape(CURRENCY_SIGNS)}])\d{{1,3}}(?:\s\d{{3}})*\s$")
# $2.5 million: the name of the money stands behind the size.
_LARGE_MONEY = re.compile(
    rf"([{re.escape(CURRENCY_SIGNS)}])(\d[\d.,]*(?:\s\d{{3}})*\s+(?:hundred|thousand|million|billion|trillion)\b)",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"\d+(?:\s000)*(?:st|nd|rd|th)\b", re.IGNORECASE)
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
    plain = _LARGE_MONEY.sub(lambda found: f"{found[2]}-{money_name(found[1])}", text)
    behind = groups_behind(plain)
    said = [in_words(plain, *found.span(), behind) for found in re.finditer(r"\S+", plain)]
    return list(zip(text.split(), said, strict=True))


def in_words(text: str, start: int, stop: int, behind: Mapping[int, int]) -> str:
    """A piece of a text, with each group of digits that has an entry in ``behind`` as its part of a number.

    >>> in_words("1 250 000 miles", 2, 5, {0: 2, 2: 1, 6: 0})
    ' two hundred fifty thousand '
    """
    said, place = "", start
    for found in _GROUP.finditer(text, start, stop + 1):
        if found.start() >= stop:
            break
        num_groups = behind.get(found.start())
        if num_groups is None:
            continue
        # An ordinal is marked behind its last group, which may be silent: 3 000th.
        is_ordinal = _ORDINAL.match(text, found.start()) is not None
        words = group_words(found[1], num_groups)
        words = ordinal_of(words) if is_ordinal and words else words
        point = f" point {' '.join(found[2])}" if found[2] else ""
        sign = None if num_groups else _SIGN_AHEAD.search(text, max(0, start - 24), found.start())
        name = f" {money_name(sign[1])}" if sign else ""
        said += f"{text[place : found.start()].rstrip(CURRENCY_SIGNS)} {words}{point}{name} {'to ' if found[3] else ''}"
        place = found.end()
    return said + text[place:stop]


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
    plain = MONEY.sub(money, re.sub(r"(?<=\d),(?=\d{3})", "", plain))
    for sign, spoken in _SPOKEN_SIGNS.items():
        plain = plain.replace(sign, spoken)
    plain = re.sub(r"(\d+)\.(\d+)", lambda m: f"{m[1]} point {' '.join(m[2])}", plain)
    plain = re.sub(r"\d+", lambda match: f" {spell_number(match[0])} ", plain)
    return [token.strip("'") for token in re.findall(r"[a-z']+", plain) if token.strip("'")]


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
