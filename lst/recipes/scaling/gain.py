"""Compute-equivalent gain of an arm: C_base(L) / C_arm(L), the FLOPs that the base needs for what the arm reaches.

Both arms stand on their own frontier, since their sizes and positions do not compare: the law's, where both have one,
else the envelope of their runs. Gains are read at losses that both arms reach; others are marked as extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lst.recipes.scaling.formats import GainPoint, GainRecord, Interval
from lst.recipes.scaling.frontier import FlopsFormula, best_losses
from lst.recipes.scaling.intervals import percentile_interval
from lst.recipes.scaling.law import Law

NUM_GAINS = 9
# The range over which a frontier is inverted, as a factor beyond the runs' FLOPs, and its grid.
REACH, GRID = 1e3, 600


@dataclass(frozen=True)
class Runs:
    """The runs of an arm.

    Attributes:
        flops, losses: float64 [P].
        cells: int64 [P], the number of each run's pair of N and D.
        law, formula, samples: its law with bootstrap samples; None where it has none.
    """

    arm: str
    flops: np.ndarray
    losses: np.ndarray
    cells: np.ndarray
    law: Law | None
    formula: FlopsFormula | None
    samples: np.ndarray | None

    @cached_property
    def cell_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Geometric means of FLOPs and losses, and the number of runs, of each cell."""
        sizes = np.bincount(self.cells)
        kept = sizes > 0
        means = [np.bincount(self.cells, np.log(v))[kept] / sizes[kept] for v in (self.flops, self.losses)]
        return np.exp(means[0]), np.exp(means[1]), sizes[kept]

    @cached_property
    def replicate_sd(self) -> float | None:
        """Standard deviation of log losses within cells; None without replicates."""
        _, means, sizes = self.cell_means
        degrees = int((sizes - 1).sum())
        if not degrees:
            return None
        places = np.unique(self.cells, return_inverse=True)[1].reshape(-1)
        return float(np.sqrt((np.log(self.losses / means[places]) ** 2).sum() / degrees))


# Losses at some FLOPs of one draw; NaN where there are none. The first draw is the estimate itself.
Frontier = Callable[[int, np.ndarray], np.ndarray]


def compute_gain(base: Runs, arm: Runs, loss: str, num_samples: int, seed: int) -> GainRecord:
    """The gain over the base's range of FLOPs, with bootstrap intervals."""
    by_law = base.samples is not None and arm.samples is not None
    num_draws = min(len(base.samples), len(arm.samples)) if by_law else num_samples  # type: ignore[arg-type]
    frontiers = [
        _law_frontier(runs) if by_law else _envelope(runs, num_samples, np.random.default_rng([seed, side]))
        for side, runs in enumerate((base, arm))
    ]
    budgets = np.geomspace(base.flops.min(), base.flops.max(), NUM_GAINS)
    if not by_law and not (base.replicate_sd and arm.replicate_sd):
        num_draws = 0
    gains = np.array([_gains(frontiers[0], frontiers[1], draw, budgets, arm.flops) for draw in range(num_draws + 1)])
    losses = frontiers[0](0, budgets)
    ends = frontiers[1](0, np.array([arm.flops.min(), arm.flops.max()]))
    inside = (losses <= np.nanmax(ends)) & (losses >= np.nanmin(ends)) & np.isfinite(gains[0])
    points = [
        GainPoint(
            base_flops=float(budgets[place]),
            loss=float(losses[place]),
            gain=_interval(gains[:, place]),
            is_extrapolated=not inside[place],
        )
        for place in np.flatnonzero(np.isfinite(gains[0]))
    ]
    overall = _interval(np.exp(np.log(gains[:, inside]).mean(1))) if inside.any() else None
    return GainRecord(
        arm=arm.arm,
        base=base.arm,
        loss=loss,
        frontier="law" if by_law else "envelope",
        overall=overall,
        points=points,
    )


def _interval(draws: np.ndarray) -> Interval:
    """The first draw, and the interval of the others."""
    return percentile_interval(float(draws[0]), draws[1:])


def _law_frontier(runs: Runs) -> Frontier:
    law, formula, samples = runs.law, runs.formula, runs.samples
    assert law is not None
    assert formula is not None
    assert samples is not None
    draws = np.concatenate([law.theta[None], samples])
    return lambda draw, flops: best_losses(law, formula, draws[draw : draw + 1], flops)[0]


def _envelope(runs: Runs, num_samples: int, generator: np.random.Generator) -> Frontier:
    """The runs that no other beats for less compute, joined by lines in logarithms; seeds are drawn by their noise."""
    flops, losses, sizes = runs.cell_means
    order = np.argsort(flops, kind="stable")
    flops, losses, sizes = flops[order], losses[order], sizes[order]
    noise = (runs.replicate_sd or 0.0) / np.sqrt(sizes) * generator.standard_normal((num_samples + 1, len(losses)))
    noise[0] = 0.0
    drawn = np.log(losses) + noise

    def at(draw: int, wanted: np.ndarray) -> np.ndarray:
        least = np.minimum.accumulate(drawn[draw])
        is_best = np.diff(least, prepend=np.inf) < 0
        x, y = np.log(flops[is_best]), least[is_best]
        return np.exp(np.interp(np.log(wanted), x, y, left=np.nan, right=np.nan))

    return at


def _gains(base: Frontier, arm: Frontier, draw: int, budgets: np.ndarray, arm_flops: np.ndarray) -> np.ndarray:
    """C_base / C_arm at the base's losses; NaN where the arm's frontier does not have them."""
    wanted = np.log(base(draw, budgets))
    grid = np.geomspace(arm_flops.min() / REACH, arm_flops.max() * REACH, GRID)
    losses = np.log(arm(draw, grid))
    known = np.isfinite(losses)
    if not known.any():
        return np.full(len(budgets), np.nan)
    # np.interp wants rising x: losses fall along the frontier.
    log_flops = np.interp(-wanted, -losses[known], np.log(grid[known]), left=np.nan, right=np.nan)
    return budgets / np.exp(log_flops)
