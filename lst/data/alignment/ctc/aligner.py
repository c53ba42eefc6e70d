"""Forced alignment with a CTC model: the likeliest path through a transcript's letters, by torchaudio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lst.data.alignment.aligner import AlignItem, AlignmentError
from lst.data.alignment.ctc.emissions import ctc_emissions
from lst.data.alignment.ctc.labels import CtcWord, LabelMap
from lst.data.alignment.ctc.model import CTC_SAMPLE_RATE_HZ, CtcModel, load_ctc_model
from lst.data.alignment.words import place_words
from lst.data.config import AlignConfig
from lst.data.utterance import TimedWord, Word
from lst.lazy import import_torchaudio

# The path's back pointers take two bits a frame and state.
MAX_TRELLIS_BYTES = 2 << 30


class CtcAligner:
    """Aligns words and characters with a CTC model.

    A character lasts until the next one of its word begins, the last until its own label ends: between them CTC says
    nothing (blank). A word's score is the mean log-probability of its characters' labels in the frames that are
    theirs; a star's, of a letter that the dictionary lacks, is that of the likeliest label.

    Args:
        ctc: the model.
        window_s, overlap_s: of long audio; see ``ctc_emissions``.
        batch: windows that pass the model together.
    """

    def __init__(self, ctc: CtcModel, window_s: float = 30.0, overlap_s: float = 2.0, batch: int = 8) -> None:
        self.ctc, self.window_s, self.overlap_s, self.batch = ctc, window_s, overlap_s, batch
        self.name = f"ctc-{ctc.name}"
        self._labels = LabelMap(ctc.labels, ctc.blank_id)

    @classmethod
    def from_config(cls, config: AlignConfig) -> CtcAligner:
        """Loads the model that ``config`` names; raises ``UserError`` as ``load_ctc_model``."""
        ctc = load_ctc_model(config.checkpoint, config.weights, config.device)
        return cls(ctc, config.window_s, config.overlap_s, config.batch)

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """Words of ``text`` with their frames and characters; see ``Aligner.align``."""
        found = self.align_many([AlignItem(waveform, text, num_frames, utterance_id)], frame_rate_hz)[0]
        if isinstance(found, AlignmentError):
            raise found
        return found

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[tuple[Word, ...] | AlignmentError]:
        """As ``align`` of each, with audio of like length passing the model together."""
        waveforms = [item.waveform for item in items]
        emissions = ctc_emissions(self.ctc, waveforms, self.window_s, self.overlap_s, self.batch)
        results: list[tuple[Word, ...] | AlignmentError] = []
        for item, emission in zip(items, emissions, strict=True):
            try:
                timed = self.timed_words(emission, item.text)
                results.append(place_words(timed, item.num_frames, frame_rate_hz))
            except AlignmentError as error:
                results.append(error)
        return results

    def timed_words(self, emission: Tensor, text: str) -> list[TimedWord]:
        """Words of ``text`` in seconds.

        Args:
            emission: float32 [num_frames, V], log-probabilities of labels.
            text: the transcript.

        Raises:
            AlignmentError: nothing can be said, or it does not fit into the audio.
        """
        try:
            words = self._labels.words(text)
        except ValueError as error:
            raise AlignmentError(str(error)) from None
        targets, word_of = self._targets(words)
        starts, ends, scores = align_labels(emission, targets, self.ctc.blank_id)
        frame_s = self.ctc.samples_a_frame / CTC_SAMPLE_RATE_HZ
        timed = []
        for index, word in enumerate(words):
            own = np.flatnonzero(word_of == index)
            # Boundaries inside a number ("twenty|one") are among its labels, but no sound of it.
            heard = own[targets[own] != self._labels.boundary_id] if self._labels.boundary_id is not None else own
            lengths = ends[heard] - starts[heard]
            score = float((scores[heard] * lengths).sum() / lengths.sum())
            characters = _character_ends(word, starts[own], int(ends[own[-1]]))
            timed.append(
                TimedWord(
                    word.text,
                    float(starts[own[0]] * frame_s),
                    float(ends[own[-1]] * frame_s),
                    score,
                    tuple(end * frame_s for end in characters),
                )
            )
        return timed

    def _targets(self, words: Sequence[CtcWord]) -> tuple[np.ndarray, np.ndarray]:
        """Labels of all words, int64 [L], and the word of each, −1 for the boundaries between them."""
        targets: list[int] = []
        word_of: list[int] = []
        for index, word in enumerate(words):
            if index and self._labels.boundary_id is not None:
                targets.append(self._labels.boundary_id)
                word_of.append(-1)
            targets += word.label_ids
            word_of += [index] * len(word.label_ids)
        return np.array(targets, np.int64), np.array(word_of, np.int64)


def align_labels(emission: Tensor, targets: np.ndarray, blank_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest CTC path through ``targets``.

    The star, label V, is as likely in a frame as the likeliest label that is not blank: it can be any sound, but no
    silence.

    Args:
        emission: float32 [num_frames, V], log-probabilities.
        targets: int [L], labels, of which none is blank.
        blank_id: CTC's blank.

    Returns:
        First frame int64 [L] of each label, the frame after its last, and its mean log-probability float64 [L].

    Raises:
        AlignmentError: there are too few frames, or so many that the path would not fit into memory.
    """
    num_frames, num_labels = emission.shape
    needed = len(targets) + int((targets[1:] == targets[:-1]).sum())
    if num_frames < needed:
        raise AlignmentError(
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
        raise AlignmentError("the text does not fit the audio: no path through it has a probability above 0")
    sums = np.concatenate([[0.0], np.cumsum(frame_scores)])
    return starts, ends, (sums[ends] - sums[starts]) / (ends - starts)


def _character_ends(word: CtcWord, starts: np.ndarray, end: int) -> list[float]:
    """Where each written character of a word ends, in the model's frames.

    Those said together (a number) share their time equally; what is not said ends with the character before it.
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
