"""What a conversion is measured by, and the easiest one: a swap of means and spreads."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeClassifier


def swapped(mel: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A mel with the mean and the spread that each bin has in a reference, float32 [80, T]."""
    mean, spread = mel.mean(axis=1, keepdims=True), mel.std(axis=1, keepdims=True) + 1e-5
    found: np.ndarray = (mel - mean) / spread * reference.std(axis=1, keepdims=True) + reference.mean(
        axis=1, keepdims=True
    )
    return found.astype(np.float32)


def path_distance(mel: np.ndarray, other: np.ndarray) -> float:
    """Mean magnitude of the difference of two mels, [80, T] and [80, U], along the best path in time."""
    costs = cdist(mel.T, other.T, "cityblock") / mel.shape[0]
    totals = np.full(len(other.T) + 1, np.inf)
    lengths = np.zeros(len(totals))
    totals[0] = 0.0
    for row in costs:
        left, left_length = np.inf, 0.0
        above, above_lengths = totals.copy(), lengths.copy()
        totals[0] = np.inf
        for place, cost in enumerate(row, start=1):
            # A step in both at once, in this one, in the other one.
            best, length = min(
                (above[place - 1], above_lengths[place - 1]), (above[place], above_lengths[place]), (left, left_length)
            )
            left, left_length = best + cost, length + 1
            totals[place], lengths[place] = left, left_length
    return float(totals[-1] / lengths[-1])


def probe_accuracy(contents: np.ndarray, voices: list[str]) -> float:
    """Share of the rows, [n, dim], whose voice a linear probe finds that was fitted to all others."""
    right = 0
    for row in range(len(voices)):
        rest = np.arange(len(voices)) != row
        names = np.array(voices)[rest]
        if len(set(names)) > 1:
            probe = RidgeClassifier().fit(contents[rest], names)
            right += probe.predict(contents[row : row + 1])[0] == voices[row]
    return right / len(voices)
