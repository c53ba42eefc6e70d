"""What every vocoder can do, EnCodec's decoder as one of them, and the level of finished sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from lst.tokenizers.neural_codec import CodecTokenizer

LEVEL_DB, PEAK, FADE_S = -23.0, 0.95, 0.01
# A jump between neighbouring samples that speech at this level does not make.
CLICK = 0.5


class Vocoder(Protocol):
    """Makes sound of speech units."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""

    def sound(self, units: np.ndarray, is_deduplicated: bool = False) -> np.ndarray:
        """The sound of units, float32 [num_samples], mono, at the level of ``finished``; empty for no unit.

        Args:
            units: int [n].
            is_deduplicated: each run of equal units is one unit, which then lasts as long as it does on average.
        """


@dataclass(frozen=True)
class CodecVocoder:
    """EnCodec's decoder. A frame that a continuation has begun and not ended is left out."""

    codec: CodecTokenizer
    name = "EnCodec's decoder"
    sample_rate_hz = CodecTokenizer.sample_rate_hz

    def sound(self, units: np.ndarray, is_deduplicated: bool = False) -> np.ndarray:
        """See ``Vocoder``; units of a codec are never deduplicated."""
        whole = len(units) // self.codec.units_a_frame * self.codec.units_a_frame
        return finished(self.codec.decode(units[:whole]), self.sample_rate_hz) if whole else np.zeros(0, np.float32)


def finished(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Sound at −23 dB of full scale (root mean square) or less, its peak at 0.95 or less, faded in and out over 10 ms.

    >>> sound = finished(np.sin(np.arange(16_000)), 16_000)
    >>> round(20 * float(np.log10(np.sqrt(np.mean(sound**2))))), abs(float(sound[0])), abs(float(sound[-1]))
    (-23, 0.0, 0.0)

    Args:
        samples: float [num_samples], mono.
        sample_rate_hz: samples a second.
    """
    sound = (samples - np.mean(samples)).astype(np.float32)
    num_faded = min(round(FADE_S * sample_rate_hz), len(sound) // 2)
    ramp = np.sin(0.5 * np.pi * np.arange(num_faded) / max(num_faded, 1)).astype(np.float32) ** 2
    sound[:num_faded] *= ramp
    sound[len(sound) - num_faded :] *= ramp[::-1]
    level, peak = float(np.sqrt(np.mean(sound**2))), float(np.abs(sound).max())
    gain = min(10 ** (LEVEL_DB / 20) / level, PEAK / peak) if peak > 0 else 1.0
    return sound * np.float32(gain)


class SoundFigures(NamedTuple):
    """What can be said of a sound without listening.

    Attributes:
        level_db: root mean square, in dB of full scale; −inf for silence.
        peak: largest magnitude.
        num_clicks: jumps of more than ``CLICK`` from one sample to the next, and from silence at both ends.
    """

    level_db: float
    peak: float
    num_clicks: int

    def __str__(self) -> str:
        clicks = "no click" if not self.num_clicks else f"{self.num_clicks} clicks"
        return f"{self.level_db:.0f} dB, peak {self.peak:.2f}, {clicks}"


def figures_of(samples: np.ndarray) -> SoundFigures:
    """Level, peak and clicks of a sound, float32 [num_samples].

    >>> sound = finished(np.sin(np.arange(16_000) / 9), 16_000)
    >>> str(figures_of(sound)), figures_of(np.append(sound, 0.9)).num_clicks
    ('-23 dB, peak 0.10, no click', 2)
    """
    level, peak = float(np.sqrt(np.mean(samples**2))), float(np.abs(samples).max())
    jumps = np.abs(np.diff(samples, prepend=0.0, append=0.0))
    return SoundFigures(20 * float(np.log10(level)) if level > 0 else -np.inf, peak, int((jumps > CLICK).sum()))
