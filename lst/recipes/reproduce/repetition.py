"""What repetition does to data: how much fresh data gives the loss that repeated data gave.

Models of one arm and size that never heard a story twice give loss over D. A repeated model's loss is looked up there.
How its worth decays is summed up by R* of D′ = U + U·R*·(1 − exp(−R/R*)), with U different data heard R + 1 times
(Muennighoff et al. 2023). Intervals are of new losses drawn with the noise of replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize_scalar

from lst.recipes.reproduce.formats import RepeatedRecord, RepetitionRecord
from lst.recipes.scaling.formats import Interval
from lst.recipes.scaling.intervals import percentile_interval

LOSS = "speech_bits"
NUM_SAMPLES = 400
# Places at which a curve of losses is read.
GRID = 400
# R* is looked for between these.
LEAST_DECAY, MOST_DECAY = 1e-2, 1e3
Row = Mapping[str, str | float]


def repetition_records(
    fresh: Sequence[Row], repeated: Sequence[Row], units_a_pass: int, noise: Mapping[str, float], seed: int
) -> list[RepetitionRecord]:
    """A record for each arm.

    Args:
        fresh: rows of models without repetition.
        repeated: rows of models with it.
        units_a_pass: different units that the repeated ones hear.
        noise: standard deviation of log losses by arm.
        seed: of the draws.
    """
    found: list[RepetitionRecord] = []
    for arm in dict.fromkeys(str(row["arm"]) for row in repeated):
        own = sorted((row for row in repeated if row["arm"] == arm), key=lambda row: (row["size"], _number(row, "D")))
        generator = np.random.default_rng([seed, len(found)])
        sd = noise.get(arm, 0.0)
        drawn = [
            _effective(row, [one for one in fresh if (one["arm"], one["size"]) == (arm, row["size"])], sd, generator)
            for row in own
        ]
        models = [_record(row, fresh, samples, units_a_pass) for row, samples in zip(own, drawn, strict=True)]
        found.append(RepetitionRecord(arm=arm, decay=_decay(models, drawn), models=models))
    return found


def _record(row: Row, fresh: Sequence[Row], samples: np.ndarray, units_a_pass: int) -> RepeatedRecord:
    beside = [
        _number(one, LOSS)
        for one in fresh
        if (one["arm"], one["size"]) == (row["arm"], row["size"])
        and 0.95 < _number(one, "D") / _number(row, "D") < 1.05
    ]
    return RepeatedRecord(
        arm=str(row["arm"]),
        size=str(row["size"]),
        D=_number(row, "D"),
        passes=_number(row, "D_units") / units_a_pass,
        loss=_number(row, LOSS),
        fresh_loss=float(np.mean(beside)) if beside else None,
        effective=_interval(samples) if np.isfinite(samples[0]) else None,
    )


def _effective(row: Row, fresh: Sequence[Row], sd: float, generator: np.random.Generator) -> np.ndarray:
    """D of fresh data with the loss of a row: the estimate and draws, NaN outside of what was trained."""
    sizes = np.array([_number(one, "D") for one in fresh])
    if len(np.unique(sizes)) < 2:
        return np.full(NUM_SAMPLES + 1, np.nan)
    log_d, cells, counts = np.unique(np.log(sizes), return_inverse=True, return_counts=True)
    means = np.bincount(cells, np.log([_number(one, LOSS) for one in fresh])) / counts
    noise = sd * generator.standard_normal((NUM_SAMPLES + 1, len(means) + 1))
    noise[0] = 0.0
    found, grid = np.empty(NUM_SAMPLES + 1), np.linspace(log_d[0], log_d[-1], GRID)
    for draw, errors in enumerate(noise):
        # Losses fall with D; where noise says otherwise, the least so far stands.
        losses = np.minimum.accumulate(means + errors[:-1] / np.sqrt(counts))
        wanted = np.log(_number(row, LOSS)) + errors[-1]
        # A curve without bends: lines between the points would lie above it.
        curve = PchipInterpolator(log_d, losses)(grid)
        found[draw] = np.interp(-wanted, -curve, grid, left=np.nan, right=np.nan)
    return np.exp(found)


def _decay(models: Sequence[RepeatedRecord], drawn: Sequence[np.ndarray]) -> Interval | None:
    """R* of the models that repeat, in each draw."""
    places = [n for n, model in enumerate(models) if model["passes"] > 1 and model["effective"] is not None]
    if len(places) < 2:
        return None
    passes = np.array([models[place]["passes"] for place in places])
    ratios = np.array([drawn[place] / models[place]["D"] for place in places])
    fitted = np.array([_fit_decay(passes, ratios[:, draw]) for draw in range(ratios.shape[1])])
    return percentile_interval(float(fitted[0]), fitted[1:]) if np.isfinite(fitted[0]) else None


def _fit_decay(passes: np.ndarray, ratios: np.ndarray) -> float:
    known = np.isfinite(ratios)
    if known.sum() < 2:
        return np.nan
    repeats, logs = passes[known] - 1, np.log(ratios[known])

    def error(log_decay: float) -> float:
        decay = np.exp(log_decay)
        return float(((np.log((1 - decay * np.expm1(-repeats / decay)) / passes[known]) - logs) ** 2).sum())

    found = minimize_scalar(error, bounds=np.log([LEAST_DECAY, MOST_DECAY]), method="bounded")
    return float(np.exp(found.x))


def _interval(samples: np.ndarray) -> Interval:
    """Draws outside of what was trained leave a side open."""
    others = samples[1:]
    if np.isfinite(others).all():
        return percentile_interval(float(samples[0]), others)
    return Interval(value=float(samples[0]), low=None, high=None)


def _number(row: Row, name: str) -> float:
    return float(row[name])
