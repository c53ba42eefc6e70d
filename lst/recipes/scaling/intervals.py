"""95 % intervals of a law: by profile likelihood, and by a parametric bootstrap.

The profile is of a Huber loss whose threshold is 1.345 standard deviations of the noise, the usual choice: nearly as
narrow as least squares allow, but outliers have a bounded say. A parameter is moved away from its best value while the
others are fitted anew, until the loss has risen by more than noise explains (an F test, with Huber's correction for few
points).
The bootstrap draws new losses around the law at the points that there are; it resamples no points, since that would
drop whole sizes of a small grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lst.recipes.scaling.formats import Interval, NoiseRecord
from lst.recipes.scaling.law import PARAMETERS, Law, LawPoints
from lst.recipes.scaling.surface import (
    NUM_PARAMETERS,
    Batch,
    fit_batch,
    huber,
    jacobian,
    log_surface,
    minimise,
    residuals_of,
)

LEVEL = 0.95
# Log losses are not known better: points without noise have intervals, too.
MIN_SD = 1e-7
# Threshold of the profile's Huber loss, in standard deviations.
THRESHOLD_SDS = 1.345
# E[ψ²] of a standard normal residual at that threshold: what makes the scale consistent.
_NORMAL_PSI2 = float(stats.chi2.cdf(THRESHOLD_SDS**2, 3) + THRESHOLD_SDS**2 * stats.chi2.sf(THRESHOLD_SDS**2, 1))
# Replicates tell the noise of the bootstrap from this many degrees of freedom on.
MIN_REPLICATE_DEGREES = 10
# Search bounds: logarithms of E over the typical loss, of A and B against the best, of the exponents.
E_BOUND, AMPLITUDE_BOUND, EXPONENT_BOUNDS, RATIO_BOUND = -14.0, 100.0, (np.log(1e-3), np.log(20.0)), 7.0
_GROWTH, _BISECTIONS, _CHUNK = 1.7, 30, 50
# What the profile is of: the parameters, and log β − log α, of which the best size is a function.
PROFILED = (*PARAMETERS, "ratio")
Limits = dict[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Efficient:
    """The fit that the profile moves away from.

    Attributes:
        batch: of one data set, with the threshold of the profile.
        theta: [5].
        objective: the least.
        sd: of the noise of log losses.
        degrees: points less parameters.
        to_f: factor that makes a rise of the objective an F statistic with 1 and ``degrees`` degrees of freedom.
    """

    batch: Batch
    theta: np.ndarray
    objective: float
    sd: float
    degrees: int
    to_f: float


def efficient_fit(law: Law) -> Efficient | None:
    """Fits with a threshold of ``THRESHOLD_SDS``, whose scale is estimated with it; None without spare points."""
    points, degrees = law.points, len(law.points) - NUM_PARAMETERS
    if degrees < 1:
        return None
    batch, theta = points.batch(law.delta), law.theta[None]
    residuals = residuals_of(batch, theta)[0]
    # The law passes through as many points as it has parameters: those tell nothing of the noise.
    sd = max(float(1.4826 * np.median(np.sort(np.abs(residuals))[NUM_PARAMETERS:])), MIN_SD)
    for _ in range(20):
        batch = replace(batch, deltas=np.array([THRESHOLD_SDS * sd]))
        theta = minimise(batch, theta).theta
        residuals = residuals_of(batch, theta)[0]
        before, limit = sd, THRESHOLD_SDS * sd
        sd = max(float(np.sqrt((np.clip(residuals, -limit, limit) ** 2).sum() / (degrees * _NORMAL_PSI2))), MIN_SD)
        if abs(sd / before - 1) < 1e-6:
            break
    limit = float(batch.deltas[0])
    inside = float((np.abs(residuals) <= limit).mean())
    correction = 1 + NUM_PARAMETERS / len(points) * (1 - inside) / inside
    mean_psi2 = max(float((np.clip(residuals, -limit, limit) ** 2).sum() / degrees), MIN_SD**2)
    objective = float(huber(residuals[None], batch.deltas)[0])
    return Efficient(batch, theta[0], objective, sd, degrees, 2 * inside / (mean_psi2 * correction**2))


def noise_of(points: LawPoints, law: Law, fit: Efficient | None) -> NoiseRecord:
    """The noise of the points: of their residuals, and of replicates."""
    log_loss = points.logs[2]
    sizes = np.bincount(points.cells)
    means = np.bincount(points.cells, log_loss) / sizes
    degrees = int((sizes - 1).sum())
    within = float(((log_loss - means[points.cells]) ** 2).sum())
    replicate_sd = float(np.sqrt(within / degrees)) if degrees else None
    residual_sd = fit.sd if fit is not None else 0.0
    lack_of_fit = None
    if replicate_sd and points.num_cells > NUM_PARAMETERS:
        fitted = -residuals_of(points.batch(law.delta), law.theta[None])[0]
        between = float((fitted**2).sum()) - within
        lack_degrees = points.num_cells - NUM_PARAMETERS
        lack_of_fit = float(stats.f.sf(max(between, 0.0) / lack_degrees / replicate_sd**2, lack_degrees, degrees))
    used = replicate_sd if replicate_sd and degrees >= MIN_REPLICATE_DEGREES else residual_sd
    return NoiseRecord(
        residual_sd=residual_sd,
        replicate_sd=replicate_sd,
        replicate_degrees=degrees,
        lack_of_fit_p=lack_of_fit,
        used_sd=used,
    )


@dataclass(frozen=True)
class _Search:
    """Both sides of every profiled quantity, a data set each: the low sides first.

    Attributes:
        batch: with the profiled parameter fixed.
        parameters: [R], place of the profiled one.
        centres: the best fit in the coordinates of each.
        steps: how all parameters move where the profiled one moves by 1.
        sds: its standard error.
        bounds: how far the search goes.
    """

    batch: Batch
    parameters: np.ndarray
    centres: np.ndarray
    steps: np.ndarray
    sds: np.ndarray
    bounds: np.ndarray


def _search(points: LawPoints, fit: Efficient) -> _Search:
    places = np.array([0, 1, 2, 3, 4, 4] * 2)
    rows = len(places)
    offsets = np.zeros((rows, 2))
    offsets[places == 1, 0], offsets[places == 2, 1] = points.centres[0], points.centres[1]
    is_ratio = np.array(([False] * 5 + [True]) * 2)
    batch = replace(fit.batch.rows(np.zeros(rows, int)), offsets=offsets, is_ratio=is_ratio)
    centre = np.tile(fit.theta, (rows, 1))
    centre[:, 1] += np.exp(centre[:, 3]) * offsets[:, 0]
    centre[:, 2] += np.exp(centre[:, 4]) * offsets[:, 1]
    centre[is_ratio, 4] -= centre[is_ratio, 3]
    slopes = jacobian(batch, centre)
    information = slopes.transpose(0, 2, 1) @ slopes
    scale = 1 / np.sqrt(np.einsum("skk->sk", information) + 1e-300)
    information = information * scale[:, :, None] * scale[:, None, :]
    covariance = np.linalg.pinv(information, rcond=1e-13, hermitian=True) * scale[:, :, None] * scale[:, None, :]
    every = np.arange(rows)
    variances = np.maximum(covariance[every, places, places], 1e-300)
    low = [E_BOUND, -AMPLITUDE_BOUND, -AMPLITUDE_BOUND, EXPONENT_BOUNDS[0], EXPONENT_BOUNDS[0], -RATIO_BOUND]
    high = [-E_BOUND, AMPLITUDE_BOUND, AMPLITUDE_BOUND, EXPONENT_BOUNDS[1], EXPONENT_BOUNDS[1], RATIO_BOUND]
    relative = np.isin(places, (1, 2)) | is_ratio
    bounds = np.array([*low, *high]) + np.where(relative, centre[every, places], 0.0)
    free = np.ones((rows, NUM_PARAMETERS), bool)
    free[every, places] = False
    steps = covariance[every, places] / variances[:, None]
    return _Search(replace(batch, is_free=free), places, centre, steps, fit.sd * np.sqrt(variances), bounds)


def profile_limits(points: LawPoints, fit: Efficient) -> Limits:
    """Limits of each of ``PROFILED``, in the solver's logarithms; None where the points set none within the bounds."""
    search = _search(points, fit)
    rows = np.arange(len(search.parameters))
    critical = float(stats.f.ppf(LEVEL, 1, fit.degrees))
    centre = search.centres[rows, search.parameters]
    inner, inner_theta, outer = centre.copy(), search.centres.copy(), centre.copy()
    side = np.where(rows < len(rows) // 2, -1.0, 1.0)
    reach = np.maximum(search.sds * np.sqrt(critical), 1e-9)

    def is_above(chosen: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start = inner_theta[chosen] + search.steps[chosen] * (values - inner[chosen])[:, None]
        start[np.arange(len(chosen)), search.parameters[chosen]] = values
        found = minimise(search.batch.rows(chosen), start, 60, 1e-8)
        return (found.objectives - fit.objective) * fit.to_f > critical, found.theta

    todo, is_open = rows, np.zeros(len(rows), bool)
    while len(todo):
        wanted = centre[todo] + side[todo] * reach[todo]
        is_last = (wanted - search.bounds[todo]) * side[todo] >= 0
        outer[todo] = np.where(is_last, search.bounds[todo], wanted)
        above, theta = is_above(todo, outer[todo])
        is_open[todo[is_last & ~above]] = True
        inner[todo[~above]], inner_theta[todo[~above]] = outer[todo[~above]], theta[~above]
        todo = todo[~above & ~is_last]
        reach[todo] *= _GROWTH
    todo = rows[~is_open]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (inner[todo] + outer[todo])
        above, theta = is_above(todo, middle)
        outer[todo[above]] = middle[above]
        inner[todo[~above]], inner_theta[todo[~above]] = middle[~above], theta[~above]
    limits = [None if is_open[row] else float(0.5 * (inner[row] + outer[row])) for row in rows]
    half = len(PROFILED)
    return {name: (limits[place], limits[half + place]) for place, name in enumerate(PROFILED)}


def bootstrap(
    law: Law, sd: float, num_samples: int, seeds: Sequence[int], advance: Callable[[int], None]
) -> np.ndarray:
    """The solver's parameters [S, 5] of laws fitted to new losses around the law, with normal noise of log losses.

    Args:
        law: the law.
        sd: standard deviation of the noise.
        num_samples: S.
        seeds: of the draws; laws that are compared need different ones.
        advance: is told how many more are done.
    """
    n, d, _ = law.points.logs
    fitted = log_surface(law.theta[None], n, d)
    noise = np.random.default_rng(seeds).standard_normal((num_samples, len(law.points)))
    found = []
    for start in range(0, num_samples, _CHUNK):
        losses = fitted + sd * noise[start : start + _CHUNK]
        batch = Batch.of(n, d, losses, law.delta)
        found.append(fit_batch(batch, np.tile(law.theta, (len(losses), 1)), 60).theta)
        advance(len(losses))
    return np.concatenate(found) if found else np.empty((0, NUM_PARAMETERS))


def percentile_interval(value: float, samples: np.ndarray) -> Interval:
    """A value and the middle 95 % of samples, widened to hold the value."""
    finite = samples[np.isfinite(samples)]
    if len(finite) < len(samples) or not len(finite):
        return Interval(value=value, low=None, high=None)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def parameter_intervals(law: Law, limits: Limits) -> dict[str, Interval]:
    """E, A, B, alpha, beta and ``a`` = β / (α + β) with their intervals, in the units of the points."""
    loss_centre = law.points.centres[2]
    shifts = {"E": loss_centre, "A": loss_centre, "B": loss_centre, "alpha": 0.0, "beta": 0.0}
    found = {}
    for name, value in zip(PARAMETERS, law.values.tolist(), strict=True):
        low, high = (None if limit is None else float(np.exp(limit + shifts[name])) for limit in limits[name])
        # No floor is a floor, so E is bounded by zero.
        low = 0.0 if low is None and name == "E" else low
        found[name] = _holding(value, low, high)
    # a = β / (α + β) rises with log β − log α.
    low, high = (None if limit is None else float(1 / (1 + np.exp(-limit))) for limit in limits["ratio"])
    alpha, beta = law.values[3:]
    found["a"] = _holding(float(beta / (alpha + beta)), low, high)
    return found


def _holding(value: float, low: float | None, high: float | None) -> Interval:
    """An interval that holds its value: the fit's threshold and the profile's differ."""
    return Interval(
        value=value, low=None if low is None else min(low, value), high=None if high is None else max(high, value)
    )
