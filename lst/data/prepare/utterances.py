"""Recordings to utterances: their units and, a batch at a time, their words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lst.data.alignment import AlignItem, AlignmentError, FilteredAligner, check_imported
from lst.data.alignment.ctc.model import load_ctc_model
from lst.data.audio import read_row_audio
from lst.data.config import DataConfig
from lst.data.corpora import ManifestRow
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.tokenizers.speech import SpeechTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ


def check_aligner(config: DataConfig, rows: Sequence[ManifestRow]) -> None:
    """Checks model and imported alignments before any work, so that a problem is reported once, not by every worker.

    Raises:
        UserError: a CTC model does not load, or more alignments that are taken over are faulty than may be left out;
            all problems are named.
    """
    if config.align.method == "ctc" and rows:
        load_ctc_model(config.align.checkpoint, config.align.weights, config.align.device)
    check_imported(config, rows)


def make_utterances(
    rows: Sequence[ManifestRow], codec: SpeechTokenizer, aligner: FilteredAligner
) -> list[Utterance | AlignmentError | UserError]:
    """Units and words of recordings, aligned together.

    Frames of words count units: where several units stand for a frame (``units_a_frame``), a word's bounds are those
    of its first and last frame, times that many.

    Args:
        rows: a few; ``aligner.batch`` of them are a good number.
        codec: of speech units.
        aligner: as ``build_aligner`` makes it.

    Returns:
        An utterance a row, or in place of one that cannot be used the error that says why.
    """
    made: list[Utterance | AlignmentError | UserError] = []
    items: list[tuple[int, AlignItem, np.ndarray]] = []
    for place, row in enumerate(rows):
        try:
            waveform = read_row_audio(row)
            units = codec.encode([waveform], SAMPLE_RATE_HZ)[0]
            num_frames = len(units) // codec.units_a_frame
            items.append((place, AlignItem(waveform, row.text, num_frames, row.id, row.words), units))
            made.append(UserError(""))
        except UserError as error:
            made.append(error)
    aligned = aligner.align_many([item for _, item, _ in items], codec.frame_rate_hz)
    for (place, item, units), words in zip(items, aligned, strict=True):
        if isinstance(words, AlignmentError):
            made[place] = words
        else:
            words = tuple(word.in_units(codec.units_a_frame) for word in words)
            made[place] = _aligned_utterance(rows[place], len(item.waveform), units, words)
    return made


def _aligned_utterance(row: ManifestRow, num_samples: int, units: np.ndarray, words: tuple[Word, ...]) -> Utterance:
    ending = None
    if row.ending_start_word is not None:
        # Unspoken marks are joined to the word before them, so a word's number may differ from its place in the text.
        written = np.cumsum([0] + [len(word.text.split()) for word in words])
        ending = int(np.searchsorted(written, row.ending_start_word))
    return Utterance(
        id=row.id,
        speaker=row.speaker,
        text=" ".join(word.text for word in words),
        duration_s=round(num_samples / SAMPLE_RATE_HZ, 3),
        units=units,
        words=words,
        ending_start_word=ending,
    )
