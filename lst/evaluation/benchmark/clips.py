"""Checks of spoken clips: duration a letter, level, clipping."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lst.evaluation.sounds import level_db
from lst.tokenizers.units import SAMPLE_RATE_HZ

# Bounds of the duration: seconds a letter, and what pauses at both ends may add.
LEAST_S_A_LETTER, MOST_S_A_LETTER, PAUSES_S = 0.03, 0.2, 1.0
LOWEST_DB, CLIPPED, MOST_CLIPPED_SHARE = -45.0, 0.999, 0.0005


class Measures(NamedTuple):
    """Of a clip: duration, level in dB of full scale, largest magnitude; its fault is empty where it is sound."""

    duration_s: float
    level_db: float
    peak: float
    fault: str


def measure_clip(waveform: np.ndarray, text: str) -> Measures:
    """Measures and judges a clip.

    Args:
        waveform: float32 [num_samples] at 16 kHz.
        text: what it says; without a letter, the duration is not judged.
    """
    duration_s, level = len(waveform) / SAMPLE_RATE_HZ, level_db(waveform) if len(waveform) else float("-inf")
    magnitudes = np.abs(waveform)
    num_letters = max(1, sum(map(str.isalpha, text)))
    clipped = float(np.mean(magnitudes >= CLIPPED)) if len(waveform) else 0.0
    faults = []
    least_s, most_s = LEAST_S_A_LETTER * num_letters, MOST_S_A_LETTER * num_letters + PAUSES_S
    is_known = any(map(str.isalpha, text))
    if is_known and not least_s <= duration_s <= most_s:
        faults.append(f"{duration_s:.2f} s for {num_letters} letters: {least_s:.2f} to {most_s:.2f} s are usual")
    if level < LOWEST_DB:
        faults.append(f"its level is {level:.0f} dB, below {LOWEST_DB:.0f} dB")
    if clipped > MOST_CLIPPED_SHARE:
        faults.append(f"{clipped:.2%} of its samples are clipped, {MOST_CLIPPED_SHARE:.2%} are allowed")
    return Measures(
        round(duration_s, 3),
        round(max(level, -100.0), 2),
        round(float(magnitudes.max(initial=0.0)), 4),
        "; ".join(faults),
    )
