"""The pocketsphinx decoder and its packaged English model: forced paths through words and phones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from lst.data.alignment.aligner import MisfitError
from lst.data.text import foreign_phones, pronounce_by_rule
from lst.data.utterance import Word
from lst.lazy import import_or_explain

T = TypeVar("T")
_VARIANT = re.compile(r"\(\d+\)$")
# Between the code of a language and a word of it: in the decoder's dictionary, German "die" is not English "die".
_OF_LANGUAGE = ":"


def dictionary_word(token: str, language: str) -> str:
    """How the decoder's dictionary writes a word of a language; English ones are written as they are.

    >>> dictionary_word("die", "de"), dictionary_word("die", "")
    ('de:die', 'die')
    """
    return f"{language}{_OF_LANGUAGE}{token}" if language else token


class PocketsphinxDecoder:
    """The decoder that all aligners of this kind share. The result of an utterance depends on that utterance alone.

    Keep one per process: loading the model takes 0.2 s.

    Args:
        search: options of pocketsphinx's search, such as its beams.

    Attributes:
        decoder: pocketsphinx's own decoder.
        num_by_rule: words so far that the dictionary lacks; they were pronounced by rule.
    """

    name, batch = "pocketsphinx-en-us", 1

    def __init__(self, **search: float) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "forced alignment", "pip install pocketsphinx")
        self.decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL", **search)
        self.num_by_rule = 0

    def learn(self, tokens: Iterable[str]) -> None:
        """Gives the words that the dictionary lacks a pronunciation: by rule, or of other languages by eSpeak NG.

        Raises:
            UserError: there is no eSpeak NG, or it does not know the language.
        """
        foreign: dict[str, list[str]] = {}
        for token in dict.fromkeys(tokens):
            if self.decoder.lookup_word(token) is not None:
                continue
            language, _, word = token.rpartition(_OF_LANGUAGE)
            if language:
                foreign.setdefault(language, []).append(word)
            else:
                self.decoder.add_word(token, pronounce_by_rule(token), True)
                self.num_by_rule += 1
        for language, words in foreign.items():
            for word, phones in foreign_phones(words, language).items():
                self.decoder.add_word(dictionary_word(word, language), " ".join(phones), True)

    def find_words(self, waveform: np.ndarray, tokens: Sequence[str]) -> list[Word]:
        """Dictionary words in frames of 10 ms of a waveform (float32 [num_samples], mono, 16 kHz).

        Raises:
            MisfitError: the words do not fit the audio.
        """
        self.learn(tokens)
        decoder = self.decoder
        timed = self.decode(waveform, lambda: decoder.set_align_text(" ".join(tokens)), self.spoken_segments)
        if [word.text for word in timed] != list(tokens):
            raise MisfitError(f"the audio does not fit the text: {len(timed)} of {len(tokens)} words were found")
        return timed

    def find_phones(self, waveform: np.ndarray, tokens: Sequence[str]) -> list[tuple[str, int, int]]:
        """Phones of dictionary words as (name, start, duration) in frames of 10 ms; raises as ``find_words``."""
        self.find_words(waveform, tokens)
        # A second pass finds the phones within the words of the first.
        return self.decode(
            waveform,
            self.decoder.set_alignment,
            lambda: [(phone.name, phone.start, phone.duration) for phone in self.decoder.get_alignment().phones()],
        )

    def spoken_segments(self) -> list[Word]:
        """The words of the last path in frames of 10 ms, without silences and fillers."""
        return [
            Word(name, segment.start_frame, segment.end_frame + 1, _frame_score(segment))
            for segment in self.decoder.seg() or ()
            if (name := _VARIANT.sub("", segment.word)) and name[0] not in "<[+("
        ]

    def decode(self, waveform: np.ndarray, set_target: Callable[[], None], read: Callable[[], list[T]]) -> list[T]:
        """Decodes a waveform after ``set_target``; returns what ``read`` takes from the decoder."""
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        try:
            # The front end's noise tracker remembers earlier utterances: start it afresh.
            self.decoder.reinit_feat()
            set_target()
            self.decoder.start_utt()
            self.decoder.process_raw(pcm, full_utt=True)
            self.decoder.end_utt()
            return read()
        except RuntimeError as error:
            raise MisfitError(f"the aligner failed: {error}") from None


def _frame_score(segment: Any) -> float:
    """Mean acoustic log-score a frame, in pocketsphinx's units: 0 is best, lower is worse."""
    log_score = float(np.log(max(segment.ascore, 1e-300)) / np.log(1.0001))
    return log_score / max(segment.end_frame - segment.start_frame + 1, 1)
