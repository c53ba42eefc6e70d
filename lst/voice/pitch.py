"""Pitch, voicing and loudness of speech: what the decoder is told beside content and style.

Pitch is found by WORLD's Dio with StoneMask (Morise et al., 2016), through the package pyworld.
"""

from __future__ import annotations

import numpy as np
import torch

from lst.lazy import import_or_explain
from lst.voice.mel import FRAME_RATE_HZ

FLOOR_HZ, CEILING_HZ = 60.0, 500.0
# Logarithms of pitch are about 0 ± 1 after these.
LOG_PITCH_MIDDLE, LOG_PITCH_SPREAD = 5.1, 0.35
# Least spread of the pitch of an utterance, so that a hum is not blown up.
_LEAST_SPREAD = 0.05
NUM_PROSODY = 3


def pitch_of(waveform: np.ndarray, sample_rate_hz: int, num_frames: int) -> np.ndarray:
    """Pitch in Hz at the middle of each mel frame, float32 [num_frames]; 0 where there is no voice.

    Args:
        waveform: float32 [num_samples].
        sample_rate_hz: samples a second.
        num_frames: mel frames of the waveform.

    Raises:
        UserError: pyworld is not installed.
    """
    pyworld = import_or_explain("pyworld", "pitch", "pip install 'latent-speech-text[voice]'")
    samples = waveform.astype(np.float64)
    # Twice as often as mel frames: every other time is the middle of one.
    coarse, times = pyworld.dio(
        samples, sample_rate_hz, f0_floor=FLOOR_HZ, f0_ceil=CEILING_HZ, frame_period=500 / FRAME_RATE_HZ
    )
    fine = pyworld.stonemask(samples, coarse, times, sample_rate_hz)[1::2]
    found = np.zeros(num_frames, np.float32)
    found[: len(fine)] = fine[:num_frames]
    return found


def standard_pitch(pitch_hz: np.ndarray) -> np.ndarray:
    """Logarithm of pitch, float32 of the same shape, about 0 ± 1 over all speakers; 0 where there is no voice."""
    logs = np.log(np.maximum(pitch_hz, 1.0))
    scaled = (logs - LOG_PITCH_MIDDLE) / LOG_PITCH_SPREAD
    return np.where(pitch_hz > 0, scaled, 0.0).astype(np.float32)


def loudness(mel: torch.Tensor) -> torch.Tensor:
    """Mean of the bins of a mel, [..., num_frames] of [..., 80, num_frames]."""
    return mel.mean(dim=-2)


def prosody_of(mel: np.ndarray, pitch_hz: np.ndarray) -> np.ndarray:
    """What a decoder is told, float32 [3, num_frames]: pitch, whether there is a voice, loudness.

    Pitch has mean 0 and spread 1 over the utterance, and loudness mean 0, so that they say little of the speaker.

    Args:
        mel: float32 [80, num_frames].
        pitch_hz: float32 [num_frames], of ``pitch_of``.
    """
    is_voiced = pitch_hz > 0
    logs = np.log(np.maximum(pitch_hz, 1.0))
    pitch = np.zeros_like(logs)
    if is_voiced.any():
        spread = max(float(logs[is_voiced].std()), _LEAST_SPREAD)
        pitch[is_voiced] = np.clip((logs[is_voiced] - logs[is_voiced].mean()) / spread, -3.0, 3.0)
    level = mel.mean(axis=0)
    return np.stack([pitch, is_voiced, level - level.mean()]).astype(np.float32)
