"""Voices of random weights, for all but how they sound; and speech that is a hum."""

from __future__ import annotations

import numpy as np
import torch

from lst.voice.config import VoiceModelConfig
from lst.voice.model import VoiceModel
from lst.voice.saved import STYLE_VOICE_FORMAT, SavedVoice, sizes_of

TINY = VoiceModelConfig(16_000, 16, 16, 8, 4, 8, 16)
NUM_UNITS = 11
# The words of a training of a tiny voice.
TINY_WORDS = [f"model.{name}={value}" for name, value in sizes_of(TINY).items()]


def hum(duration_s: float, sample_rate_hz: int = 16_000, pitch_hz: float = 150.0) -> np.ndarray:
    """A buzz whose loudness changes, float32 [num_samples]."""
    times_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * times_s) / k for k in range(1, 8))
    return (0.2 * buzz * np.abs(np.sin(3 * times_s))).astype(np.float32)


def random_voice(units_sha256: str = "0" * 64, num_units: int = NUM_UNITS, **described: object) -> SavedVoice:
    """A voice of random weights; ``described`` replaces parts of its description."""
    model = VoiceModel(TINY, 3, num_units).eval().requires_grad_(False)
    description = {
        "format": STYLE_VOICE_FORMAT,
        "name": "tiny",
        "model": sizes_of(TINY),
        "phones": ["SIL", "AA", "B"],
        "num_units": num_units,
        "unit_rate_hz": 25,
        "units_sha256": units_sha256,
        "has_student": True,
        "has_units": True,
        "num_speakers": 2,
        "duration_s": 60.0,
        **described,
    }
    return SavedVoice(model, description, torch.zeros(TINY.style_dim))  # type: ignore[arg-type]
