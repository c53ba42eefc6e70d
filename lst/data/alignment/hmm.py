"""Forced alignment of words and of phones by pocketsphinx with its packaged English model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from lst.data.alignment.aligner import AlignItem, AlignmentError, AlignResult, align_each
from lst.data.alignment.words import check_room, fit_words
from lst.data.text import SpokenWord, pronounce_by_rule, spoken_words
from lst.data.utterance import Word
from lst.lazy import import_or_explain

DECODER_FRAME_S = 0.01
T = TypeVar("T")
_VARIANT = re.compile(r"\(\d+\)$")

# ARPAbet without stress, as in the packaged dictionary; silence, breath and noise are all SIL.
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
SILENCE = 0


class PocketsphinxDecoder:
    """The decoder that both aligners share. The result of an utterance depends on that utterance alone.

    Keep one per process: loading the model takes 0.2 s.

    Attributes:
        decoder: pocketsphinx's own decoder.
        num_by_rule: words so far that the dictionary lacks; they were pronounced by rule.
    """

    name, batch = "pocketsphinx-en-us", 1

    def __init__(self) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "forced alignment", "pip install pocketsphinx")
        self.decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL")
        self.num_by_rule = 0

    def find_words(self, waveform: np.ndarray, tokens: Sequence[str]) -> list[Word]:
        """Dictionary words in frames of 10 ms of a waveform (float32 [num_samples], mono, 16 kHz).

        Raises:
            AlignmentError: the words do not fit the audio.
        """
        for token in tokens:
            if self.decoder.lookup_word(token) is None:
                self.decoder.add_word(token, pronounce_by_rule(token), True)
                self.num_by_rule += 1
        decoder = self.decoder
        segments = self._decode(
            waveform, lambda: decoder.set_align_text(" ".join(tokens)), lambda: list(decoder.seg() or ())
        )
        timed = [
            Word(name, segment.start_frame, segment.end_frame + 1, _frame_score(segment))
            for segment in segments
            if (name := _VARIANT.sub("", segment.word)) and name[0] not in "<[+"
        ]
        if [word.text for word in timed] != list(tokens):
            raise AlignmentError(f"the audio does not fit the text: {len(timed)} of {len(tokens)} words were found")
        return timed

    def find_phones(self, waveform: np.ndarray, tokens: Sequence[str]) -> list[tuple[str, int, int]]:
        """Phones of dictionary words as (name, start, duration) in frames of 10 ms; raises as ``find_words``."""
        self.find_words(waveform, tokens)
        # A second pass finds the phones within the words of the first.
        return self._decode(
            waveform,
            self.decoder.set_alignment,
            lambda: [(phone.name, phone.start, phone.duration) for phone in self.decoder.get_alignment().phones()],
        )

    def _decode(self, waveform: np.ndarray, set_target: Callable[[], None], read: Callable[[], list[T]]) -> list[T]:
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
            raise AlignmentError(f"the aligner failed: {error}") from None


def _frame_score(segment: Any) -> float:
    """Mean acoustic log-score a frame, in pocketsphinx's units: 0 is best, lower is worse."""
    log_score = float(np.log(max(segment.ascore, 1e-300)) / np.log(1.0001))
    return log_score / max(segment.end_frame - segment.start_frame + 1, 1)


def _said(text: str) -> list[SpokenWord]:
    try:
        return spoken_words(text)
    except ValueError as error:
        raise AlignmentError(str(error)) from None


class PocketsphinxAligner(PocketsphinxDecoder):
    """Aligns English words; words that the dictionary lacks get a pronunciation by rule."""

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``."""
        return align_each(partial(self._align, frame_rate_hz=frame_rate_hz), items)

    def _align(self, item: AlignItem, frame_rate_hz: int) -> tuple[Word, ...]:
        words = _said(item.text)
        check_room(len(words), item.num_frames, frame_rate_hz)
        timed = iter(self.find_words(item.waveform, [token for word in words for token in word.tokens]))
        placed: list[Word] = []
        scale = DECODER_FRAME_S * frame_rate_hz
        for word in words:
            own = list(islice(timed, len(word.tokens)))
            lengths = [token.end_frame - token.start_frame for token in own]
            score = sum(token.score * length for token, length in zip(own, lengths, strict=True)) / max(sum(lengths), 1)
            start, end = round(own[0].start_frame * scale), round(own[-1].end_frame * scale)
            placed.append(Word(word.text, start, end, round(score, 3)))
        return fit_words(placed, item.num_frames)


class PhoneAligner(PocketsphinxDecoder):
    """Aligns English phones."""

    def phones(self, waveform: np.ndarray, text: str) -> np.ndarray:
        """The phone of each frame of 10 ms.

        Args:
            waveform: float32 [num_samples], mono, 16 kHz.
            text: the transcript.

        Returns:
            uint8 [num_frames], indices into ``PHONES``.

        Raises:
            AlignmentError: the text cannot be said in English, or does not fit the audio.
        """
        segments = self.find_phones(waveform, [token for word in _said(text) for token in word.tokens])
        frames = np.full(max((start + duration for _, start, duration in segments), default=0), SILENCE, np.uint8)
        for name, start, duration in segments:
            frames[start : start + duration] = PHONES.index(name) if name in PHONES else SILENCE
        return frames


def phones_of_units(phones: np.ndarray, num_frames: int, frame_rate_hz: int) -> np.ndarray:
    """The phone that covers most of each frame of the units; of two that cover as much, the earlier one.

    Args:
        phones: [num_decoder_frames], one for each 10 ms; the time after them is silence.
        num_frames: frames of the units.
        frame_rate_hz: frames of the units a second.

    Returns:
        uint8 [num_frames].
    """
    bounds = np.round(np.arange(num_frames + 1) / (frame_rate_hz * DECODER_FRAME_S)).astype(int)
    padded = np.concatenate([phones, np.full(max(0, bounds[-1] - len(phones)), SILENCE, np.uint8)])
    chosen = np.empty(num_frames, np.uint8)
    for index in range(num_frames):
        # Above 100 frames a second a frame may hold no whole 10 ms: then the phone at its start counts.
        inside = padded[bounds[index] : max(bounds[index + 1], bounds[index] + 1)]
        counts = np.bincount(inside, minlength=len(PHONES))
        chosen[index] = next(phone for phone in inside if counts[phone] == counts.max())
    return chosen
