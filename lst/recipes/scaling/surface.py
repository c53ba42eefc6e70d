"""The law L(N, D) = E + A/N^α + B/D^β, and a solver that fits it to many data sets at a time.

The objective is the sum over points of the Huber loss of log L(N, D) − log loss, as in arXiv 2203.15556, appendix D.3.
A small threshold δ makes it almost a sum of absolute values, on which L-BFGS stops early. So the solver is Newton's
method with exact second derivatives, damped, and it lowers the threshold in stages. Its steps do not depend on units:
logarithms are centred, and each parameter is scaled by its curvature.

Legend: S data sets, P points, 5 parameters (log E, log A, log B, log α, log β), where A and B are those of N and D over
their geometric means, unless offsets say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

NUM_PARAMETERS = 5
# Factor between the stages of the threshold, and the first stage: all usual noise of log losses lies below it.
STAGE_FACTOR, FIRST_DELTA = 4.0, 0.25
STAGE_ITERATIONS, MAX_ITERATIONS = 15, 150
# Of the gradient, each parameter scaled by its curvature, as a share of what residuals of δ could give.
GRADIENT_TOLERANCE = 1e-9
_MAX_STEP, _MAX_DAMPINGS = 1.0, 14
# Logarithms of exponents are cut here: parameters that the points do not determine run off, and must stay finite.
MAX_LOG_EXPONENT = 6.0


@dataclass(frozen=True)
class Batch:
    """Data sets over the same points.

    Attributes:
        log_n, log_d: [P], centred.
        log_losses: [S, P].
        deltas: threshold of the Huber loss.
        is_free: which parameters are fitted; the others keep their start.
        offsets: added to ``log_n`` and ``log_d``: 0, or what was subtracted to centre them.
        is_ratio: the fifth parameter is log β − log α in place of log β.
    """

    log_n: np.ndarray
    log_d: np.ndarray
    log_losses: np.ndarray
    deltas: np.ndarray
    is_free: np.ndarray
    offsets: np.ndarray
    is_ratio: np.ndarray

    @staticmethod
    def of(log_n: np.ndarray, log_d: np.ndarray, log_losses: np.ndarray, delta: float) -> Batch:
        """Data sets whose parameters are all free."""
        num_sets = len(log_losses)
        return Batch(
            log_n,
            log_d,
            log_losses,
            np.full(num_sets, delta),
            np.ones((num_sets, NUM_PARAMETERS), bool),
            np.zeros((num_sets, 2)),
            np.zeros(num_sets, bool),
        )

    def rows(self, chosen: np.ndarray) -> Batch:
        """Some of the data sets."""
        return Batch(
            self.log_n,
            self.log_d,
            self.log_losses[chosen],
            self.deltas[chosen],
            self.is_free[chosen],
            self.offsets[chosen],
            self.is_ratio[chosen],
        )


@dataclass(frozen=True)
class Minimum:
    """Fitted parameters [S, 5], the objective there [S], and whether the gradient is within the tolerance [S]."""

    theta: np.ndarray
    objectives: np.ndarray
    is_converged: np.ndarray


def log_surface(theta: np.ndarray, log_n: np.ndarray, log_d: np.ndarray) -> np.ndarray:
    """log L [S, P] at points whose logarithms are centred as those of the fit were."""
    alpha, beta = (np.exp(np.minimum(theta[:, place, None], MAX_LOG_EXPONENT)) for place in (3, 4))
    terms = (
        np.broadcast_to(theta[:, 0:1], (len(theta), len(log_n))),
        theta[:, 1:2] - alpha * log_n,
        theta[:, 2:3] - beta * log_d,
    )
    return np.logaddexp(np.logaddexp(terms[0], terms[1]), terms[2])


def huber(residuals: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Sum over points of the Huber loss, [S]."""
    sizes, delta = np.abs(residuals), deltas[:, None]
    return np.where(sizes <= delta, 0.5 * sizes**2, delta * (sizes - 0.5 * delta)).sum(1)


@dataclass(frozen=True)
class _Terms:
    """Residuals, shares of the three terms of L, and d log A-term / d log α, d log B-term / d log β; each [S, P]."""

    residuals: np.ndarray
    shares: tuple[np.ndarray, np.ndarray, np.ndarray]
    slopes: tuple[np.ndarray, np.ndarray]


def _terms(batch: Batch, theta: np.ndarray) -> _Terms:
    log_beta = theta[:, 4] + np.where(batch.is_ratio, theta[:, 3], 0.0)
    alpha, beta = (np.exp(np.minimum(logs, MAX_LOG_EXPONENT))[:, None] for logs in (theta[:, 3], log_beta))
    slope_n = -alpha * (batch.log_n + batch.offsets[:, 0, None])
    slope_d = -beta * (batch.log_d + batch.offsets[:, 1, None])
    parts = np.stack(np.broadcast_arrays(theta[:, 0, None], theta[:, 1, None] + slope_n, theta[:, 2, None] + slope_d))
    highest = parts.max(0)
    shares = np.exp(parts - highest)
    total = shares.sum(0)
    residuals = highest + np.log(total) - batch.log_losses
    return _Terms(residuals, tuple(shares / total), (slope_n, slope_d))


def residuals_of(batch: Batch, theta: np.ndarray) -> np.ndarray:
    """log L(N, D) − log loss, [S, P]."""
    return _terms(batch, theta).residuals


def jacobian(batch: Batch, theta: np.ndarray) -> np.ndarray:
    """Derivatives of the residuals by the parameters, [S, P, 5]."""
    return _jacobian(batch, _terms(batch, theta))


