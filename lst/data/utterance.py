"""An aligned utterance: the unit of shards, and what documents are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Word(NamedTuple):
    """A word of the transcript and its frames, end exclusive.

    ``score`` is the aligner's mean acoustic log-score a frame: comparable within one aligner only. ``character_ends``
    has, for each character of ``text`` without its spaces, the frame after it, counted from the word's start; it is
    empty where the aligner knows words only.
    """

    text: str
    start_frame: int
    end_frame: int
    score: float
    character_ends: tuple[int, ...] = ()

    def to_record(self) -> list[Any]:
        """As JSON; without characters it is the list that it was before there were any."""
        return [*self[:4], list(self.character_ends)] if self.character_ends else list(self[:4])

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> Word:
        """Inverse of ``to_record``."""
        text, start_frame, end_frame, score, *ends = record
        return cls(text, start_frame, end_frame, score, tuple(ends[0]) if ends else ())


def piece_character_ends(
    words: Sequence[Word | None], num_characters: np.ndarray, word_frames: np.ndarray
) -> np.ndarray | None:
    """Where characters end, as ``split_words`` takes it, for words and silences in order.

    A word whose characters are not known, or whose pieces hold another number of them (a normalisation that adds or
    removes some), gets the estimate that all of its characters last equally long.

    Args:
        words: [w], None for a silence.
        num_characters: int [w], characters of the pieces of each.
        word_frames: int [w], frames of each.

    Returns:
        int64 [sum of num_characters], or None where no word's characters are known: then there is nothing to add.
    """
    known = [
        word is not None and len(word.character_ends) == n > 0 for word, n in zip(words, num_characters, strict=True)
    ]
    if not any(known):
        return None
    parts = []
    for word, is_known, count, frames in zip(words, known, num_characters, word_frames, strict=True):
        if is_known and word is not None:
            parts.append(np.array(word.character_ends, np.int64))
        else:
            parts.append((2 * np.arange(1, count + 1) * frames + count) // max(2 * int(count), 1))
    return np.concatenate(parts)


class Segment(NamedTuple):
    """A word (its index) or a silence (−1) and its frames, end exclusive."""

    word: int
    start_frame: int
    end_frame: int


@dataclass(frozen=True)
class Utterance:
    """One recording with units and words; a written text has neither.

    Attributes:
        id: unique in the corpus.
        speaker: who speaks.
        text: the transcript.
        duration_s: length of the audio.
        units: uint16 [num_frames].
        words: in order; with the silences between them they tile the frames.
        ending_start_word: index of the word with which the ending opens, where the corpus knows it.
        audio_path: where the audio lies, for listening.
    """

    id: str
    speaker: str
    text: str
    duration_s: float
    units: np.ndarray
    words: tuple[Word, ...] = ()
    ending_start_word: int | None = None
    audio_path: str = ""

    @property
    def num_frames(self) -> int:
        return len(self.units)

    def segments(self) -> list[Segment]:
        """Words and silences in order, tiling frames 0 … num_frames."""
        found: list[Segment] = []
        position = 0
        for index, word in enumerate(self.words):
            if word.start_frame > position:
                found.append(Segment(-1, position, word.start_frame))
            found.append(Segment(index, word.start_frame, word.end_frame))
            position = word.end_frame
        if position < self.num_frames:
            found.append(Segment(-1, position, self.num_frames))
        return found

    def to_record(self) -> dict[str, Any]:
        """Everything but the units, as JSON."""
        return {
            "id": self.id,
            "speaker": self.speaker,
            "text": self.text,
            "duration_s": self.duration_s,
            "num_units": self.num_frames,
            "words": [word.to_record() for word in self.words],
            "ending_start_word": self.ending_start_word,
            "audio_path": self.audio_path,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], units: np.ndarray) -> Utterance:
        """Inverse of ``to_record``; raises ``ValueError`` when units and record disagree."""
        if record["num_units"] != len(units):
            raise ValueError(f"{record['num_units']} units are recorded, {len(units)} are there")
        return cls(
            id=record["id"],
            speaker=record["speaker"],
            text=record["text"],
            duration_s=record["duration_s"],
            units=units,
            words=tuple(Word.from_record(word) for word in record["words"]),
            ending_start_word=record["ending_start_word"],
            audio_path=record["audio_path"],
        )
