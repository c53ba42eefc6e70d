"""Recordings become utterances: their audio is encoded as units, and their words are aligned in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lst.data.alignment import AlignItem, AlignmentError, AlignResult, FilteredAligner, check_imported
from lst.data.alignment.causes import OPPOSITE, SILENCE, sound_fault
from lst.data.alignment.ctc.foreign_labels import is_romanised
from lst.data.alignment.ctc.model import load_ctc_model
from lst.data.alignment.names import audio_name
from lst.data.audio import read_row_audio
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestRow
from lst.data.text import romaniser
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.tokenizers.speech import SpeechTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ


def check_aligner(config: DataConfig, rows: Sequence[ManifestRow]) -> None:
    """Checks a CTC model or given word times once, before the lists are written and workers start.

    Raises:
        UserError: the model does not load, or more given alignments are faulty than may be left out; it names all
            problems.
    """
    if config.align.method == "ctc" and rows:
        check_ctc(config.align, rows)
    check_imported(config, rows)


def check_ctc(align: AlignConfig, rows: Sequence[ManifestRow]) -> None:
    """Raises ``UserError`` where a CTC model does not load, or wants romanised texts and there is no romaniser."""
    ctc = load_ctc_model(align.checkpoint, align.weights, align.device)
    if any(row.language for row in rows) and is_romanised(ctc.labels):
        romaniser()


def make_utterances(
    rows: Sequence[ManifestRow], codec: SpeechTokenizer, aligner: FilteredAligner
) -> list[Utterance | AlignmentError | UserError]:
    """Units and words of recordings, aligned together.

    Words are placed in units: with ``units_a_frame`` units per frame, a word's bounds are those of its frames times
    that number.

    Args:
        rows: the recordings; ``aligner.batch`` of them are a good number.
        codec: makes the speech units.
        aligner: as ``build_aligner`` makes it.

    Returns:
        For each row its utterance, or the error that says why the recording cannot be used.
    """
    encoded = [_encoded(row, codec) for row in rows]
    items = [found[0] for found in encoded if isinstance(found, tuple) and found[0].text]
    aligned = iter(aligner.align_many(items, codec.frame_rate_hz))
    return [
        _utterance(row, *found, next(aligned) if found[0].text else _speech_alone(found[0]), codec.units_a_frame)
        if isinstance(found, tuple)
        else found
        for row, found in zip(rows, encoded, strict=True)
    ]


def _speech_alone(item: AlignItem) -> AlignResult:
    """No words: of a recording without a transcript, which must hold sound speech all the same."""
    return AlignmentError(fault) if (fault := sound_fault(item.waveform)) else ()


def _encoded(row: ManifestRow, codec: SpeechTokenizer) -> tuple[AlignItem, np.ndarray] | UserError:
    """A recording to align, and its units."""
    try:
        waveform = read_row_audio(row)
        units = codec.encode([waveform], SAMPLE_RATE_HZ)[0]
    except UserError as error:
        return error
    num_frames = len(units) // codec.units_a_frame
    return AlignItem(waveform, row.text, num_frames, row.id, row.words, audio_name(row), row.language), units


def _channel_fault(row: ManifestRow, item: AlignItem) -> str:
    """Whether the mean of channels is silence because one is the other upside down; empty if not."""
    if row.channel is not None or not sound_fault(item.waveform).startswith(SILENCE):
        return ""
    try:
        first = read_row_audio(replace(row, channel=0))
    except UserError:
        return ""
    if sound_fault(first).startswith(SILENCE):
        return ""
    return (
        f"{OPPOSITE}: channel 0 is as loud as speech, and the mean of all channels is silent: name one with channel=0"
    )


def _utterance(
    row: ManifestRow, item: AlignItem, units: np.ndarray, found: AlignResult, units_a_frame: int
) -> Utterance | AlignmentError:
    if isinstance(found, AlignmentError):
        return AlignmentError(f"{fault}; {found}") if (fault := _channel_fault(row, item)) else found
    words = tuple(word.in_units(units_a_frame) for word in found)
    ending = None
    if row.ending_start_word is not None:
        # An aligned word may hold several written ones (a dash joins the word before it).
        written = np.cumsum([0] + [len(word.text.split()) for word in words])
        ending = int(np.searchsorted(written, row.ending_start_word))
    return Utterance(
        id=row.id,
        speaker=row.speaker,
        text=" ".join(word.text for word in words),
        duration_s=round(item.duration_s, 3),
        units=units,
        words=words,
        ending_start_word=ending,
        provenance=row.provenance,
    )
