"""Vocoders: speech units to sound.

::

    units ──Vocoder.sound──▶ waveform
              MeanSpectra        k-means units: the mean spectrum of each unit, phases by Griffin and Lim
              CodecVocoder       EnCodec units: the codec's own decoder

``finished`` evens the level of any sound and fades its ends, so that it neither clips nor clicks.
"""

from lst.voice.vocoders.interface import CodecVocoder, Vocoder, finished
from lst.voice.vocoders.mean_spectra import VOICE_FILE, MeanSpectra, fit_spectra

__all__ = ["VOICE_FILE", "CodecVocoder", "MeanSpectra", "Vocoder", "finished", "fit_spectra"]
