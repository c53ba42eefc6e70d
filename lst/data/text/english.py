"""Tells English texts from others, by the words of the pronouncing dictionary and by the commonest words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

# Shares of dictionary words: read English has 97 % and more, German about 55 %, as the dictionary holds many names.
MIN_KNOWN_SHARE, LEAST_KNOWN_SHARE = 0.7, 0.3
# Shares of the commonest words: English has 35 % and more, other languages below 10 %.
MIN_COMMON_SHARE = 0.12
COMMON_WORDS = frozenset(
    (
        *("the", "of", "and", "to", "a", "in", "that", "is", "was", "he", "for", "it", "with", "as", "his", "on", "be"),
        *("at", "by", "i", "this", "had", "not", "are", "but", "from", "or", "have", "they", "you", "were", "her"),
        "she",
    )
)
# Texts of fewer words say little about their language.
MIN_WORDS_OF_ROW = 4
_WORD = re.compile(r"[a-z']*[a-z][a-z']*")


def letter_words(text: str) -> list[str]:
    """The words of letters in a text, in lower case and without accents, for the dictionary.

    >>> letter_words("Café 12, o’clock")
    ['cafe', "o'clock"]
    """
    apart = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    plain = apart if apart.isascii() else "".join(char for char in apart if not unicodedata.combining(char))
    return [word.strip("'") for word in _WORD.findall(plain)]


def is_known(word: str, dictionary: Collection[str]) -> bool:
    """Whether a dictionary has a word of ``letter_words``, or what stands before its ``'s``."""
    return word in dictionary or word.removesuffix("'s") in dictionary


def is_foreign(words: Sequence[str], dictionary: Collection[str]) -> bool:
    """Whether the words of one text are hardly English: few are known, or many unknown and few of the commonest.

    Args:
        words: of ``letter_words``.
        dictionary: of English words.

    >>> english = {"the", "morning", "train", "was", "late", "der"}
    >>> is_foreign(letter_words("der Morgenzug hatte wieder"), english)
    True
    >>> is_foreign(letter_words("the morning train was late"), english)
    False
    """
    if len(words) < MIN_WORDS_OF_ROW:
        return False
    num_known = sum(is_known(word, dictionary) for word in words)
    num_common = sum(word in COMMON_WORDS for word in words)
    has_few = num_common < MIN_COMMON_SHARE * len(words)
    return num_known < (MIN_KNOWN_SHARE if has_few else LEAST_KNOWN_SHARE) * len(words)
