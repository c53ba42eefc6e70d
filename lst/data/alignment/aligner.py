"""The interface of every aligner: what it is given and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lst.data.utterance import TimedWord, Word


@dataclass(frozen=True)
class AlignItem:
    """What is needed to align one utterance; ``waveform`` is float32 [num_samples], mono, 16 kHz.

    ``words`` are those that the corpus gives, if any.
    """

    waveform: np.ndarray
    text: str
    num_frames: int
    utterance_id: str = ""
    words: Sequence[TimedWord] = ()


class Aligner(Protocol):
    """Places the words of a transcript in its audio; an utterance's result depends on that utterance alone."""

    name: str

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """Words of ``text`` with their frames.

        Args:
            waveform: float32 [num_samples], mono, 16 kHz.
            text: the transcript.
            num_frames: speech units of the utterance.
            frame_rate_hz: units a second.
            utterance_id: by which imported alignments are found.

        Returns:
            Words in order, each of one frame or more, not overlapping, inside ``num_frames``.

        Raises:
            AlignmentError: the text does not fit the audio, or is filtered out; it says why.
        """
        ...


class BatchAligner(Aligner, Protocol):
    """An aligner that is quicker with several utterances at a time."""

    batch: int

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[tuple[Word, ...] | AlignmentError]:
        """As ``align`` of each; an utterance that cannot be aligned gives its error in place of words."""
        ...


ALIGNER_SAMPLE_RATE_HZ = 16_000


class AlignmentError(ValueError):
    """An utterance that cannot be aligned, and why."""
