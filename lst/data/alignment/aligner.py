"""The interface of every aligner: what it is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from lst.data.utterance import TimedWord, Word

ALIGNER_SAMPLE_RATE_HZ = 16_000
# Of an utterance's words: with more of them missing, its text is another's.
MAX_UNALIGNED_SHARE = 1 / 3
T = TypeVar("T")


class AlignmentError(ValueError):
    """An utterance that cannot be aligned, and why."""


class MisfitError(AlignmentError):
    """An utterance whose text does not fit its audio: ``causes`` finds out why."""


@dataclass(frozen=True)
class AlignItem:
    """One utterance to align.

    Attributes:
        waveform: float32 [num_samples], mono, 16 kHz.
        text: the transcript.
        num_frames: frames of the utterance's units.
        utterance_id: imported alignments are found by it.
        words: word times that the corpus gives, if any.
        audio_name: the audio's path, or member, without its suffix: imported alignments are found by it, too.
        language: of the transcript; empty for English.
    """

    waveform: np.ndarray
    text: str
    num_frames: int
    utterance_id: str = ""
    words: Sequence[TimedWord] = ()
    audio_name: str = ""
    language: str = ""

    @property
    def duration_s(self) -> float:
        """Length of the waveform in seconds."""
        return len(self.waveform) / ALIGNER_SAMPLE_RATE_HZ


@dataclass(frozen=True)
class ScoreScale:
    """What scores of an aligner mean, measured on read speech.

    Attributes:
        lowest: mean of an utterance below which its text is that of another recording.
        least_spread: spread that right utterances of one corpus have at least.
        lowest_foreign: as ``lowest``, for other languages than English where they score otherwise.
    """

    lowest: float
    least_spread: float
    lowest_foreign: float | None = None

    def lowest_of(self, language: str) -> float:
        """The lowest mean for a language; the empty one is English."""
        return self.lowest if not language or self.lowest_foreign is None else self.lowest_foreign


AlignResult = tuple[Word, ...] | AlignmentError


class Aligner(Protocol):
    """Finds the words of transcripts in their audio. The result of an utterance depends on that utterance alone.

    Attributes:
        batch: how many utterances to align per call for the best speed.
        scale: of its scores; None where they are others' or missing.
    """

    batch: int
    scale: ScoreScale | None

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """Aligns utterances.

        Args:
            items: the utterances.
            frame_rate_hz: frames a second.

        Returns:
            For each utterance its words: in order, without overlap, within ``num_frames``, each of at least one frame
            but those that were not found in the audio (``is_unaligned``). An utterance that cannot be aligned gives an
            ``AlignmentError`` instead.
        """
        ...


def align_each(align_one: Callable[[T], tuple[Word, ...]], items: Iterable[T]) -> list[AlignResult]:
    """Calls ``align_one`` for each item; an ``AlignmentError`` that it raises becomes the item's result."""
    results: list[AlignResult] = []
    for item in items:
        try:
            results.append(align_one(item))
        except AlignmentError as error:
            results.append(error)
    return results
