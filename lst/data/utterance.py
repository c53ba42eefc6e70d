"""An aligned utterance: the unit of shards, and what documents are drawn from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np

# Rounding of other tools' files: a time may lie this far outside the audio, or before the word in front of it.
TOLERANCE_S = 0.05


class TimedWord(NamedTuple):
    """A word and where it was found.

    Attributes:
        text: as its source writes it.
        start_s, end_s: in seconds from the utterance's start.
        score: as ``Word.score``; None where the source gives none.
        character_ends_s: where each character ends: of all of ``text`` but its spaces, or of its letters and digits
            alone (``word_key``); empty where unknown.
        place: file and line, for messages.
        is_unaligned: its source lists the word without times; these are the stretch between its neighbours.
    """

    text: str
    start_s: float
    end_s: float
    score: float | None = None
    character_ends_s: tuple[float, ...] = ()
    place: str = ""
    is_unaligned: bool = False


class Word(NamedTuple):
    """A word of the transcript and its frames, end exclusive.

    ``score`` is the aligner's mean acoustic log-score a frame: comparable within one aligner only, and 0 where it gives
    none. A word may own no frame. ``character_ends`` is the frame after each character of the text without its spaces,
    from the word's start; empty where it is unknown. An ``is_unaligned`` word was not found in the audio: its frames
    are the stretch between its neighbours, perhaps none, and belong to no speech span.
    """

    text: str
    start_frame: int
    end_frame: int
    score: float
    character_ends: tuple[int, ...] = ()
    is_unaligned: bool = False

    def in_units(self, units_a_frame: int) -> Word:
        """The same word where several units stand for a frame."""
        if units_a_frame == 1:
            return self
        return self._replace(
            start_frame=self.start_frame * units_a_frame,
            end_frame=self.end_frame * units_a_frame,
            character_ends=tuple(end * units_a_frame for end in self.character_ends),
        )


class Provenance(NamedTuple):
    """Where an utterance comes from, and what may be done with it; empty where it is not stated.

    Attributes:
        corpus: name of one of several corpora that were prepared together.
        source: where the corpus has it from.
        licence: under which it may be used.
        consent: what the speaker has agreed to.

    >>> Provenance(source="podcast", licence="CC-BY-4.0").stated
    {'source': 'podcast', 'licence': 'CC-BY-4.0'}
    """

    corpus: str = ""
    source: str = ""
    licence: str = ""
    consent: str = ""

    @property
    def stated(self) -> dict[str, str]:
        """What is stated, by name."""
        return {name: value for name, value in self._asdict().items() if value}

    @property
    def name(self) -> str:
        """By what its documents are mixed, and its losses told apart: the corpus of several, else the source."""
        return self.corpus or self.source


UNSTATED = Provenance()


class Segment(NamedTuple):
    """A word (its index) or a silence (−1) and its frames, end exclusive."""

    word: int
    start_frame: int
    end_frame: int


class WholeRecord(TypedDict):
    """Everything of an utterance but its units and its character ends.

    The parts of words are lists beside one another, which are quick to read: ``words`` are texts, ``word_starts`` and
    ``word_ends`` count frames, the end exclusive.
    """

    id: str
    speaker: str
    text: str
    duration_s: float
    num_units: int
    words: list[str]
    word_starts: list[int]
    word_ends: list[int]
    word_scores: list[float]
    ending_start_word: int | None


class SampleRecord(WholeRecord, total=False):
    """``KEY.json`` in a shard.

    Attributes:
        character_ends: there where any word has some, a list a word.
        unaligned_words: indices of words that were not found in the audio, where there are any.
        pieces: ids of the text, there where it was tokenised when it was prepared.
        source_id, source_segments: there where an ``Utterance`` has them.
        corpus, source, licence, consent: what is stated of its ``Provenance``.
    """

    character_ends: list[list[int]]
    unaligned_words: list[int]
    pieces: list[int]
    source_id: str
    source_segments: list[list[int]]
    corpus: str
    source: str
    licence: str
    consent: str


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
        pieces: int32 [n], ids of the text in the text tokenizer that the data was prepared with; None where the text is
            tokenised when it is read.
        source_id: the name in an ``.on_the_fly`` file, where it cannot be the id.
        source_segments: (word, or −1 for a silence; its units, or −1 where no list of units follows) of each segment of
            an ``.on_the_fly`` file, where ``segments`` does not tell: silences without units, and several in a row.
        provenance: as the corpus states it.
    """

    id: str
    speaker: str
    text: str
    duration_s: float
    units: np.ndarray
    words: tuple[Word, ...] = ()
    ending_start_word: int | None = None
    pieces: np.ndarray | None = None
    source_id: str = ""
    source_segments: tuple[tuple[int, int], ...] = ()
    provenance: Provenance = UNSTATED

    @property
    def num_frames(self) -> int:
        """Number of units."""
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

    def to_record(self) -> SampleRecord:
        """Everything but the units, as JSON."""
        record: SampleRecord = {
            "id": self.id,
            "speaker": self.speaker,
            "text": self.text,
            "duration_s": self.duration_s,
            "num_units": self.num_frames,
            "words": [word.text for word in self.words],
            "word_starts": [word.start_frame for word in self.words],
            "word_ends": [word.end_frame for word in self.words],
            "word_scores": [word.score for word in self.words],
            "ending_start_word": self.ending_start_word,
        }
        if any(word.character_ends for word in self.words):
            record["character_ends"] = [list(word.character_ends) for word in self.words]
        if unaligned := [index for index, word in enumerate(self.words) if word.is_unaligned]:
            record["unaligned_words"] = unaligned
        if self.pieces is not None:
            record["pieces"] = self.pieces.tolist()
        if self.source_id:
            record["source_id"] = self.source_id
        if self.source_segments:
            record["source_segments"] = [list(segment) for segment in self.source_segments]
        return cast(SampleRecord, {**record, **self.provenance.stated})

    @classmethod
    def from_record(cls, record: SampleRecord, units: np.ndarray) -> Utterance:
        """Inverse of ``to_record``; raises ``ValueError`` when units and record disagree."""
        if record["num_units"] != len(units):
            raise ValueError(f"{record['num_units']} units are recorded, {len(units)} are there")
        columns = (record["words"], record["word_starts"], record["word_ends"], record["word_scores"])
        parts: list[Sequence[Any]] = [*columns]
        if "character_ends" in record:
            parts.append([tuple(ends) for ends in record["character_ends"]])
        words = list(itertools.starmap(Word, zip(*parts, strict=True)))
        for index in record.get("unaligned_words", ()):
            words[index] = words[index]._replace(is_unaligned=True)
        return cls(
            id=record["id"],
            speaker=record["speaker"],
            text=record["text"],
            duration_s=record["duration_s"],
            units=units,
            words=tuple(words),
            ending_start_word=record["ending_start_word"],
            pieces=np.array(record["pieces"], np.int32).reshape(-1) if "pieces" in record else None,
            source_id=record.get("source_id", ""),
            source_segments=tuple((word, num_units) for word, num_units in record.get("source_segments", ())),
            provenance=Provenance(
                record.get("corpus", ""), record.get("source", ""), record.get("licence", ""), record.get("consent", "")
            ),
        )


