"""Vocoders: speech units to sound.

::

    units ──Vocoder.sound──▶ waveform
              MeanSpectra        k-means units: the mean spectrum of each unit, phases by Griffin and Lim
              CodecVocoder       EnCodec units: the codec's own decoder

    mel ────MelVocoder.waveform──▶ waveform                ``of_mels``, for a trained voice, which makes mels of units
              GriffinLim         no weights
              TrainedVocoder     spectra by a network that ``lst voice train part=vocoder`` trains
              VocosVocoder       an extra, see ``vocos``

``finished`` evens the level of any sound and fades its ends, so that it neither clips nor clicks.
"""

from lst.voice.vocoders.interface import CodecVocoder, SoundFigures, Vocoder, figures_of, finished
from lst.voice.vocoders.mean_spectra import VOICE_FILE, MeanSpectra, fit_spectra

__all__ = [
    "VOICE_FILE",
    "CodecVocoder",
    "MeanSpectra",
    "SoundFigures",
    "Vocoder",
    "figures_of",
    "finished",
    "fit_spectra",
]
