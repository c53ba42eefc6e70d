"""MFCC and log-mel features at the frame rate of the units, and resampling.

The features of an utterance depend on that utterance alone, not on its batch.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

from lst.errors import UserError
from lst.lazy import import_torchaudio

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
NUM_CEPSTRA = 13
NUM_FEATURES = 3 * NUM_CEPSTRA
NUM_MELS = 80
# Upper bound of the weights in a resampler's filter bank: 200 MB of float32.
MAX_RESAMPLE_KERNEL = 50_000_000


def num_units_in(num_samples: int, frame_rate_hz: int = 25) -> int:
    """Number of frames of ``num_samples`` samples at 16 kHz, rounded up.

    >>> num_units_in(16_001, frame_rate_hz=25)
    26
    """
    return -(-num_samples * frame_rate_hz // SAMPLE_RATE_HZ)


def at_rate(waveform: np.ndarray, sample_rate_hz: int, wanted_hz: int) -> np.ndarray:
    """Checks a waveform and resamples it.

    Args:
        waveform: float [num_samples], mono.
        sample_rate_hz: its own rate.
        wanted_hz: the wanted rate.

    Returns:
        float32 [ceil(num_samples · wanted_hz / sample_rate_hz)].

    Raises:
        UserError: the waveform is not mono or is empty, or the common divisor of the rates is too small.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise UserError(f"a waveform must be mono and not empty; its shape is {waveform.shape}")
    samples = np.ascontiguousarray(waveform, dtype=np.float32)
    if sample_rate_hz == wanted_hz:
        return samples
    divisor = math.gcd(sample_rate_hz, wanted_hz) if sample_rate_hz > 0 else 0
    if divisor == 0 or (sample_rate_hz // divisor) * (wanted_hz // divisor) > MAX_RESAMPLE_KERNEL:
        raise UserError(
            f"audio at {sample_rate_hz} Hz cannot be resampled to {wanted_hz} Hz here (their common divisor is "
            f"{divisor}): convert it first, for example with ffmpeg -i FILE -ar {wanted_hz} out.wav"
        )
    resample = import_torchaudio().functional.resample
    resampled: np.ndarray = resample(torch.from_numpy(samples), sample_rate_hz, wanted_hz).numpy()
    return resampled


@functools.lru_cache(maxsize=1)
def _mfcc_transform() -> Any:
    return import_torchaudio().transforms.MFCC(
        sample_rate=SAMPLE_RATE_HZ,
        n_mfcc=NUM_CEPSTRA,
        log_mels=True,
        melkwargs={
            "n_fft": WINDOW_SAMPLES,
            "hop_length": HOP_SAMPLES,
            "n_mels": 40,
            # Reflection needs more samples than half a window; padding with zeros does not.
            "pad_mode": "constant",
        },
    )


@functools.lru_cache(maxsize=1)
def _mel_transform() -> Any:
    return import_torchaudio().transforms.MelSpectrogram(
        sample_rate=SAMPLE_RATE_HZ,
        n_fft=WINDOW_SAMPLES,
        hop_length=HOP_SAMPLES,
        n_mels=NUM_MELS,
        pad_mode="constant",
        norm="slaney",
        mel_scale="slaney",
    )


def mfcc_features(waveform: np.ndarray, frame_rate_hz: int = 25) -> np.ndarray:
    """MFCC with first and second differences, averaged down to ``frame_rate_hz``.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz.
        frame_rate_hz: frames a second; must divide 100.

    Returns:
        float32 [num_frames, 39], cepstral mean of the utterance removed, num_frames = ceil(num_samples / hop).
    """
    samples = at_rate(waveform, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    functional = import_torchaudio().functional
    with torch.inference_mode():
        cepstra = _mfcc_transform()(torch.from_numpy(samples))
        cepstra = cepstra - cepstra.mean(dim=1, keepdim=True)
        deltas = functional.compute_deltas(cepstra)
        features = torch.cat([cepstra, deltas, functional.compute_deltas(deltas)]).T
        return _averaged(features, samples.size, frame_rate_hz)


def log_mel_features(waveform: np.ndarray, frame_rate_hz: int = 25) -> np.ndarray:
    """Natural logarithm of 80 mel bands, averaged down to ``frame_rate_hz``, without any normalization.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz.
        frame_rate_hz: frames a second; must divide 100.

    Returns:
        float32 [num_frames, 80], num_frames = ceil(num_samples / hop).
    """
    samples = at_rate(waveform, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    with torch.inference_mode():
        features = _mel_transform()(torch.from_numpy(samples)).clamp(min=1e-6).log().T
        return _averaged(features, samples.size, frame_rate_hz)


def _averaged(features: torch.Tensor, num_samples: int, frame_rate_hz: int) -> np.ndarray:
    """Means over the 10 ms frames of each unit's frame; the last 10 ms frame is repeated to fill the last group."""
    num_frames = num_units_in(num_samples, frame_rate_hz)
    group = SAMPLE_RATE_HZ // HOP_SAMPLES // frame_rate_hz
    missing = num_frames * group - features.shape[0]
    if missing > 0:
        features = torch.cat([features, features[-1:].expand(missing, -1)])
    features = features[: num_frames * group]
    averaged: np.ndarray = features.reshape(num_frames, group, features.shape[1]).mean(dim=1).numpy()
    return averaged
