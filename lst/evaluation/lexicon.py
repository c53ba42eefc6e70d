"""A recogniser that knows only the words of some texts: on little speech of few words it hears what is there."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lst.data.recordings.recognisers import Pocketsphinx
from lst.data.text.pronounce import dictionary_lines, pronounce
from lst.evaluation.benchmark.recognise import spoken_keys
from lst.storage import write_text

_ENGLISH = re.compile("[a-z]+")


def lexicon_of(texts: Iterable[str]) -> list[str]:
    """The different words of texts, as they are compared, in order.

    >>> lexicon_of(["A cat sat.", "The cat: 2!"])
    ['a', 'cat', 'sat', 'the', 'two']
    """
    return sorted({key for text in texts for key in spoken_keys(text) if _ENGLISH.fullmatch(key)})


class LexiconRecogniser(Pocketsphinx):
    """pocketsphinx, for which any word of a lexicon may follow any other. See ``Recogniser``.

    Args:
        words: in lower case; one or more.
    """

    def __init__(self, words: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            dictionary, model = Path(folder) / "lexicon.dict", Path(folder) / "lexicon.arpa"
            write_text(dictionary, _dictionary(words))
            write_text(model, _unigrams(words))
            super().__init__(dict=str(dictionary), lm=str(model))
        self.name += f", a lexicon of {len(words)} words"

    def transcribe(self, waveform: np.ndarray) -> str:
        """See ``Recogniser``. Other pronunciations of a word are marked: read(2)."""
        return re.sub(r"\(\d+\)", "", super().transcribe(waveform))


def _dictionary(words: list[str]) -> str:
    """Pronunciations of these words alone: pocketsphinx looks up each word of its dictionary in the language model.

    >>> print(_dictionary(["qwyx", "read"]), end="")
    read R EH D
    read(2) R IY D
    qwyx K W Y K S
    """
    wanted = set(words)
    lines = [line for line in dictionary_lines() if line.split()[0].partition("(")[0] in wanted]
    known = {line.split()[0] for line in lines}
    lines += [f"{word} {' '.join(pronounce(word))}" for word in words if word not in known]
    return "\n".join([*lines, ""])


def _unigrams(words: list[str]) -> str:
    """A language model of equally likely words, in the format ARPA."""
    log_share = -math.log10(len(words) + 1)
    rows = ["-99 <s>", *(f"{log_share:.4f} {word}" for word in ["</s>", *words])]
    return "\n".join(["\\data\\", f"ngram 1={len(rows)}", "", "\\1-grams:", *rows, "", "\\end\\", ""])
