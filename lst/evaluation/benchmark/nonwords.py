"""Non-words by rule: a word of a lexicon with one run of its letters replaced, after Wuggy and sWUGGY.

A word is a sequence of runs of vowels and of consonants. One run gives way to another of the same kind and length,
whose neighbours follow it in words of the lexicon, too. Of all that could be, the one is taken whose transitions are
nearest in frequency to the word's own. It is no word of the lexicon, and sounds like none.

>>> runs_of("strange")
['str', 'a', 'ng', 'e']
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from lst.data.corpora import ManifestProblem
from lst.data.corpora.records import text_lines
from lst.data.text import pronounce_by_rule, pronouncing_dictionary
from lst.errors import UserError

MIN_LETTERS, MAX_LETTERS, MIN_RUNS = 4, 10, 3
# Words that are drawn from, the likeliest first.
NUM_COMMON = 5_000
# A transition that words of the lexicon have less often is no pattern of its language.
MIN_TRANSITIONS = 5
_VOWELS = "aeiouy"
_RUN = re.compile(r"[aeiouy]+|[^aeiouy]+")
_WORD = re.compile(r"[a-z]+")
_DRAW = 0x5355


def runs_of(word: str) -> list[str]:
    """Runs of vowels and of consonants."""
    return _RUN.findall(word)


@cache
def packaged_words() -> list[str]:
    """Words of pocketsphinx's dictionary that are long enough, the likeliest of its language model.

    Raises:
        UserError: pocketsphinx is not installed.
    """
    import pocketsphinx

    dictionary = pronouncing_dictionary()
    model = pocketsphinx.NGramModel.readfile(str(Path(pocketsphinx.get_model_path(), "en-us", "en-us.lm.bin")))
    words = [word for word in dictionary if _is_usable(word)]
    return sorted(words, key=lambda word: (-model.prob([word]), word))[:NUM_COMMON]


def read_lexicon(path: Path) -> tuple[list[str], list[ManifestProblem]]:
    """The words of a text file, one a line, and a problem for each line that cannot be used."""
    words: dict[str, None] = {}
    problems = []
    for number, line in text_lines(path):
        word = line.strip().lower()
        if _is_usable(word) and word not in words:
            words[word] = None
            continue
        fault = (
            "it is there twice"
            if word in words
            else f"{word[:40]!r} must be one word of {MIN_LETTERS} to {MAX_LETTERS} letters a–z with a vowel inside"
        )
        problems.append(ManifestProblem(f"{path.name}, line {number}", "", fault, kind="item"))
    return list(words), problems


def _is_usable(word: str) -> bool:
    return bool(_WORD.fullmatch(word) and MIN_LETTERS <= len(word) <= MAX_LETTERS and len(runs_of(word)) >= MIN_RUNS)


def word_pairs(words: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of a word and a non-word of the same shape, in an order that the seed draws; no non-word is there twice.

    Args:
        words: to draw from.
        count: pairs at most.
        seed: of the draw.

    Raises:
        UserError: no word gives a pair.
    """
    maker, known = _maker(), set(words)
    found: dict[str, str] = {}
    for place in np.random.default_rng([_DRAW, seed]).permutation(len(words)):
        if len(found) == count:
            break
        if (nonword := maker.nonword(words[place], known)) and nonword not in found:
            found[nonword] = words[place]
    if not found:
        raise UserError(f"none of {len(words)} words gives a non-word of its shape: use longer or more words")
    return [(word, nonword) for nonword, word in found.items()]


class _Maker:
    """Runs and transitions of a lexicon."""

    def __init__(self, lexicon: Sequence[str], sounds: set[tuple[str, ...]]) -> None:
        self._lexicon, self._sounds = set(lexicon), sounds
        self._transitions: Counter[tuple[str, str]] = Counter()
        self._after: dict[str, set[str]] = {}
        for word in lexicon:
            runs = ["^", *runs_of(word), "$"]
            self._transitions.update(pairwise(runs))
        for one, other in self._transitions:
            self._after.setdefault(one, set()).add(other)

    def nonword(self, word: str, others: set[str]) -> str:
        """The non-word of a word; empty where there is none."""
        runs = ["^", *runs_of(word), "$"]
        best: list[tuple[float, str]] = []
        for place in range(1, len(runs) - 1):
            before, own, after = runs[place - 1 : place + 2]
            usual = self._weight(before, own, after)
            for other in self._after.get(before, ()):
                is_like = len(other) == len(own) and (other[0] in _VOWELS) == (own[0] in _VOWELS)
                if other in (own, "$") or not is_like or not self._is_pattern(before, other, after):
                    continue
                made = "".join([*runs[1:place], other, *runs[place + 1 : -1]])
                best.append((abs(self._weight(before, other, after) - usual), made))
        for _, made in sorted(best):
            if made not in self._lexicon and made not in others and not self._sounds_known(made):
                return made
        return ""

    def _is_pattern(self, before: str, run: str, after: str) -> bool:
        return min(self._transitions[before, run], self._transitions[run, after]) >= MIN_TRANSITIONS

    def _weight(self, before: str, run: str, after: str) -> float:
        return math.log1p(self._transitions[before, run]) + math.log1p(self._transitions[run, after])

    def _sounds_known(self, made: str) -> bool:
        return tuple(pronounce_by_rule(made).split()) in self._sounds


@cache
def _maker() -> _Maker:
    """Of the packaged dictionary."""
    dictionary = pronouncing_dictionary()
    return _Maker([word for word in dictionary if _WORD.fullmatch(word)], set(dictionary.values()))
