"""Mel spectra of 80 frames a second, and waveforms with such spectra.

::

    frame t       [t/80, (t+1)/80) s      log-mel, pitch, voicing, loudness
    content u     [u/40, (u+1)/40) s      mel frames 2u and 2u+1
    unit of u     floor((u + ½) · units a second / 40): the unit that covers the middle of the content frame
    phone of u    likewise, of the aligner's 100 frames a second

The values are those of StyleTTS-VC: windows of 1/20 s, 80 bins, (ln(10⁻⁵ + power) + 4) / 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from lst.lazy import import_torchaudio
from lst.voice.vocoders.mean_spectra import griffin_lim

FRAME_RATE_HZ, CONTENT_RATE_HZ, NUM_MELS = 80, 40, 80
LEAST_POWER, OFFSET, SCALE = 1e-5, 4.0, 4.0
SILENCE = (math.log(LEAST_POWER) + OFFSET) / SCALE
# Recordings are brought to this peak before their mel is taken, in training and after it.
PEAK = 0.7
# Of the multiplicative updates that find spectra of a mel.
_NUM_UPDATES, _NUM_UPDATES_OF_GUESS = 30, 10


@dataclass(frozen=True)
class MelScale:
    """Mel spectra of waveforms of one rate.

    Attributes:
        sample_rate_hz: a multiple of 400.
    """

    sample_rate_hz: int

    @property
    def hop_samples(self) -> int:
        """Samples of a frame."""
        return self.sample_rate_hz // FRAME_RATE_HZ

    @property
    def window_samples(self) -> int:
        """Samples that a frame is computed of."""
        return self.sample_rate_hz // 20

    @property
    def fft_samples(self) -> int:
        """The power of two above the window."""
        return 1 << self.window_samples.bit_length()

    # cached_property writes to the instance's dictionary, which frozen dataclasses allow.
    @cached_property
    def filters(self) -> torch.Tensor:
        """float32 [fft_samples / 2 + 1, 80]: the weight of each frequency in each bin."""
        found: torch.Tensor = import_torchaudio().functional.melscale_fbanks(
            self.fft_samples // 2 + 1, 0.0, self.sample_rate_hz / 2, NUM_MELS, self.sample_rate_hz
        )
        return found

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform: an even number, the last ones filled up with silence."""
        return 2 * math.ceil(num_samples / (2 * self.hop_samples))

    def power(self, waveform: np.ndarray) -> torch.Tensor:
        """Power of each frequency, float32 [num_frames, fft_samples / 2 + 1] of float32 [num_samples]."""
        num_frames = self.num_frames(len(waveform))
        beside = (self.fft_samples - self.hop_samples) // 2
        missing = num_frames * self.hop_samples - len(waveform)
        padded = functional.pad(torch.from_numpy(waveform), (beside, beside + missing))
        window = torch.hann_window(self.window_samples)
        spectrum = torch.stft(
            padded,
            self.fft_samples,
            self.hop_samples,
            self.window_samples,
            window=window,
            center=False,
            return_complex=True,
        )
        return spectrum[:, :num_frames].abs().square().T

    def mel_of(self, power_TF: torch.Tensor) -> torch.Tensor:
        """The mel of what ``power`` gives, float32 [80, num_frames]."""
        return (((power_TF @ self.filters + LEAST_POWER).log() + OFFSET) / SCALE).T.contiguous()

    def mel(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [80, num_frames] of float32 [num_samples]."""
        found: np.ndarray = self.mel_of(self.power(waveform)).numpy()
        return found

    def waveform(self, mel: np.ndarray, guess_TF: torch.Tensor | None = None) -> np.ndarray:
        """A waveform, float32 [num_frames · hop], whose mel is about this, float32 [80, num_frames].

        Griffin and Lim's algorithm finds its phases.

        Args:
            mel: of ``mel``.
            guess_TF: a guess of ``power``, which is only brought nearer to the mel; without, the mel alone gives it.
        """
        power_TM = (torch.from_numpy(mel.T.astype(np.float32)) * SCALE - OFFSET).exp().sub(LEAST_POWER).clamp(min=0)
        filters_FM = self.filters
        wanted = power_TM @ filters_FM.T
        between = filters_FM @ filters_FM.T
        power_TF = wanted.clone() if guess_TF is None else guess_TF
        # Spectra are not negative: multiplicative updates (Lee and Seung, 2001) keep them so.
        for _ in range(_NUM_UPDATES if guess_TF is None else _NUM_UPDATES_OF_GUESS):
            power_TF = power_TF * wanted / (power_TF @ between + 1e-10)
        num_frames, half = mel.shape[1], self.hop_samples // 2
        # The phases' frames begin at their middles.
        inner = griffin_lim(
            power_TF.sqrt().numpy(),
            (num_frames - 1) * self.hop_samples,
            self.fft_samples,
            self.hop_samples,
            self.window_samples,
        )
        return np.pad(inner, (half, self.hop_samples - half))


def at_content_rate(values: np.ndarray, rate_hz: float, num_content: int) -> np.ndarray:
    """The value at the middle of each content frame, [num_content]; the last one lasts to the end.

    >>> at_content_rate(np.arange(5), 25, 8).tolist()
    [0, 0, 1, 2, 2, 3, 4, 4]

    Args:
        values: [n], one or more.
        rate_hz: values a second.
        num_content: content frames.
    """
    places = np.floor((np.arange(num_content) + 0.5) * rate_hz / CONTENT_RATE_HZ).astype(np.int64)
    found: np.ndarray = values[np.minimum(places, len(values) - 1)]
    return found


def evened(waveform: np.ndarray) -> np.ndarray:
    """A waveform, float32 [num_samples], at the level that voices are trained at; silence stays silent."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return waveform * np.float32(PEAK / peak) if peak > 0 else waveform
