"""Accuracy as a function of bits: from chance, along a logistic curve, to a ceiling, as the bits fall.

The bits are those of the modality that is chosen: of text for S→T and T→T, of speech for S→S and T→S. The onset is
where the curve has left chance by a tenth of its way to the ceiling: there a model begins to choose by content.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import least_squares

from lst.recipes.scaling.formats import AccuracyPoint, AccuracyRecord, Interval
from lst.recipes.scaling.intervals import percentile_interval
from lst.recipes.scaling.points import Points

CHANCE, MIN_POINTS, MAX_SAMPLES = 0.5, 5, 200
ONSET_SHARE = 0.1
# Standard errors by which the best models must differ from chance.
MIN_EVIDENCE_SES = 2.0


def accuracy_records(points: Points, flops: np.ndarray, num_samples: int, seed: int) -> list[AccuracyRecord]:
    """A record for each column ``accuracy/DIRECTION/STRATUM``.

    Args:
        points: the table.
        flops: [P], of its rows.
        num_samples: of the bootstrap, 200 at most.
        seed: of its draws.
    """
    records = []
    for column in sorted(name for name in points.numbers if name.startswith("accuracy/")):
        _, direction, stratum = column.split("/")
        bits_column = _bits_column(points, direction)
        accuracy, bits = points.numbers[column], points.numbers[bits_column]
        rows = np.flatnonzero(np.isfinite(accuracy) & np.isfinite(bits))
        rows = rows[np.lexsort((accuracy[rows], bits[rows]))]
        if not len(rows):
            continue
        items = _column(points, f"items/{direction}/{stratum}", math.nan)[rows]
        # Counts of some models only cannot weigh them against the others.
        items = items if np.isfinite(items).all() else np.full(len(rows), math.nan)
        chance = float(np.median(_column(points, f"chance/{direction}/{stratum}", CHANCE)[rows]))
        curve = _curve(bits[rows], accuracy[rows], items, chance, min(num_samples, MAX_SAMPLES), seed)
        named = [
            AccuracyPoint(
                arm=points.names["arm"][row],
                bits=float(bits[row]),
                accuracy=float(accuracy[row]),
                flops=float(flops[row]),
            )
            for row in rows
        ]
        records.append(
            AccuracyRecord(
                direction=direction,
                stratum=stratum,
                bits=bits_column,
                chance=chance,
                ceiling=curve.get("ceiling"),
                middle=curve.get("middle"),
                width=curve.get("width"),
                onset=curve.get("onset"),
                flags=_flags(bits[rows], accuracy[rows], items, chance, curve),
                points=named,
            )
        )
    return records


def accuracy_at(record: AccuracyRecord, bits: np.ndarray) -> np.ndarray | None:
    """The curve of a record; None where it has none."""
    ceiling, middle, width = record["ceiling"], record["middle"], record["width"]
    if ceiling is None or middle is None or width is None:
        return None
    parameters = np.array([ceiling["value"], middle["value"], width["value"]])
    return _logistic(parameters, bits, record["chance"])


def _bits_column(points: Points, direction: str) -> str:
    wanted = "speech_bits" if direction.endswith("S") else "text_bits"
    return wanted if wanted in points.losses else points.losses[0]


def _column(points: Points, name: str, default: float) -> np.ndarray:
    """A column whose empty cells, or all of them where it is absent, are the default."""
    found = points.numbers.get(name, np.full(len(points), math.nan))
    return np.where(np.isfinite(found), found, default)


def _logistic(parameters: np.ndarray, bits: np.ndarray, chance: float) -> np.ndarray:
    ceiling, middle, width = parameters
    return chance + (ceiling - chance) / (1 + np.exp(np.clip((bits - middle) / width, -500, 500)))


def _curve(
    bits: np.ndarray, accuracy: np.ndarray, items: np.ndarray, chance: float, num_samples: int, seed: int
) -> dict[str, Interval]:
    """Parameters of the curve and its onset; empty with too few points or where nothing differs from chance."""
    if len(np.unique(bits)) < MIN_POINTS or not _differs_from_chance(accuracy, items, chance):
        return {}
    is_counted = bool(np.isfinite(items).all())
    sd = np.sqrt(np.maximum(accuracy * (1 - accuracy), 0.01) / items) if is_counted else np.ones(len(bits))
    spread = float(np.ptp(bits))
    starts = [
        np.array([max(float(accuracy.max()), chance + 0.01), middle, width * spread])
        for middle in np.quantile(bits, (0.1, 0.3, 0.5, 0.8))
        for width in (0.03, 0.1, 0.3)
    ]
    best = min((_fit(bits, accuracy, sd, chance, start) for start in starts), key=lambda found: found[1])
    parameters, error = best
    fitted = _logistic(parameters, bits, chance)
    # The residuals' own size; where items are counted, never less than their draw explains.
    dispersion = math.sqrt(2 * error / max(len(bits) - 3, 1))
    noise = sd * (max(1.0, dispersion) if is_counted else dispersion)
    generator = np.random.default_rng([seed, len(bits)])
    draws = []
    for _ in range(num_samples):
        drawn = np.clip(fitted + noise * generator.standard_normal(len(bits)), 0, 1)
        draws.append(_fit(bits, drawn, sd, chance, parameters)[0])
    samples = np.array(draws).reshape(-1, 3)
    values = {name: (float(parameters[n]), samples[:, n]) for n, name in enumerate(("ceiling", "middle", "width"))}
    reach = math.log(1 / ONSET_SHARE - 1)
    values["onset"] = (float(parameters[1] + reach * parameters[2]), samples[:, 1] + reach * samples[:, 2])
    return {name: percentile_interval(value, drawn) for name, (value, drawn) in values.items()}


def _fit(
    bits: np.ndarray, accuracy: np.ndarray, sd: np.ndarray, chance: float, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Ceiling, middle and width of weighted least squares, and half the sum of squares."""
    spread = float(np.ptp(bits))
    low = np.array([chance + 1e-4, bits.min() - 2 * spread, 1e-3 * spread])
    high = np.array([1.0, bits.max() + spread, 2 * spread])
    found = least_squares(
        lambda parameters: (_logistic(parameters, bits, chance) - accuracy) / sd,
        np.clip(start, low + 1e-6 * (high - low), high - 1e-6 * (high - low)),
        bounds=(low, high),
        x_scale=high - low,
    )
    return found.x, float(found.cost)