def _jacobian(batch: Batch, terms: _Terms) -> np.ndarray:
    share_e, share_a, share_b = terms.shares
    by_alpha, by_beta = share_a * terms.slopes[0], share_b * terms.slopes[1]
    by_alpha = by_alpha + np.where(batch.is_ratio[:, None], by_beta, 0.0)
    return np.stack([share_e, share_a, share_b, by_alpha, by_beta], 2)


def _derivatives(batch: Batch, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Objective [S], gradient [S, 5], second derivatives [S, 5, 5] and squared scales of the parameters [S, 5]."""
    terms = _terms(batch, theta)
    jacobian_SP5 = _jacobian(batch, terms)
    delta = batch.deltas[:, None]
    slopes = np.clip(terms.residuals, -delta, delta)
    weights = (np.abs(terms.residuals) <= delta) - slopes
    hessian = (jacobian_SP5 * weights[:, :, None]).transpose(0, 2, 1) @ jacobian_SP5
    hessian[:, 0, 0] += (slopes * terms.shares[0]).sum(1)
    for place, (share, slope) in enumerate(zip(terms.shares[1:], terms.slopes, strict=True), 1):
        weighted = slopes * share
        first, second = (weighted * slope).sum(1), (weighted * slope**2).sum(1)
        # log β is the sum of two parameters where the fifth is a ratio.
        exponents = [(place + 2, np.ones(len(theta)))]
        if place == 2:
            exponents.append((3, batch.is_ratio.astype(float)))
        hessian[:, place, place] += weighted.sum(1)
        for row, factor in exponents:
            hessian[:, place, row] += factor * first
            hessian[:, row, place] += factor * first
            for column, other in exponents:
                hessian[:, row, column] += factor * other * (first + second)
    gradient = (slopes[:, :, None] * jacobian_SP5).sum(1)
    return huber(terms.residuals, batch.deltas), gradient, hessian, (jacobian_SP5**2).sum(1)


def minimise(
    batch: Batch, start_S5: np.ndarray, max_iterations: int = MAX_ITERATIONS, tolerance: float = GRADIENT_TOLERANCE
) -> Minimum:
    """Damped Newton steps from a start, each data set by itself, with one threshold."""
    theta, num_sets = start_S5.copy(), len(start_S5)
    objective, converged, damping = np.full(num_sets, np.inf), np.zeros(num_sets, bool), np.full(num_sets, 1e-3)
    active = np.arange(num_sets)
    for _ in range(max_iterations):
        now = batch.rows(active)
        value, gradient, hessian, squares = _derivatives(now, theta[active])
        objective[active] = value
        scale = 1 / np.sqrt(np.maximum(squares, 1e-12 * squares.max(1, keepdims=True)) + 1e-300)
        gradient = np.where(now.is_free, gradient * scale, 0.0)
        done = np.abs(gradient).max(1) <= tolerance * now.deltas * np.sqrt(len(batch.log_n))
        converged[active[done]] = True
        left = ~done
        if not left.any():
            break
        scaled = hessian * scale[:, :, None] * scale[:, None, :]
        both_free = now.is_free[:, :, None] & now.is_free[:, None, :]
        scaled = np.where(both_free, scaled, np.eye(NUM_PARAMETERS) * ~now.is_free[:, :, None])
        active = active[left]
        stuck = _step(batch, theta, damping, active, value[left], gradient[left], scaled[left], scale[left])
        active = np.setdiff1d(active, stuck)
        if not len(active):
            break
    return Minimum(theta, huber(residuals_of(batch, theta), batch.deltas), converged)


def _step(
    batch: Batch,
    theta: np.ndarray,
    damping: np.ndarray,
    active: np.ndarray,
    value: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """Moves ``theta`` of the active data sets downhill and adapts ``damping``; returns those that cannot move."""
    curvatures, directions = np.linalg.eigh(hessian)
    along = np.einsum("skl,sk->sl", directions, gradient)
    todo = np.arange(len(active))
    for _ in range(_MAX_DAMPINGS):
        sets = active[todo]
        moves = -along[todo] / (np.abs(curvatures[todo]) + damping[sets][:, None])
        step = np.einsum("skl,sl->sk", directions[todo], moves) * scale[todo]
        new = theta[sets] + np.clip(step, -_MAX_STEP, _MAX_STEP)
        now = batch.rows(sets)
        after = huber(residuals_of(now, new), now.deltas)
        expected = -(along[todo] * moves + 0.5 * curvatures[todo] * moves**2).sum(1)
        is_better = after <= value[todo] - 1e-4 * np.maximum(expected, 0) + 1e-15 * value[todo]
        theta[sets[is_better]] = new[is_better]
        is_good = is_better & (value[todo] - after > 0.5 * expected)
        damping[sets[is_good]] = np.maximum(damping[sets[is_good]] / 10, 1e-12)
        damping[sets[~is_better]] *= 8
        todo = todo[~is_better]
        if not len(todo):
            break
    return active[todo]


def fit_batch(batch: Batch, start_S5: np.ndarray, max_iterations: int = MAX_ITERATIONS) -> Minimum:
    """Fits every data set: thresholds fall from a large one, which is least squares, to that of the batch."""
    theta, delta = start_S5, FIRST_DELTA
    while delta > batch.deltas.max() * 1.01:
        stage = replace(batch, deltas=np.maximum(delta, batch.deltas))
        theta = minimise(stage, theta, STAGE_ITERATIONS, 1e-4).theta
        delta /= STAGE_FACTOR
    return minimise(batch, theta, max_iterations)
