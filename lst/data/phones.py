"""Which phone is said when, in frames of 10 ms: forced alignment of phones by pocketsphinx, for scoring units."""

from __future__ import annotations

import re

import numpy as np

from lst.data.alignment import AlignmentError
from lst.data.pronunciation import pronounce_by_rule, spoken_words
from lst.lazy import import_or_explain

# ARPAbet without stress, as in the packaged dictionary; silence, breath and noise are one more.
PHONES = (
    "SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH",
    "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
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
