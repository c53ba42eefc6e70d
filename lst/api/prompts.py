"""What a prompt may be: text, an audio file, a waveform with its rate, units, or several of these in a row.

>>> is_audio_file("Anna went home."), is_audio_file("a/prompt.wav")
(False, True)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lst.data.audio import AUDIO_SUFFIXES, read_audio, resample
from lst.data.documents import DocumentBuilder, DocumentPart
from lst.errors import UserError
from lst.tokenizers.speech import SpeechTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ

# Samples [num_samples] and their rate in Hz, as ``soundfile.read`` returns them.
Waveform: TypeAlias = tuple[npt.NDArray[np.generic], int]
# Speech units, int [n], as ``SpeechTextModel.units`` returns them.
Units: TypeAlias = npt.NDArray[np.integer[Any]]
Piece: TypeAlias = str | Path | Waveform | Units
Prompt: TypeAlias = Piece | list[Piece]


def pieces_of(prompt: Prompt) -> list[Piece]:
    """The pieces of a prompt, in order: a list holds several, all else is one."""
    return prompt if isinstance(prompt, list) else [prompt]


def prompt_parts(prompt: Prompt, builder: DocumentBuilder, codec: SpeechTokenizer) -> list[DocumentPart]:
    """The parts of a document for the pieces of a prompt.

    Raises:
        UserError: a piece is empty, of another type, or audio that cannot be read or encoded.
    """
    pieces = pieces_of(prompt)
    if not pieces:
        raise UserError("a prompt is empty: give text, an audio file, or (samples, sample_rate_hz)")
    return [
        builder.text_part(_text(piece))
        if isinstance(piece, str) and not is_audio_file(piece)
        else builder.speech_part(units_of(piece, codec))
        for piece in pieces
    ]


def units_of(audio: Piece, codec: SpeechTokenizer) -> np.ndarray:
    """The units of an audio file or a waveform, uint16 [n], or units as they are; raises as ``prompt_parts`` does."""
    if isinstance(audio, np.ndarray) and np.issubdtype(audio.dtype, np.integer):
        return _units(audio, codec)
    if isinstance(audio, (str, Path)):
        return codec.encode([read_audio(audio, SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)[0]
    return codec.encode([_waveform(audio)], SAMPLE_RATE_HZ)[0]


def is_audio_file(text: str) -> bool:
    """Whether a text is the name of an audio file, by its end."""
    return text.lower().endswith(AUDIO_SUFFIXES)


def _text(piece: str) -> str:
    if not piece.strip():
        raise UserError("a written prompt is empty: give a few words")
    return piece


def _units(units: Units, codec: SpeechTokenizer) -> np.ndarray:
    if units.ndim != 1 or not units.size or not 0 <= units.min() <= units.max() < codec.num_units:
        raise UserError(
            f"units of shape {units.shape}: give [n], one or more, from 0 to {codec.num_units - 1}; of samples, give "
            "(samples, sample_rate_hz)"
        )
    return units.astype(np.uint16)


def _waveform(piece: Waveform | Units) -> npt.NDArray[np.float32]:
    """A waveform as float32 mono at 16 kHz; samples of an integer type are scaled to ±1."""
    if not (isinstance(piece, tuple) and len(piece) == 2 and isinstance(piece[1], (int, np.integer))):
        raise UserError(
            f"a prompt holds a {type(piece).__name__}: give text, the path of an audio file, or a pair "
            "(samples, sample_rate_hz), as soundfile.read returns it"
        )
    samples: npt.NDArray[Any] = np.asarray(piece[0])
    if samples.ndim != 1 or not samples.size:
        raise UserError(f"samples of shape {samples.shape}: give one channel, [num_samples], of one sample or more")
    if np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if not np.issubdtype(samples.dtype, np.floating) or not np.isfinite(samples).all():
        raise UserError(f"samples of type {samples.dtype}: give finite floats within ±1, or signed integers")
    if (rate_hz := int(piece[1])) < 1:
        raise UserError(f"a waveform of {rate_hz} Hz: give its samples a second")
    return resample("the waveform", samples.astype(np.float32), rate_hz, SAMPLE_RATE_HZ)