def time_problems(timed: Sequence[TimedWord], duration_s: float) -> list[str]:
    """What is wrong with the times of words: order, length, and the audio's end; a line each."""
    found = []
    before_s = 0.0
    for word in timed:
        where = f"{word.place}: " if word.place else ""
        times = f"{word.text!r} from {word.start_s:.3f} to {word.end_s:.3f} s"
        if not (word.start_s >= 0 and word.end_s >= word.start_s and word.end_s < float("inf")):
            found.append(f"{where}{times}: must satisfy 0 ≤ start ≤ end")
            continue
        if word.start_s < before_s - TOLERANCE_S:
            found.append(f"{where}{times}: begins before the word in front of it ends ({before_s:.3f} s)")
        if word.end_s > duration_s + TOLERANCE_S:
            found.append(f"{where}{times}: the audio ends at {duration_s:.3f} s")
        before_s = max(before_s, word.end_s)
    return found


class HeldOut(TypedDict, total=False):
    """Which utterances are held out where the corpus does not say: those of some speakers, or by a draw.

    Attributes:
        speakers: whose utterances are.
        seed, below: the seed of the draw, and the last one that is: utterances whose draw is not above it.
        recordings: files, by their places in the corpus, whose segments are; no other segment is, whatever its draw.
            Not there where the corpus had no segments, or has them all of one file.
    """

    speakers: list[str]
    seed: int
    below: str
    recordings: list[str]
