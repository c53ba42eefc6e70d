"""Pauses in speech, found by a voice-activity detector in a waveform.

::

    data.vad    silero: a small neural network (the extra vad); energy: levels alone; auto: silero where it is installed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from lst.lazy import import_or_explain

RATE_HZ = 16_000
# Shorter pauses are closures of stops.
MIN_PAUSE_S = 0.12
LONGEST_RUN_S = 15.0
# Pauses that are no part of a piece, and how much of them each neighbour keeps.
LONG_PAUSE_S, MARGIN_S = 1.8, 0.4
_FRAME_S, _SILERO_SAMPLES = 0.01, 512
# Levels are judged within such stretches, as speakers and noise change.
_STRETCH_S = 30.0
# Of the way from the quietest to the loudest frames, or from so much below these: what is below it is a pause.
_PAUSE_LEVEL, _WIDEST_RANGE_DB = 0.3, 40.0
# Where loud and quiet are nearer to one another, there is no speech.
_LEAST_RANGE_DB = 10.0
_QUIETEST_DB = -80.0
_SPEECH_PROBABILITY = 0.35


def detector_of(vad: str) -> str:
    """The detector that ``data.vad`` names: ``auto`` is silero where it is installed, else energy."""
    if vad != "auto":
        return vad
    return "energy" if find_spec("silero_vad") is None else "silero"


def find_pauses(waveform: np.ndarray, detector: str) -> list[tuple[float, float]]:
    """Pauses of at least ``MIN_PAUSE_S``, as (start, end) in seconds, in order.

    Where there is none for ``LONGEST_RUN_S``, the quietest place stands for one, so that any audio can be cut.

    Args:
        waveform: float32 [num_samples], mono, 16 kHz.
        detector: ``silero`` or ``energy``.

    Raises:
        UserError: silero is asked for, and its package is missing.

    >>> sound = np.sin(np.arange(16_000) * 0.3).astype(np.float32)
    >>> find_pauses(np.concatenate([sound, np.zeros(8_000, np.float32), sound]), "energy")
    [(1.0, 1.5)]
    """
    is_speech, frame_s = _silero(waveform) if detector == "silero" else _loud_frames(waveform)
    # The ends of the waveform are no part of a pause: each edge counts as speech.
    bounds = np.flatnonzero(np.diff(np.concatenate([[1], is_speech, [1]]).astype(np.int8)))
    duration_s = len(waveform) / RATE_HZ
    found: list[tuple[float, float]] = []
    for first, last in bounds.reshape(-1, 2).tolist():
        start_s, end_s = round(first * frame_s, 3), round(min(last * frame_s, duration_s), 3)
        if end_s - start_s >= MIN_PAUSE_S:
            found.append((start_s, end_s))
    return sorted([*found, *_quietest_places(waveform, found)])


def stretches(
    pauses: Sequence[tuple[float, float]], duration_s: float, longest_s: float
) -> Iterator[tuple[float, float]]:
    """Cuts a recording at pauses into stretches with speech, of at most ``longest_s`` seconds.

    Long pauses are left out, but for ``MARGIN_S`` at each side. Of the pauses within reach, the longest one is cut.

    >>> list(stretches([(0.0, 3.0), (7.0, 7.2), (9.0, 9.4)], 14.0, 9.0))
    [(2.6, 9.2), (9.2, 14.0)]
    """
    longs = [(first_s, last_s) for first_s, last_s in pauses if last_s - first_s > LONG_PAUSE_S]
    starts = [0.0, *(last_s - MARGIN_S for _, last_s in longs)]
    ends = [*(first_s + MARGIN_S for first_s, _ in longs), duration_s]
    for start_s, end_s in zip(starts, ends, strict=True):
        inside = [((first_s + last_s) / 2, last_s - first_s) for first_s, last_s in pauses]
        while end_s - start_s > longest_s:
            near = [(length_s, at_s) for at_s, length_s in inside if longest_s / 3 <= at_s - start_s <= longest_s]
            cut_s = max(near)[1] if near else start_s + longest_s
            yield start_s, cut_s
            start_s = cut_s
        if end_s - start_s > 2 * MARGIN_S:
            yield start_s, end_s


def _quietest_places(waveform: np.ndarray, pauses: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Places to cut between pauses that are far from one another."""
    levels = frame_levels(waveform)
    size = round(MIN_PAUSE_S / _FRAME_S)
    start_s = 0.0
    for first_s, last_s in [*pauses, (len(waveform) / RATE_HZ, 0.0)]:
        while first_s - start_s > LONGEST_RUN_S:
            reach = levels[
                round((start_s + LONGEST_RUN_S / 2) / _FRAME_S) : round((start_s + LONGEST_RUN_S) / _FRAME_S)
            ]
            means = np.convolve(reach, np.full(size, 1 / size), "valid")
            place_s = start_s + LONGEST_RUN_S / 2 + int(means.argmin()) * _FRAME_S
            yield round(place_s, 3), round(place_s + MIN_PAUSE_S, 3)
            start_s = place_s + MIN_PAUSE_S
        start_s = last_s


def frame_levels(waveform: np.ndarray) -> np.ndarray:
    """Level of each whole frame of 10 ms in dB of full scale, float32 [num_frames]."""
    size = round(_FRAME_S * RATE_HZ)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = np.einsum("fs,fs->f", frames, frames) / size - np.square(frames.mean(axis=1))
    return np.maximum(10 * np.log10(np.maximum(power, 1e-12)), _QUIETEST_DB).astype(np.float32)


def _loud_frames(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Whether each frame of 10 ms is speech by its level, and the length of a frame."""
    levels = frame_levels(waveform)
    is_speech = np.zeros(len(levels), bool)
    size = round(_STRETCH_S / _FRAME_S)
    for start in range(0, len(levels), size):
        # The last stretch is as long as the others, so that a short rest has its neighbours' limit.
        stretch = levels[max(0, min(start, len(levels) - size)) : start + size]
        quiet, loud = np.percentile(stretch, [5, 95])
        if loud - quiet >= _LEAST_RANGE_DB:
            quiet = max(quiet, loud - _WIDEST_RANGE_DB)
            is_speech[start : start + size] = levels[start : start + size] > quiet + _PAUSE_LEVEL * (loud - quiet)
    return is_speech, _FRAME_S


def _silero(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Whether each frame of 32 ms is speech by silero's model, and the length of a frame."""
    import torch

    model = load_silero()
    model.reset_states()
    num_frames = len(waveform) // _SILERO_SAMPLES
    sound = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))
    with torch.inference_mode():
        found = [
            float(model(sound[frame * _SILERO_SAMPLES : (frame + 1) * _SILERO_SAMPLES], RATE_HZ))
            for frame in range(num_frames)
        ]
    return np.array(found) > _SPEECH_PROBABILITY, _SILERO_SAMPLES / RATE_HZ


@lru_cache(maxsize=1)
def load_silero() -> Any:
    """silero's model, loaded once a process; raises ``UserError`` where its package is missing."""
    import torch

    num_threads = torch.get_num_threads()
    silero = import_or_explain("silero_vad", "data.vad=silero", "pip install 'latent-speech-text[vad]'")
    model = silero.load_silero_vad()
    # The package sets one thread for the whole process.
    torch.set_num_threads(num_threads)
    return model
