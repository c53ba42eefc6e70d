"""The efficient frontier: for each budget of FLOPs the size and the number of tokens with the least loss by the law.

FLOPs are ``factor`` · N^p · D^q: stated as 6·N·D or another factor, or fitted to the column ``C``, whose models have
local modules and heads that the formula does not know. With them

    log N* = (log(α·A·q / (β·B·p)) + β·log(C / factor) / q) / (α + β·p/q)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lst.recipes.scaling.formats import BudgetRecord, FlopsRecord, FrontierRecord, Interval
from lst.recipes.scaling.intervals import percentile_interval
from lst.recipes.scaling.law import Law
from lst.recipes.scaling.surface import MAX_LOG_EXPONENT

NUM_BUDGETS = 13
# Sizes, tokens and losses beyond 10¹⁰⁰ are no better known.
MAX_LOG_SIZE = 230.0


@dataclass(frozen=True)
class FlopsFormula:
    """FLOPs of a training as a function of N and D; see ``FlopsRecord``."""

    source: str
    factor: float
    n_exponent: float = 1.0
    d_exponent: float = 1.0
    largest_error: float = 0.0

    def flops(self, num_parameters: np.ndarray, num_tokens: np.ndarray) -> np.ndarray:
        """FLOPs [P]."""
        return np.exp(
            np.log(self.factor) + self.n_exponent * np.log(num_parameters) + self.d_exponent * np.log(num_tokens)
        )

    def record(self) -> FlopsRecord:
        """The formula for ``fit.json``."""
        return FlopsRecord(
            source=self.source,
            factor=self.factor,
            n_exponent=self.n_exponent,
            d_exponent=self.d_exponent,
            largest_error=self.largest_error,
        )


def flops_formula(
    num_parameters: np.ndarray, num_tokens: np.ndarray, flops: np.ndarray | None, stated_factor: float
) -> FlopsFormula:
    """The formula that fits the column ``C`` best, or the stated one where there is no such column.

    Exponents are fitted where N and D vary independently of each other; else both are 1.
    """
    if flops is None:
        return FlopsFormula(f"{stated_factor:g}·N·D", stated_factor)
    logs = np.stack([np.log(num_parameters), np.log(num_tokens)], 1)
    means, target = logs.mean(0), np.log(flops)
    centred = logs - means
    exponents = np.ones(2)
    if np.linalg.matrix_rank(centred, tol=0.1) == 2:
        exponents = np.linalg.lstsq(centred, target - target.mean(), rcond=None)[0]
    if (exponents < 0.05).any():
        exponents = np.ones(2)
    factor = float(np.exp(np.median(target - logs @ exponents)))
    errors = np.expm1(np.log(factor) + logs @ exponents - target)
    return FlopsFormula("column C", factor, float(exponents[0]), float(exponents[1]), float(np.abs(errors).max()))


def best_sizes(law: Law, formula: FlopsFormula, theta: np.ndarray, flops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N* and D* [S, C] of each budget by each parameter vector of a law."""
    n_centre, d_centre, _ = law.points.centres
    alpha, beta = np.exp(np.minimum(theta[:, 3:], MAX_LOG_EXPONENT)).T[:, :, None]
    p, q = formula.n_exponent, formula.d_exponent
    # In centred logarithms, in which the amplitudes of different exponents stay comparable.
    budget = np.log(flops / formula.factor)[None] - p * n_centre - q * d_centre
    balance = np.log(alpha * q / (beta * p)) + theta[:, 1:2] - theta[:, 2:3]
    log_n = (balance + beta * budget / q) / (alpha + beta * p / q)
    log_d = (budget - p * log_n) / q
    # Sizes by a law that is not determined may lie anywhere.
    return np.exp(np.clip(log_n + n_centre, -MAX_LOG_SIZE, MAX_LOG_SIZE)), np.exp(
        np.clip(log_d + d_centre, -MAX_LOG_SIZE, MAX_LOG_SIZE)
    )


def best_losses(law: Law, formula: FlopsFormula, theta: np.ndarray, flops: np.ndarray) -> np.ndarray:
    """The loss [S, C] at the best size of each budget."""
    n_centre, d_centre, loss_centre = law.points.centres
    best_n, best_d = best_sizes(law, formula, theta, flops)
    log_n, log_d = np.log(best_n) - n_centre, np.log(best_d) - d_centre
    alpha, beta = np.exp(np.minimum(theta[:, 3:], MAX_LOG_EXPONENT)).T[:, :, None]
    parts = (
        theta[:, 0:1],
        theta[:, 1:2] - alpha * log_n,
        theta[:, 2:3] - beta * log_d,
    )
    return np.exp(np.minimum(np.logaddexp(np.logaddexp(parts[0], parts[1]), parts[2]) + loss_centre, MAX_LOG_SIZE))


def frontier_record(
    law: Law, formula: FlopsFormula, flops: np.ndarray, samples: np.ndarray, ratio: Interval
) -> FrontierRecord:
    """Exponents of the best size and tokens, and budgets from the smallest of the points to ten times the largest.

    Args:
        law: the law.
        formula: of FLOPs.
        flops: [P], of the points.
        samples: bootstrap samples of the law.
        ratio: β / (α + β) with its profile interval.
    """
    p, q = formula.n_exponent, formula.d_exponent
    # a = (β/q) / (α + β·p/q), by the ratio r = β / (α + β) alone, in which it rises.
    found = [None if r is None else r / (q * (1 - r) + p * r) for r in (ratio["value"], ratio["low"], ratio["high"])]
    others = [None if a is None else (1 - p * a) / q for a in found]
    assert found[0] is not None
    assert others[0] is not None
    budgets = np.geomspace(flops.min(), 10 * flops.max(), NUM_BUDGETS)
    all_S5 = np.concatenate([law.theta[None], samples])
    sizes, tokens = best_sizes(law, formula, all_S5, budgets)
    losses = best_losses(law, formula, all_S5, budgets)
    inside = _inside(law, sizes[0], tokens[0]) & (budgets <= flops.max())
    return FrontierRecord(
        flops=formula.record(),
        a=Interval(value=found[0], low=found[1], high=found[2]),
        b=Interval(value=others[0], low=others[2], high=others[1]),
        budgets=[
            BudgetRecord(
                flops=float(budget),
                N=percentile_interval(float(sizes[0, place]), sizes[1:, place]),
                D=percentile_interval(float(tokens[0, place]), tokens[1:, place]),
                loss=percentile_interval(float(losses[0, place]), losses[1:, place]),
                is_extrapolated=not inside[place],
            )
            for place, budget in enumerate(budgets)
        ],
    )


def _inside(law: Law, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Whether sizes and tokens lie within those of the points."""
    points = law.points
    return (
        (sizes >= points.num_parameters.min())
        & (sizes <= points.num_parameters.max())
        & (tokens >= points.num_tokens.min())
        & (tokens <= points.num_tokens.max())
    )
