"""Words as phones: by the packaged pronouncing dictionary, and by rule where it lacks a word."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lst.data.text.spoken import pronounce_by_rule, spoken_words
from lst.lazy import import_or_explain


def dictionary_lines() -> list[str]:
    """Pocketsphinx's packaged dictionary, a pronunciation a line: ``read R EH D``, then ``read(2) R IY D``.

    Raises:
        UserError: pocketsphinx is not installed.
    """
    pocketsphinx = import_or_explain("pocketsphinx", "its dictionary", "pip install pocketsphinx")
    path = Path(pocketsphinx.get_model_path(), "en-us", "cmudict-en-us.dict")
    return path.read_text(encoding="utf-8").splitlines()


@lru_cache(maxsize=1)
def pronouncing_dictionary() -> dict[str, tuple[str, ...]]:
    """The first pronunciation of each word of the packaged dictionary, as ARPAbet phones without stress.

    Raises:
        UserError: pocketsphinx is not installed.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in dictionary_lines():
        word, *phones = line.split()
        found.setdefault(word.partition("(")[0], tuple(phones))
    return found


@lru_cache(maxsize=100_000)
def pronounce(written: str) -> tuple[str, ...]:
    """ARPAbet phones of one written word, without stress; numbers and signs are spelt out.

    >>> pronounce("cat"), pronounce("2")
    (('K', 'AE', 'T'), ('T', 'UW'))

    Raises:
        ValueError: the word has letters that are not English, or nothing to say.
    """
    dictionary = pronouncing_dictionary()
    tokens = [token for word in spoken_words(written) for token in word.tokens]
    return tuple(phone for token in tokens for phone in dictionary.get(token) or pronounce_by_rule(token).split())
