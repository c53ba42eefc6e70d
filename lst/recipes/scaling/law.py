"""Fits L(N, D) = E + A/N^α + B/D^β: many starts, all optima, a second way to fit, and how well it extrapolates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize, nnls

from lst.errors import UserError
from lst.recipes.scaling.formats import ExtrapolationRecord, OptimumRecord, VariableProjectionRecord
from lst.recipes.scaling.surface import (
    MAX_LOG_EXPONENT,
    NUM_PARAMETERS,
    Batch,
    Minimum,
    fit_batch,
    log_surface,
    residuals_of,
)

PARAMETERS = ("E", "A", "B", "alpha", "beta")
START_EXPONENTS = (0.05, 0.15, 0.3, 0.5, 0.9, 1.6)
# Optima whose objectives and parameters differ by less are one.
SAME_OBJECTIVE, SAME_PARAMETERS = 1e-7, 1e-4
MAX_LOG = 700.0


@dataclass(frozen=True)
class LawPoints:
    """What a law is fitted to. The order of the points changes nothing: they are sorted.

    Attributes:
        num_parameters, num_tokens, losses: float64 [P], above 0.
    """

    num_parameters: np.ndarray
    num_tokens: np.ndarray
    losses: np.ndarray

    def __len__(self) -> int:
        return len(self.losses)

    @cached_property
    def order(self) -> np.ndarray:
        """Places of the points, sorted by N, then D, then loss."""
        return np.lexsort((self.losses, self.num_tokens, self.num_parameters))

    @cached_property
    def centres(self) -> tuple[float, float, float]:
        """Means of log N, log D and log loss: the fit does not depend on units."""
        logs = (np.sort(np.log(values)) for values in (self.num_parameters, self.num_tokens, self.losses))
        return tuple(float(values.mean()) for values in logs)  # type: ignore[return-value]

    @cached_property
    def logs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centred logarithms of N, D and loss, sorted."""
        columns = (self.num_parameters, self.num_tokens, self.losses)
        n, d, loss = (np.log(column[self.order]) - centre for column, centre in zip(columns, self.centres, strict=True))
        return n, d, loss

    @cached_property
    def cells(self) -> np.ndarray:
        """The number of each sorted point's cell: points of one N and D are replicates."""
        pairs = np.stack([self.num_parameters[self.order], self.num_tokens[self.order]], 1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)

    @property
    def num_cells(self) -> int:
        """Different pairs of N and D."""
        return int(self.cells.max()) + 1

    def subset(self, kept: np.ndarray) -> LawPoints:
        """Some of the points, by a mask in the order they were given."""
        return LawPoints(self.num_parameters[kept], self.num_tokens[kept], self.losses[kept])

    def batch(self, delta: float, num_sets: int = 1) -> Batch:
        """These losses as data sets of the solver."""
        n, d, loss = self.logs
        return Batch.of(n, d, np.tile(loss, (num_sets, 1)), delta)

    def values(self, theta: np.ndarray) -> np.ndarray:
        """E, A, B, α, β [S, 5] in the units of the points, from the solver's parameters."""
        n_centre, d_centre, loss_centre = self.centres
        alpha, beta = np.exp(np.minimum(theta[:, 3:], MAX_LOG_EXPONENT)).T
        logs = [
            theta[:, 0] + loss_centre,
            theta[:, 1] + loss_centre + alpha * n_centre,
            theta[:, 2] + loss_centre + beta * d_centre,
        ]
        return np.stack([*np.exp(np.minimum(logs, MAX_LOG)), alpha, beta], 1)


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        points: what it was fitted to.
        delta: threshold of the Huber loss on log loss.
        theta: [5], the solver's parameters.
        objective: the summed Huber loss reached.
        optima: all that were found, the best first.
        num_starts: of the search.
    """

    points: LawPoints
    delta: float
    theta: np.ndarray
    objective: float
    optima: list[OptimumRecord]
    num_starts: int

    @property
    def values(self) -> np.ndarray:
        """E, A, B, α, β."""
        return self.points.values(self.theta[None])[0]

    def losses_at(self, num_parameters: np.ndarray, num_tokens: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Losses [S, P] that the parameters give at some points."""
        n_centre, d_centre, loss_centre = self.points.centres
        log_n, log_d = np.log(num_parameters) - n_centre, np.log(num_tokens) - d_centre
        return np.exp(log_surface(theta, log_n, log_d) + loss_centre)

    @cached_property
    def log_residuals(self) -> np.ndarray:
        """log loss − log L(N, D) [P], in the order in which the points were given."""
        found = np.empty(len(self.points))
        found[self.points.order] = -residuals_of(self.points.batch(self.delta), self.theta[None])[0]
        return found


