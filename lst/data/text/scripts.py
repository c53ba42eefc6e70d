"""Words of any script: how letters are folded, and where words are divided that no space divides.

In Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan, a word is one character: of Chinese or of kana, or a
cluster of letters, its vowels and marks. Punctuation stays with the word before it, an opening bracket with the one
behind it.
"""

from __future__ import annotations

import re
import unicodedata

from lst.data.languages import UNSPACED

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "＇": "'"})
# Dotless and dotted i are two letters.
_TURKIC = str.maketrans({"I": "ı", "İ": "i"})
_TURKIC_CODES = ("tr", "az", "tt", "ba", "kk")
_HAN = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Small kana, the long mark and the marks of voice belong to the kana before.
_KANA = (
    r"[\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d][ぁぃぅぇぉゃゅょゎァィゥェォャュョヮ\u3099\u309aー\uff70ﾞﾟ]*"
)
# A vowel before its consonant (Thai, Lao); a consonant below another (Khmer, Burmese).
_BRAHMIC = (
    r"[\u0e40-\u0e44\u0ec0-\u0ec4]?[\u0e01-\u0e2e\u0e81-\u0eae\u0edc-\u0edf]"
    r"[\u0e2f-\u0e3a\u0e45-\u0e4e\u0eaf-\u0ebd\u0ec6-\u0ece]*"
    r"|[\u1780-\u17b3](?:\u17d2[\u1780-\u17b3]|[\u17b4-\u17d1\u17d3\u17dd])*"
    r"|[\u1000-\u102a\u103f](?:\u1039[\u1000-\u102a]|[\u102b-\u1038\u103a-\u103e])*"
    r"|[\u0f40-\u0f6c][\u0f71-\u0f87\u0f90-\u0fbc]*\u0f0b?"
)
# Full-width marks divide letters and digits of other scripts, too.
_MARKS = r"[\u3001-\u3003\u3008-\u3011\u3014-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
_WORD = re.compile(rf"[{_HAN}][\ufe00-\ufe0f\U000e0100-\U000e01ef]*|{_KANA}|{_BRAHMIC}|{_MARKS}")


def folded(text: str, language: str) -> str:
    """A text in lower case by the rules of its language, composed, with plain apostrophes.

    >>> folded("STRAßE", "de"), folded("ISI İl", "tr"), folded("L’Été", "fr")
    ('straße', 'ısı il', "l'été")
    """
    composed = unicodedata.normalize("NFC", text.translate(_APOSTROPHES))
    return unicodedata.normalize(
        "NFC", (composed.translate(_TURKIC) if language in _TURKIC_CODES else composed).lower()
    )


def spaced(text: str, language: str) -> str:
    """A text with a space between its words, for languages that write none; all other texts stay as they are.

    All characters but white space stay, in their order.

    >>> spaced("我喝Tee，3杯。", "zh"), spaced("キャラメル", "ja"), spaced("schön", "de")
    ('我 喝 Tee， 3 杯。', 'キャ ラ メ ル', 'schön')
    """
    if language not in UNSPACED:
        return text
    return " ".join(part for piece in text.split() for part in _divided(piece))


def _divided(piece: str) -> list[str]:
    """The words of a piece between white space."""
    parts: list[str] = []
    position = 0
    for match in _WORD.finditer(piece):
        parts += [piece[position : match.start()], match[0]]
        position = match.end()
    words: list[str] = []
    opening = ""
    for part in filter(None, [*parts, piece[position:]]):
        if any(map(str.isalnum, part)):
            before, part = _without_closing(part) if words else ("", part)
            if before:
                words[-1] += before
            part, after = _without_opening(part)
            words.append(opening + part)
            opening = after
        else:
            closing, after = _split_marks(part)
            if words:
                words[-1] += closing
            else:
                after = closing + after
            opening += after
    if opening:
        words = [*words[:-1], words[-1] + opening] if words else [opening]
    return words


def _is_opening(char: str) -> bool:
    return unicodedata.category(char) in ("Ps", "Pi")


def _split_marks(marks: str) -> tuple[str, str]:
    """Marks that close what is before them, and those from the first that opens on."""
    place = next((number for number, char in enumerate(marks) if _is_opening(char)), len(marks))
    return marks[:place], marks[place:]


def _without_closing(part: str) -> tuple[str, str]:
    """Closing marks at the start of a part, and the rest."""
    first = next(number for number, char in enumerate(part) if char.isalnum())
    closing, opening = _split_marks(part[:first])
    return closing, opening + part[first:]


def _without_opening(part: str) -> tuple[str, str]:
    """A part, and the marks at its end that open what follows."""
    last = max(number for number, char in enumerate(part) if char.isalnum()) + 1
    closing, opening = _split_marks(part[last:])
    return part[:last] + closing, opening


def letter_tokens(text: str, language: str) -> list[str]:
    """What of a text is said, as tokens of letters, marks, digits and inner apostrophes, in lower case.

    >>> letter_tokens("L’eau, peut-être 12!", "fr"), letter_tokens("—", "fr")
    (["l'eau", 'peut', 'être', '12'], [])
    """
    kept = "".join(char if char == "'" or char.isalnum() or _is_mark(char) else " " for char in folded(text, language))
    tokens = (token.strip("'") for token in kept.split())
    return [token for token in tokens if any(map(str.isalnum, token))]


def _is_mark(char: str) -> bool:
    """Whether a character is a part of a letter: an accent, a vowel sign, a joiner."""
    return unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"
