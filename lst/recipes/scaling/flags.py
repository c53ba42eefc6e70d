"""Warnings of a fitted law: what the points cannot determine, and what speaks against the law."""

from __future__ import annotations

import numpy as np

from lst.recipes.scaling.formats import Interval, NoiseRecord
from lst.recipes.scaling.law import PARAMETERS, Law
from lst.recipes.scaling.surface import NUM_PARAMETERS

MIN_VALUES, MIN_RANGE, MAX_CORRELATION = 3, 10.0, 0.95
# A second optimum this near the best, relative, is worth a word.
NEAR_OPTIMUM = 0.05
MIN_LACK_OF_FIT_P = 0.01


def flags_of(law: Law, intervals: dict[str, Interval], noise: NoiseRecord) -> list[str]:
    """All warnings, a line each."""
    return [*_of_points(law), *_of_search(law), *_of_intervals(law, intervals), *_of_noise(noise)]


def _of_points(law: Law) -> list[str]:
    points, flags = law.points, []
    for name, exponent, values in (
        ("N", "alpha", points.num_parameters),
        ("D", "beta", points.num_tokens),
    ):
        num_values, reach = len(np.unique(values)), float(values.max() / values.min())
        if num_values < MIN_VALUES:
            flags.append(
                f"{name} has {num_values} different value{'s' * (num_values != 1)}: they do not determine {exponent} "
                f"and its amplitude; {MIN_VALUES} or more do"
            )
        elif reach < MIN_RANGE:
            flags.append(f"{name} varies by a factor of {reach:.3g} only: {exponent} is hard to tell from E")
    n, d, _ = points.logs
    if np.ptp(n) and np.ptp(d) and abs(float(np.corrcoef(n, d)[0, 1])) > MAX_CORRELATION:
        flags.append("N and D grow together: their terms cannot be told apart; train sizes on different D")
    rows = np.stack([points.num_parameters, points.num_tokens, points.losses], 1)
    if num_same := len(rows) - len(np.unique(rows, axis=0)):
        flags.append(f"{num_same} point{'s are' if num_same > 1 else ' is'} there twice, with the same loss")
    return flags


def _of_search(law: Law) -> list[str]:
    flags = []
    if not law.optima[0]["is_converged"]:
        flags.append("the search ended before its gradient was within the tolerance")
    if len(law.optima) > 1 and law.optima[1]["objective"] <= law.objective * (1 + NEAR_OPTIMUM):
        second = ", ".join(f"{name} {law.optima[1][name]:.4g}" for name in PARAMETERS)  # type: ignore[literal-required]
        flags.append(f"another optimum is nearly as good: {second}")
    return flags


def _of_intervals(law: Law, intervals: dict[str, Interval]) -> list[str]:
    if len(law.points) <= NUM_PARAMETERS:
        return [
            f"{len(law.points)} points are as many as parameters: nothing is left to tell the noise, so no intervals"
        ]
    flags = []
    for name in PARAMETERS:
        found = intervals[name]
        low, high, value = found["low"], found["high"], found["value"]
        open_sides = [side for side, limit in (("lower", low), ("upper", high)) if limit is None]
        if open_sides:
            flags.append(f"{name} is not determined: the points set no {' and no '.join(open_sides)} limit")
        elif name == "E" and low == 0:
            flags.append("E is not determined from below: zero is not excluded")
        elif low is not None and high is not None and name in ("alpha", "beta") and high - low > value:
            flags.append(f"{name} is hardly determined: its interval is wider than its value")
    return flags


def _of_noise(noise: NoiseRecord) -> list[str]:
    p = noise["lack_of_fit_p"]
    if p is None or p >= MIN_LACK_OF_FIT_P:
        return []
    return [f"the law does not hold within the noise of replicates (p = {p:.2g}): intervals are of the residuals"]
