"""Where each word lies in the audio: forced alignment by pocketsphinx with its packaged English model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.words import fit_words
from lst.data.text import pronounce_by_rule, spoken_words
from lst.data.utterance import Word
from lst.lazy import import_or_explain

ALIGNER_FRAME_S = 0.01
_VARIANT = re.compile(r"\(\d+\)$")


@dataclass(frozen=True)
class TimedToken:
    """A dictionary word with its place, in the aligner's frames of 10 ms, end exclusive; score as ``Word.score``."""

    token: str
    start: int
    end: int
    score: float


class PocketsphinxAligner:
    """Aligns words to audio; an utterance's result depends on that utterance alone.

    Keep one a process: loading the model takes 0.2 s. Unknown words get a pronunciation by rule.
    """

    name = "pocketsphinx-en-us"

    def __init__(self) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "forced alignment", "pip install pocketsphinx")
        self._decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL")
        self.num_by_rule = 0

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """Words of ``text`` with their frames.

        Args:
            waveform: float32 [num_samples], mono, 16 kHz.
            text: the transcript.
            num_frames: speech units of the utterance.
            frame_rate_hz: units a second.
            utterance_id: not needed here; other aligners find their files by it.

        Returns:
            Words in order, each of one frame or more, not overlapping, inside ``num_frames``.

        Raises:
            AlignmentError: the text cannot be said in English, or does not fit the audio.
        """
        try:
            words = spoken_words(text)
        except ValueError as error:
            raise AlignmentError(str(error)) from None
        if len(words) > num_frames:
            raise AlignmentError(f"{len(words)} words do not fit into {num_frames} frames of {1 / frame_rate_hz:.3f} s")
        timed = self._align_tokens(waveform, [token for word in words for token in word.tokens])
        placed: list[Word] = []
        position = 0
        scale = ALIGNER_FRAME_S * frame_rate_hz
        for word in words:
            own = timed[position : position + len(word.tokens)]
            position += len(word.tokens)
            weight = sum(token.end - token.start for token in own)
            score = sum(token.score * (token.end - token.start) for token in own) / max(weight, 1)
            placed.append(Word(word.text, round(own[0].start * scale), round(own[-1].end * scale), round(score, 3)))
        return fit_words(placed, num_frames)

    def _align_tokens(self, waveform: np.ndarray, tokens: Sequence[str]) -> list[TimedToken]:
        decoder = self._decoder
        for token in tokens:
            if decoder.lookup_word(token) is None:
                decoder.add_word(token, pronounce_by_rule(token), True)
                self.num_by_rule += 1
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        try:
            # The noise tracker remembers earlier utterances; a fresh front end makes the result this one's alone.
            decoder.reinit_feat()
            decoder.set_align_text(" ".join(tokens))
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()
            segments = list(decoder.seg() or ())
        except RuntimeError as error:
            raise AlignmentError(f"the aligner failed: {error}") from None
        timed = [
            TimedToken(name, segment.start_frame, segment.end_frame + 1, _frame_score(segment))
            for segment in segments
            if (name := _VARIANT.sub("", segment.word)) and name[0] not in "<[+"
        ]
        if [token.token for token in timed] != list(tokens):
            raise AlignmentError(f"the audio does not fit the text: {len(timed)} of {len(tokens)} words were found")
        return timed


def _frame_score(segment: object) -> float:
    """Mean acoustic log-score a frame, in pocketsphinx's units: 0 is best, lower is worse."""
    log_score = float(np.log(max(getattr(segment, "ascore"), 1e-300)) / np.log(1.0001))  # noqa: B009
    return log_score / max(getattr(segment, "end_frame") - getattr(segment, "start_frame") + 1, 1)  # noqa: B009


# ARPAbet without stress, as in the packaged dictionary; silence, breath and noise are one more.
PHONES = (
    "SIL",
    "AA",
    "AE",
    "AH",
    "AO",
    "AW",
    "AY",
    "B",
    "CH",
    "D",
    "DH",
    "EH",
    "ER",
    "EY",
    "F",
    "G",
    "HH",
    "IH",
    "IY",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "OW",
    "OY",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "UH",
    "UW",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
)
SILENCE = 0
PHONE_FRAME_S = 0.01
_VARIANT = re.compile(r"\(\d+\)$")


class PhoneAligner:
    """Aligns phones to audio; an utterance's result depends on that utterance alone. Keep one a process."""

    name = "pocketsphinx-en-us"

    def __init__(self) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "the alignment of phones", "pip install pocketsphinx")
        self._decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL")

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
        try:
            tokens = [token for word in spoken_words(text) for token in word.tokens]
        except ValueError as error:
            raise AlignmentError(str(error)) from None
        decoder = self._decoder
        for token in tokens:
            if decoder.lookup_word(token) is None:
                decoder.add_word(token, pronounce_by_rule(token), True)
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        try:
            decoder.set_align_text(" ".join(tokens))
            self._decode(pcm)
            found = [_VARIANT.sub("", segment.word) for segment in decoder.seg() or ()]
            if [name for name in found if name[0] not in "<[+"] != tokens:
                raise AlignmentError(f"the audio does not fit the text: {len(tokens)} words were not all found")
            # The second pass finds the phones within the words of the first.
            decoder.set_alignment()
            self._decode(pcm)
            segments = [(phone.name, phone.start, phone.duration) for phone in decoder.get_alignment().phones()]
        except RuntimeError as error:
            raise AlignmentError(f"the aligner failed: {error}") from None
        frames = np.full(max((start + duration for _, start, duration in segments), default=0), SILENCE, np.uint8)
        for name, start, duration in segments:
            frames[start : start + duration] = PHONES.index(name) if name in PHONES else SILENCE
        return frames

    def _decode(self, pcm: bytes) -> None:
        # The noise tracker remembers earlier utterances; a fresh front end makes the result this one's alone.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


def phones_of_units(phones: np.ndarray, num_frames: int, frame_rate_hz: int) -> np.ndarray:
    """The phone that covers most of each frame of the units, the earlier one of two that cover as much.

    Args:
        phones: [m], of frames of 10 ms; what lies beyond them is silence.
        num_frames: frames of the units.
        frame_rate_hz: of those.

    Returns:
        uint8 [num_frames].
    """
    bounds = np.round(np.arange(num_frames + 1) / (frame_rate_hz * PHONE_FRAME_S)).astype(int)
    padded = np.concatenate([phones, np.full(max(0, bounds[-1] - len(phones)), SILENCE, np.uint8)])
    chosen = np.empty(num_frames, np.uint8)
    for index in range(num_frames):
        # At more than 100 frames a second some hold no whole frame of 10 ms: the one they begin in counts.
        inside = padded[bounds[index] : max(bounds[index + 1], bounds[index] + 1)]
        counts = np.bincount(inside, minlength=len(PHONES))
        chosen[index] = next(phone for phone in inside if counts[phone] == counts.max())
    return chosen
