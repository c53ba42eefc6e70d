"""Measures the decoded samples of a recording: level, offset, clipping, channels. A header tells none of these."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lst.data.audio.header import AudioInfo, probe_audio
from lst.data.audio.places import AudioPlace
from lst.data.audio.read import read_own_samples

MAX_PEAK, MAX_LOSSY_PEAK = 1.001, 1.5  # MP3, Vorbis and Opus overshoot what was encoded
MIN_PEAK, MIN_RMS = 1e-3, 1e-4  # −60 dB of full scale; −80 dB is the noise of 14 bits
MAX_OFFSET = 0.05
MAX_CLIPPED_SHARE, MIN_CLIPPED_RUN = 2e-3, 3
OPPOSITE_RATIO = 10.0  # how much louder channels must be than their mean
MAX_FLAT_PEAK = 0.02  # below it, quantised noise has flat tops of its own


class AudioLevels(NamedTuple):
    """What was measured of an utterance's audio, in full scale ±1.

    Attributes:
        peak: largest absolute sample of any channel.
        rms: of what is used: one channel, or the mean of all.
        offset: mean of what is used.
        clipped_share: share of its samples in flat tops.
        loudest_rms: of the loudest channel.
        num_channels: channels that are averaged.
        digest: 16 bytes, a hash of the samples that are used.
    """

    peak: float
    rms: float
    offset: float
    clipped_share: float
    loudest_rms: float
    num_channels: int
    digest: bytes


def measure_audio(row: AudioPlace) -> AudioLevels:
    """Decodes an utterance's audio at its own rate and measures it.

    Raises:
        UserError: as ``read_row_audio``, but for what resampling needs.
    """
    samples = read_own_samples(row)
    if row.channel is not None:
        samples = samples[:, row.channel : row.channel + 1]
    used = samples.mean(axis=1, dtype=np.float32)
    powers = np.square(samples, dtype=np.float64).mean(axis=0)
    return AudioLevels(
        peak=float(np.abs(samples).max()),
        rms=float(np.sqrt(np.square(used, dtype=np.float64).mean())),
        offset=float(used.mean(dtype=np.float64)),
        clipped_share=_clipped_share(used),
        loudest_rms=float(np.sqrt(powers.max())),
        num_channels=samples.shape[1],
        digest=hashlib.blake2b(used.tobytes(), digest_size=16).digest(),
    )


def _clipped_share(samples: npt.NDArray[np.float32]) -> float:
    """Share of samples in runs of at least ``MIN_CLIPPED_RUN`` at the highest or at the lowest value."""
    num_clipped = 0
    for extreme in (samples.max(), samples.min()):
        if abs(extreme) > MAX_FLAT_PEAK:
            is_extreme = np.concatenate([[False], samples == extreme, [False]])
            starts, ends = np.flatnonzero(np.diff(is_extreme.astype(np.int8))).reshape(-1, 2).T
            lengths = ends - starts
            num_clipped += int(lengths[lengths >= MIN_CLIPPED_RUN].sum())
    return num_clipped / len(samples)


def level_faults(levels: AudioLevels, info: AudioInfo) -> list[str]:
    """What is wrong with an utterance's level, offset and channels.

    >>> quiet = AudioLevels(0.5, 0.0, 0.0, 0.0, 0.1, 2, b"")
    >>> level_faults(quiet, AudioInfo(16000, 16000, 2, "WAV", "PCM_16"))[0][:30]
    'its channels are opposite: the'
    """
    if levels.num_channels > 1 and levels.loudest_rms > MIN_RMS and levels.loudest_rms > OPPOSITE_RATIO * levels.rms:
        return [
            "its channels are opposite: their mean, which is used, is "
            f"{levels.loudest_rms / max(levels.rms, 1e-9):,.0f} times as quiet as they are. Name one with channel=0"
        ]
    limit = MAX_LOSSY_PEAK if info.format in ("MP3", "OGG", "MPEG") else MAX_PEAK
    faults = []
    if levels.peak > limit:
        scale = ": its floats may be integers, to be divided by 32768" if levels.peak > 100 else ""
        faults.append(f"its peak is {levels.peak:,.3g}, full scale is 1{scale}")
    if levels.peak == 0:
        return ["is digital silence: all samples are 0"]
    if levels.peak < MIN_PEAK or levels.rms < MIN_RMS:
        faults.append(
            f"is silent or mis-scaled: its peak is {_decibels(levels.peak)} dB of full scale, its mean level "
            f"{_decibels(levels.rms)} dB"
        )
    if abs(levels.offset) > MAX_OFFSET * max(1.0, levels.peak):
        faults.append(f"has an offset: its samples are {levels.offset:+.3f} on average, not 0")
    if levels.clipped_share > MAX_CLIPPED_SHARE:
        faults.append(f"is clipped: {levels.clipped_share:.1%} of its samples are in flat tops")
    return faults


def _decibels(value: float) -> str:
    return f"{20 * np.log10(max(value, 1e-10)):.0f}"


def measured_faults(row: AudioPlace) -> tuple[AudioLevels, list[str]]:
    """The levels of an utterance's audio, and what is wrong with them; raises ``UserError`` if it cannot be decoded."""
    levels = measure_audio(row)
    return levels, level_faults(levels, probe_audio(row.path, row.member))
