"""What is heard in a stretch of audio by a recogniser that knows the words of one transcript alone.

The transcript is a language model of three words: whatever it says is easily heard, in any order and however much is
missing, so that each stretch of a long recording tells by itself where in the transcript it lies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

import numpy as np

from lst.data.alignment.aligner import MisfitError
from lst.data.alignment.hmm_decoder import PocketsphinxDecoder
from lst.data.text import pronounce_by_rule, pronouncing_dictionary, word_readings

FRAME_S = 0.01
# Taken from every count and given to what was not seen.
_DISCOUNT = 0.5
_START, _END = "<s>", "</s>"


class HeardToken(NamedTuple):
    """A word, or a letter, that was heard, in seconds."""

    token: str
    start_s: float
    end_s: float


class TranscriptTokens(NamedTuple):
    """What is listened for.

    Attributes:
        tokens: of the plain readings of all words, in order.
        words: for each token the number of its word in ``text.split()``.
        run: so many equal tokens in a row are no chance.
        anchor: so many tokens that come once in transcript and audio show the place.
    """

    tokens: list[str]
    words: list[int]
    run: int
    anchor: int


class Listener(Protocol):
    """Hears the words of one transcript."""

    def hear(self, waveform: np.ndarray) -> list[HeardToken]:
        """The tokens of a waveform, float32 [num_samples] at 16 kHz, in order."""
        ...


class PocketsphinxListener(PocketsphinxDecoder):
    """Hears English words of one transcript with pocketsphinx's packaged acoustic model.

    Args:
        text: the transcript.
        brackets: pairs of brackets around labels that are unsaid.
    """

    def __init__(self, text: str, brackets: Sequence[str]) -> None:
        tokens = english_tokens(text, brackets).tokens
        known = pronouncing_dictionary()
        lines = (f"{name} {' '.join(known.get(name, ())) or pronounce_by_rule(name)}\n" for name in sorted({*tokens}))
        with TemporaryDirectory() as folder:
            model, dictionary = Path(folder, "transcript.arpa"), Path(folder, "transcript.dict")
            dictionary.write_text("".join(lines), "utf-8")
            model.write_text("\n".join(language_model(tokens)), "utf-8")
            super().__init__(lm=str(model), dict=str(dictionary), bestpath=True)

    def hear(self, waveform: np.ndarray) -> list[HeardToken]:
        """See ``Listener``."""
        try:
            words = self.decode(waveform, lambda: None, self.spoken_segments)
        except MisfitError:
            return []  # too short for a word
        return [HeardToken(word.text, word.start_frame * FRAME_S, word.end_frame * FRAME_S) for word in words]


def english_tokens(text: str, brackets: Sequence[str]) -> TranscriptTokens:
    """The plain reading of a transcript, as pocketsphinx hears it.

    >>> english_tokens("Dr. Lee [cough] has 12", ["[]"])[:2]
    (['dr', 'lee', 'has', 'twelve'], [0, 1, 3, 4])
    """
    found = [
        (token, number)
        for number, piece in enumerate(word_readings(text, brackets))
        for token in (piece.readings[0] if piece.readings else ())
    ]
    return TranscriptTokens([token for token, _ in found], [number for _, number in found], run=2, anchor=3)


def language_model(tokens: Sequence[str]) -> Iterator[str]:
    """The lines of a trigram model of one text in ARPA's format, with absolute discounting.

    >>> lines = list(language_model(["a", "b", "a"]))
    >>> lines[1:4], [line for line in lines if line.endswith("a b a")]
    (['ngram 1=4', 'ngram 2=4', 'ngram 3=3'], ['-0.3010 a b a'])
    """
    text = [_START, *tokens, _END]
    ones, twos = Counter(text), Counter(pairwise(text))
    threes = Counter(zip(text, text[1:], text[2:], strict=False))
    after_one, after_two = Counter(first for first, _ in twos), Counter(words[:2] for words in threes)
    num_words = len(text) - 1

    def log(probability: float) -> str:
        return f"{math.log10(probability):.4f}" if probability > 0 else "-99"

    yield "\\data\\"
    yield from (f"ngram {order}={size}" for order, size in enumerate((len(ones), len(twos), len(threes)), 1))
    yield "\\1-grams:"
    for word, count in ones.items():
        share = 0.0 if word == _START else count / num_words
        yield f"{log(share)} {word} {log(_DISCOUNT * after_one[word] / count)}"
    yield "\\2-grams:"
    for (first, second), count in twos.items():
        rest = _DISCOUNT * after_two[first, second] / count
        yield f"{log((count - _DISCOUNT) / ones[first])} {first} {second} {log(rest)}"
    yield "\\3-grams:"
    for (first, second, third), count in threes.items():
        yield f"{log((count - _DISCOUNT) / twos[first, second])} {first} {second} {third}"
    yield "\\end\\"
