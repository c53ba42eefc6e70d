"""Forced alignment with a CTC model: torchaudio finds the likeliest path through a transcript's letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lst.data.alignment.aligner import (
    MAX_UNALIGNED_SHARE,
    AlignItem,
    AlignmentError,
    AlignResult,
    MisfitError,
    ScoreScale,
    align_each,
)
from lst.data.alignment.ctc.emissions import ctc_emissions
from lst.data.alignment.ctc.foreign_labels import ForeignLabelMap
from lst.data.alignment.ctc.graph import FoundReading, best_readings
from lst.data.alignment.ctc.labels import CtcReadings, CtcWord, LabelMap
from lst.data.alignment.ctc.model import CTC_SAMPLE_RATE_HZ, CtcModel, load_ctc_model
from lst.data.alignment.words import place_words, with_unaligned
from lst.data.config import AlignConfig
from lst.data.text import BRACKETS, join_unsaid
from lst.data.utterance import TimedWord, Word
from lst.lazy import import_torchaudio

# Memory limit of the path's back pointers: two bits per frame and state.
MAX_TRELLIS_BYTES = 2 << 30
# Words that score less may be missing in the audio.
DOUBTFUL_SCORE = -2.5


class CtcAligner:
    """Aligns words and characters with a CTC model.

    A character lasts until the next one of its word starts; the last lasts until its own label ends. The frames between
    two labels are blank, so CTC does not say where one character ends. A word's score is the mean log-probability of
    its labels over their frames; the star, for letters that the dictionary lacks, counts as the likeliest label.

    Args:
        ctc: the model.
        window_s, overlap_s: windows of long audio; see ``ctc_emissions``.
        batch: windows that pass the model together.
        brackets: pairs of brackets around labels that are unsaid.
    """

    # Mean log-probability of labels; right texts seldom reach −2 with models that know the language.
    scale: ScoreScale | None = ScoreScale(lowest=-4.0, least_spread=0.15)

    def __init__(
        self,
        ctc: CtcModel,
        window_s: float = 30.0,
        overlap_s: float = 2.0,
        batch: int = 8,
        brackets: Sequence[str] = BRACKETS,
    ) -> None:
        self.ctc, self.window_s, self.overlap_s, self.batch = ctc, window_s, overlap_s, batch
        self.brackets = brackets
        self._labels = LabelMap(ctc.labels, ctc.blank_id)
        self._foreign: dict[str, ForeignLabelMap] = {}

    def labels_of(self, language: str) -> LabelMap:
        """The map of a language's texts to labels; the empty one is English."""
        if not language:
            return self._labels
        if language not in self._foreign:
            self._foreign[language] = ForeignLabelMap(self.ctc.labels, self.ctc.blank_id, language)
        return self._foreign[language]

    @classmethod
    def from_config(cls, config: AlignConfig) -> CtcAligner:
        """Loads the model that ``config`` names; raises ``UserError`` as ``load_ctc_model``."""
        ctc = load_ctc_model(config.checkpoint, config.weights, config.device)
        return cls(ctc, config.window_s, config.overlap_s, config.batch, config.brackets())

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``; audio of similar length passes the model together."""
        waveforms = [item.waveform for item in items]
        emissions = ctc_emissions(self.ctc, waveforms, self.window_s, self.overlap_s, self.batch)

        def align_one(pair: tuple[AlignItem, Tensor]) -> tuple[Word, ...]:
            item, emission = pair
            found = self.found_words(emission, item.text, item.language)
            placed = iter(
                place_words([one for one in found if isinstance(one, TimedWord)], item.num_frames, frame_rate_hz)
            )
            order = [next(placed) if isinstance(one, TimedWord) else one for one in found]
            return with_unaligned(order, item.num_frames)

        return align_each(align_one, zip(items, emissions, strict=True))

    def found_words(self, emission: Tensor, text: str, language: str = "") -> list[TimedWord | str]:
        """Words of ``text`` in seconds, by the readings that the audio has; texts of those that it lacks.

        Arguments as of ``timed_words``, which is tried first. Where a word scores badly or has several readings, the
        likeliest path through all readings decides.

        Raises:
            AlignmentError: nothing can be said, or no way through the text fits into the audio.
        """
        try:
            pieces = self.labels_of(language).readings(text, self.brackets)
        except ValueError as error:
            raise AlignmentError(str(error)) from None
        plain, failure = self._plain(emission, text, language)
        has_one_reading = all(len(piece.words) == 1 for piece in pieces)
        if plain and has_one_reading and not any(map(_is_doubtful, plain)):
            return list(plain)
        readings = [[word.label_ids for word in piece.words] for piece in pieces]
        try:
            found = best_readings(emission.numpy(), readings, self.ctc.blank_id, self._labels.boundary_id)
        except MisfitError as error:
            found, failure = [], failure or error
        parts = ((piece.text, self._heard(piece, one)) for piece, one in zip(pieces, found, strict=bool(found)))
        words = [_joined(joined, own) for joined, own in join_unsaid(parts)]
        num_lost = sum(isinstance(word, str) for word in words)
        if not words or num_lost > MAX_UNALIGNED_SHARE * len(words):
            # Another text: the forced path tells how badly it fits.
            if failure is not None:
                raise failure
            return list(plain)
        is_same = len(plain) == len(words) and has_one_reading
        if is_same and not any(
            isinstance(after, str) and _is_doubtful(before) for before, after in zip(plain, words, strict=True)
        ):
            return list(plain)
        return words

    def _plain(self, emission: Tensor, text: str, language: str) -> tuple[list[TimedWord], MisfitError | None]:
        """``timed_words``, or why there are none."""
        try:
            return self.timed_words(emission, text, language), None
        except MisfitError as error:
            return [], error

    def _heard(self, piece: CtcReadings, found: FoundReading) -> list[TimedWord | None]:
        """The piece with its times; nothing if it is unsaid, None in place of the word if it is missing."""
        if found.reading is None:
            return [] if any(not word.label_ids for word in piece.words) else [None]
        word, frame_s = piece.words[found.reading], self.ctc.samples_a_frame / CTC_SAMPLE_RATE_HZ
        ends = _character_ends(word, found.starts, int(found.ends[-1]))
        start, end = float(found.starts[0] * frame_s), float(found.ends[-1] * frame_s)
        return [TimedWord(piece.text, start, end, found.score, tuple(place * frame_s for place in ends))]

    def timed_words(self, emission: Tensor, text: str, language: str = "") -> list[TimedWord]:
        """Words of ``text`` in seconds.

        Args:
            emission: float32 [num_frames, V], log-probabilities of labels.
            text: the transcript.
            language: of it; empty for English.

        Raises:
            AlignmentError: nothing can be said, or it does not fit into the audio.
        """
        label_map = self.labels_of(language)
        try:
            words = label_map.words(text)
        except ValueError as error:
            raise AlignmentError(str(error)) from None
        boundary = [] if label_map.boundary_id is None else [label_map.boundary_id]
        # The labels of all words, with a boundary between words, and the places of each word's labels.
        labels: list[int] = []
        places = []
        for word in words:
            labels += boundary if labels else []
            places.append(np.arange(len(labels), len(labels) + len(word.label_ids)))
            labels += word.label_ids
        targets = np.array(labels, np.int64)
        starts, ends, scores = align_labels(emission, targets, self.ctc.blank_id)
        frame_s = self.ctc.samples_a_frame / CTC_SAMPLE_RATE_HZ
        timed = []
        for word, own in zip(words, places, strict=True):
            # A number ("twenty|one") has boundaries among its labels; they are no sound of it.
            heard = own[~np.isin(targets[own], boundary)]
            lengths = ends[heard] - starts[heard]
            score = float((scores[heard] * lengths).sum() / lengths.sum())
            start, end = starts[own[0]], ends[own[-1]]
            characters = tuple(place * frame_s for place in _character_ends(word, starts[own], int(end)))
            timed.append(TimedWord(word.text, float(start * frame_s), float(end * frame_s), score, characters))
        return timed


def _is_doubtful(word: TimedWord) -> bool:
    """Whether a word scores so badly that the audio may lack it."""
    return (word.score or 0.0) < DOUBTFUL_SCORE


def _joined(text: str, parts: Sequence[TimedWord | None]) -> TimedWord | str:
    """A word with the unsaid pieces around it, whose characters take no time; its text alone if it is missing."""
    word = next((part for part in parts if part is not None), None)
    if word is None:
        return text
    before, _, after = text.partition(word.text)
    num_before, num_after = (sum(not char.isspace() for char in part) for part in (before, after))
    ends = (*num_before * (word.start_s,), *word.character_ends_s, *num_after * word.character_ends_s[-1:])
    return word._replace(text=text, character_ends_s=ends)


def align_labels(emission: Tensor, targets: np.ndarray, blank_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest CTC path through ``targets``.

    The star, label V, is as likely in a frame as the likeliest label but the blank: it matches any sound, but no
    silence.

    Args:
        emission: float32 [num_frames, V], log-probabilities.
        targets: int [L], labels without the blank.
        blank_id: CTC's blank.

    Returns:
        For each label its first frame, int64 [L], the frame after its last, int64 [L], and its mean log-probability,
        float64 [L].

    Raises:
        AlignmentError: there are too few frames, or so many that the path would not fit into memory.
    """
    num_frames, num_labels = emission.shape
    needed = len(targets) + int((targets[1:] == targets[:-1]).sum())
    if num_frames < needed:
        raise MisfitError(
            f"the text does not fit the audio: its {len(targets)} labels need {needed} frames, there are {num_frames}"
        )
    if num_frames * (2 * len(targets) + 1) // 4 > MAX_TRELLIS_BYTES:
        raise AlignmentError(
            f"{num_frames} frames and {len(targets)} labels are too many to align at once: cut the recording into parts"
        )
    others = [label for label in range(num_labels) if label != blank_id]
    with_star = torch.cat([emission, emission[:, others].max(1, keepdim=True).values], 1).contiguous()
    forced_align = import_torchaudio().functional.forced_align
    path_T, scores_T = forced_align(with_star[None], torch.from_numpy(targets)[None], blank=blank_id)
    path, frame_scores = path_T[0].numpy(), scores_T[0].double().numpy()
    changes = np.flatnonzero(np.diff(path, prepend=path[0] - 1))
    run_ends = np.append(changes[1:], num_frames)
    spoken = path[changes] != blank_id
    starts, ends = changes[spoken], run_ends[spoken]
    if not (np.array_equal(path[starts], targets) and np.isfinite(frame_scores).all()):
        raise MisfitError("the text does not fit the audio: no path through it has a probability above 0")
    sums = np.concatenate([[0.0], np.cumsum(frame_scores)])
    return starts, ends, (sums[ends] - sums[starts]) / (ends - starts)


def _character_ends(word: CtcWord, starts: np.ndarray, end: int) -> list[float]:
    """Where each written character of a word ends, in the model's frames.

    Characters that are said together (a number) share their time equally. A character that is not said ends with the
    one before it.
    """
    label_ends = [*starts[1:].tolist(), end]
    ends: list[float] = []
    position = 0
    before = float(starts[0])
    for group in word.groups:
        position += len(group.label_ids)
        own_end = float(label_ends[position - 1]) if group.label_ids else before
        count = group.num_characters
        ends += [before + (own_end - before) * (index + 1) / count for index in range(count)]
        before = own_end
    return ends
