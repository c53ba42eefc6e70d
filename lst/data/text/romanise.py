"""Letters of any script in Latin ones, by uroman (an extra): what CTC models such as MMS_FA are trained on.

::

    für ──▶ f ue r        мир ──▶ m i r        我 ──▶ wo
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import Any, NamedTuple

from lst.data.languages import iso3_of
from lst.lazy import import_or_explain

INSTALL_ROMANISER = "pip install 'latent-speech-text[uroman]'"
_LATIN = frozenset("abcdefghijklmnopqrstuvwxyz'")
# uroman turns these into digits; here they are read.
_CHINESE = dict(
    zip(
        "〇零一二三四五六七八九十百千",
        ("ling", "ling", "yi", "er", "san", "si", "wu", "liu", "qi", "ba", "jiu", "shi", "bai", "qian"),
        strict=True,
    )
)
_JAPANESE = dict(
    zip(
        "〇零一二三四五六七八九十百千",
        ("rei", "rei", "ichi", "ni", "san", "yon", "go", "roku", "nana", "hachi", "kyu", "ju", "hyaku", "sen"),
        strict=True,
    )
)


class RomanPart(NamedTuple):
    """Characters of a word that are romanised together.

    Attributes:
        num_characters: how many.
        letters: a–z and apostrophes; none where they are silent (ь) or no letters.
        is_known: whether uroman knows them; else they may stand for any sound.
    """

    num_characters: int
    letters: str
    is_known: bool


@cache
def romaniser() -> Any:
    """uroman, loaded once a process.

    Raises:
        UserError: it is not installed.
    """
    module = import_or_explain("uroman", "the romaniser of texts in other languages", INSTALL_ROMANISER)
    return module.Uroman()


@lru_cache(maxsize=100_000)
def romanised(word: str, language: str) -> tuple[RomanPart, ...]:
    """The parts of a word in order; together they have all its characters.

    Args:
        word: without white space.
        language: its code.

    Raises:
        UserError: uroman is not installed.
    """
    numerals = _JAPANESE if language == "ja" else _CHINESE
    # Composed characters are known to more rules; where that changes their number, the word stays as it is.
    composed = unicodedata.normalize("NFC", word)
    plain = composed if len(composed) == len(word) else word
    edges_format = import_or_explain("uroman", "the romaniser", INSTALL_ROMANISER).RomFormat.EDGES
    edges = romaniser().romanize_string(plain, lcode=iso3_of(language), rom_format=edges_format)
    parts: list[RomanPart] = []
    position = 0
    for edge in edges:
        own = numerals.get(plain[edge.start : edge.end], edge.txt)
        letters = "".join(char for char in own.lower().replace("’", "'") if char in _LATIN)
        is_known = bool(letters) or not any(map(str.isalnum, edge.txt))
        parts.append(RomanPart(edge.end - position, letters, is_known))
        position = edge.end
    if position < len(word):
        parts.append(RomanPart(len(word) - position, "", True))
    return tuple(parts)