def fit_law(points: LawPoints, delta: float) -> Law:
    """The best of all optima.

    Raises:
        UserError: there are fewer different pairs of N and D than parameters.
    """
    if points.num_cells < NUM_PARAMETERS:
        raise UserError(
            f"{points.num_cells} different pairs of N and D are too few: the law has {NUM_PARAMETERS} parameters "
            "(E, A, B, alpha, beta). Add points; 20 or more, over a factor of 30 in N and in D, tell them apart"
        )
    starts = _starts(points)
    found = fit_batch(points.batch(delta, len(starts)), starts)
    best = int(np.argmin(found.objectives))
    return Law(
        points,
        delta,
        found.theta[best],
        float(found.objectives[best]),
        _distinct(points, found),
        len(starts),
    )


def _starts(points: LawPoints) -> np.ndarray:
    """For each pair of exponents the amplitudes of least squares [S, 5]; small where these are zero."""
    n, d, loss = points.logs
    starts = []
    for alpha in START_EXPONENTS:
        for beta in START_EXPONENTS:
            amplitudes, _ = _amplitudes(n, d, np.exp(loss), alpha, beta)
            starts.append([*np.log(np.maximum(amplitudes, 0.02)), np.log(alpha), np.log(beta)])
    return np.array(starts)


def _amplitudes(
    log_n: np.ndarray, log_d: np.ndarray, losses: np.ndarray, alpha: float, beta: float
) -> tuple[np.ndarray, float]:
    """E, A and B ≥ 0 of least squares for given exponents, in which the law is linear; and the squared error."""
    columns = np.stack([np.ones(len(losses)), np.exp(-alpha * log_n), np.exp(-beta * log_d)], 1)
    scales = np.linalg.norm(columns, axis=0)
    found, error = nnls(columns / scales, losses)
    return found / scales, float(error**2)


def _distinct(points: LawPoints, found: Minimum) -> list[OptimumRecord]:
    """Optima that differ, the best first, with the number of starts that led to each."""
    kept: list[tuple[np.ndarray, OptimumRecord]] = []
    for place in np.argsort(found.objectives, kind="stable"):
        theta, objective = found.theta[place], float(found.objectives[place])
        for other, record in kept:
            is_near = abs(objective - record["objective"]) <= SAME_OBJECTIVE * record["objective"] + 1e-15
            if is_near and np.abs(np.expm1(theta - other)).max() < SAME_PARAMETERS:
                record["num_starts"] += 1
                break
        else:
            values = points.values(theta[None])[0]
            named = dict(zip(PARAMETERS, values.tolist(), strict=True))
            record = OptimumRecord(
                **named,  # type: ignore[typeddict-item]
                objective=objective,
                num_starts=1,
                is_converged=bool(found.is_converged[place]),
            )
            kept.append((theta, record))
    return [record for _, record in kept]


def variable_projection(points: LawPoints) -> VariableProjectionRecord:
    """Least squares on the losses themselves: for given exponents the law is linear, so two numbers are searched."""
    n, d, log_loss = points.logs
    losses = np.exp(log_loss)

    def squared_error(log_exponents: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(log_exponents, -7, 3))
        return _amplitudes(n, d, losses, alpha, beta)[1]

    grid = np.log(np.array([[a, b] for a in START_EXPONENTS for b in START_EXPONENTS]))
    errors = np.array([squared_error(start) for start in grid])
    options = {"xatol": 1e-9, "fatol": 1e-18, "maxiter": 600}
    searches = [minimize(squared_error, grid[p], method="Nelder-Mead", options=options) for p in np.argsort(errors)[:3]]
    best = min(searches, key=lambda search: float(search.fun))
    alpha, beta = np.exp(np.clip(best.x, -7, 3))
    amplitudes, error = _amplitudes(n, d, losses, alpha, beta)
    with np.errstate(divide="ignore"):
        theta = np.array([[*np.log(amplitudes), np.log(alpha), np.log(beta)]])
    values = points.values(theta)[0]
    rms = float(np.sqrt(error / len(points)) * np.exp(points.centres[2]))
    return VariableProjectionRecord(
        **dict(zip(PARAMETERS, values.tolist(), strict=True)),  # type: ignore[typeddict-item]
        rms_error=rms,
    )


def extrapolations(points: LawPoints, delta: float) -> list[ExtrapolationRecord]:
    """Errors of laws fitted without the largest sizes, the most tokens, the most compute (N·D)."""
    records = []
    measures = {
        "N": points.num_parameters,
        "D": points.num_tokens,
        "N·D": points.num_parameters * points.num_tokens,
    }
    for name, measure in measures.items():
        left_out = measure >= measure.max() * (1 - 1e-9)
        rest = points.subset(~left_out)
        if len(rest) <= NUM_PARAMETERS or rest.num_cells <= NUM_PARAMETERS:
            continue
        law = fit_law(rest, delta)
        held = points.subset(left_out)
        predicted = law.losses_at(held.num_parameters, held.num_tokens, law.theta[None])[0]
        errors = predicted / held.losses - 1
        records.append(
            ExtrapolationRecord(
                left_out=f"largest {name}",
                num_points=len(held),
                mean_relative_error=float(errors.mean()),
                largest_relative_error=float(errors[np.abs(errors).argmax()]),
            )
        )
    return records
