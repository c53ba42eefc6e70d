"""Word and character error rates, counted by jiwer on normalised text, with intervals over utterances.

::

    wanted, heard ──counted──▶ errors and counts of an utterance ──rate──▶ errors a hundred, interval

A rate is the errors of all utterances over the words (or characters) of all; an interval resamples utterances.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NamedTuple, TypedDict

import numpy as np

from lst.data.text import NORMALISER
from lst.evaluation.benchmark.recognise import spoken_keys
from lst.lazy import import_or_explain
from lst.storage import Between, Count

# Both texts of a rate are normalised by this: read aloud, in lower case, hyphens as spaces, without punctuation.
TEXT_NORMALISER = f"{NORMALISER}, lower case, without punctuation"
_INSTALL = "pip install 'latent-speech-text[asr]'"


class Rate(TypedDict):
    """Errors over what was wanted, 0 or more (insertions may bring it above 1), with its 95 % bootstrap interval."""

    rate: Annotated[float, Between(0)]
    low: Annotated[float, Between(0)]
    high: Annotated[float, Between(0)]
    num_errors: Count
    num_wanted: Count


class Counted(NamedTuple):
    """Errors of an utterance: substitutions, deletions and insertions, and the words and characters that are wanted."""

    word_errors: int
    num_words: int
    character_errors: int
    num_characters: int


def measure_name() -> str:
    """Name and version of what counts errors; raises ``UserError`` where it is not installed."""
    import_or_explain("jiwer", "word error rates", _INSTALL)
    return f"jiwer {version('jiwer')}"


def normalised(text: str, language: str = "") -> str:
    """A text as it is compared; ``language`` is empty for English.

    >>> normalised("Well-known: 2 hats!"), normalised("L’eau: 2 €", "fr")
    ('well known two hats', "l'eau deux")
    """
    return " ".join(spoken_keys(text, language))


def counted(wanted: str, heard: str, language: str = "") -> Counted:
    """Errors of one text against another; both are normalised first, by the rules of their language.

    >>> counted("A cat sat.", "the cat sat up")
    Counted(word_errors=2, num_words=3, character_errors=6, num_characters=9)
    """
    jiwer = import_or_explain("jiwer", "word error rates", _INSTALL)
    wanted, heard = normalised(wanted, language), normalised(heard, language)
    words, characters = jiwer.process_words(wanted, heard), jiwer.process_characters(wanted, heard)
    return Counted(_errors(words), len(wanted.split()), _errors(characters), len(wanted))


def _errors(found: object) -> int:
    return sum(int(getattr(found, kind)) for kind in ("substitutions", "deletions", "insertions"))


def rate(errors: Sequence[int], wanted: Sequence[int], num_samples: int, seed: int) -> Rate:
    """The rate of some utterances, of which one at least wants something.

    Args:
        errors, wanted: of each utterance.
        num_samples, seed: of the resampling.
    """
    own, all_of = np.array(errors, np.int64), np.array(wanted, np.int64)
    low, high = ratio_interval(own, all_of, num_samples, np.random.default_rng([0xE44, seed]))
    return {
        "rate": float(own.sum() / all_of.sum()),
        "low": low,
        "high": high,
        "num_errors": int(own.sum()),
        "num_wanted": int(all_of.sum()),
    }


def ratio_interval(
    of: np.ndarray, over: np.ndarray, num_samples: int, generator: np.random.Generator
) -> tuple[float, float]:
    """95 % bootstrap interval of the sum of ``of`` over the sum of ``over``, int64 [n] both, of n utterances."""
    chosen = generator.integers(len(of), size=(num_samples, len(of)))
    ratios = of[chosen].sum(axis=1) / np.maximum(over[chosen].sum(axis=1), 1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
