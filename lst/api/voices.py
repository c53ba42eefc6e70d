"""The voice of a model: its codec's decoder, a voice that was trained, the file of mean spectra beside its weights, or
one that is fitted to prepared data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lst.data.audio import read_row_audio
from lst.data.prepared import PreparedData
from lst.errors import LstError
from lst.runs import RunFolder, WholeModel
from lst.tokenizers.neural_codec import CodecTokenizer
from lst.tokenizers.speech import SpeechTokenizer
from lst.voice.converter import StyleVoice
from lst.voice.saved import STYLE_VOICE_FILE, SavedVoice
from lst.voice.vocoders import VOICE_FILE, CodecVocoder, MeanSpectra, Vocoder, fit_spectra
from lst.voice.vocoders.of_mels import vocoder_beside

# Enough for the means of some hundred units.
VOICE_UTTERANCES, VOICE_SECONDS = 400, 1200.0


def voice_of(whole: WholeModel) -> Vocoder | None:
    """The voice of a model; None where it has none.

    One that ``lst voice train`` made in the model's run, and that reads the model's units, comes before mean spectra;
    its sound is made by the vocoder that was trained beside it, where there is one.

    Raises:
        UserError: the file of its voice is damaged.
    """
    codec = whole.tokenizers.codec
    if isinstance(codec, CodecTokenizer):
        return CodecVocoder(codec)
    if voices := _reading(trained_voices(whole.folder), codec):
        return voices[0]
    place = whole.folder / VOICE_FILE
    return MeanSpectra.load(place, codec.num_units) if place.exists() else None


def trained_voices(folder: Path) -> list[Path]:
    """Files of trained voices beside a model's weights, and in its run, by name."""
    own, place = folder / STYLE_VOICE_FILE, folder.absolute()
    found = [own] if own.exists() else []
    for root in list(place.parents)[2:3]:
        if place == RunFolder(root).final(place.parent.name):
            found += _voices_in(root)
    return found


def voices_of_run(run: Path, codec: SpeechTokenizer) -> dict[str, StyleVoice]:
    """The trained voices of a run that read these units, by name."""
    return {voice.saved.description["name"]: voice for voice in _reading(_voices_in(run), codec)}


def _voices_in(run: Path) -> list[Path]:
    return sorted((run / "voice").glob(f"*/{STYLE_VOICE_FILE}"))


def _reading(places: Iterable[Path], codec: SpeechTokenizer) -> list[StyleVoice]:
    """Those that read these units; voices that convert, too, come first."""
    voices = [StyleVoice(SavedVoice.load(place), vocoder=vocoder_beside(place)) for place in places]
    own = [
        voice
        for voice in voices
        if voice.saved.description["has_units"] and voice.saved.description["units_sha256"] == codec.sha256
    ]
    return sorted(own, key=lambda voice: not voice.saved.description["has_student"])


def fit_voice(data: PreparedData) -> MeanSpectra | None:
    """A voice fitted to training speech; None for units of a codec, and where no audio can be read."""
    codec = data.codec
    if isinstance(codec, CodecTokenizer) or not data.manifest:
        return None
    return fit_spectra(_speech(data), codec.num_units, codec.frame_rate_hz)


def _speech(data: PreparedData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Waveforms and units of utterances from all over the training split."""
    left_s = VOICE_SECONDS
    for index in np.unique(np.linspace(0, len(data.train) - 1, min(len(data.train), VOICE_UTTERANCES)).astype(int)):
        utterance = data.train[int(index)]
        row = data.manifest.get(utterance.id)
        if row is None or not len(utterance.units):
            continue
        try:
            waveform = read_row_audio(row)
        except LstError:
            # The voice is a mean of many: recordings that are gone since are not missed.
            continue
        yield waveform, utterance.units
        left_s -= utterance.duration_s
        if left_s < 0:
            return