def _differs_from_chance(accuracy: np.ndarray, items: np.ndarray, chance: float) -> bool:
    """Whether the better half of the models lies above chance by more than noise."""
    better = np.sort(accuracy)[len(accuracy) // 2 :]
    by_items = np.sqrt(chance * (1 - chance) / items.mean()) if np.isfinite(items).all() else 0.0
    error = max(float(by_items), float(better.std()) if len(better) > 1 else 0.0) / math.sqrt(len(better))
    # The better half of pure noise lies 0.8 standard deviations above its mean.
    return float(better.mean()) - chance > MIN_EVIDENCE_SES * error + 0.8 * float(by_items)


def _flags(
    bits: np.ndarray, accuracy: np.ndarray, items: np.ndarray, chance: float, curve: dict[str, Interval]
) -> list[str]:
    if len(np.unique(bits)) < MIN_POINTS:
        return [f"{len(np.unique(bits))} models are too few for a curve: {MIN_POINTS} are needed"]
    if not curve:
        return ["no onset: the models do not lie above chance by more than noise"]
    flags = []
    if curve["middle"]["value"] < bits.min():
        flags.append("the middle of the curve lies below the bits of all models: its ceiling is not determined")
    if curve["onset"]["value"] > bits.max():
        flags.append("the onset lies above the bits of all models: all of them choose by content")
    return flags
