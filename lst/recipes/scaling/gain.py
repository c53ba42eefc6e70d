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
# Of the draws: fewer, and the arm does not reach the loss for sure.
MIN_SHARE_REACHED = 0.95


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
    def replicate_squares(self) -> tuple[float, int]:
        """Squares of log losses around the means of their cells, and their degrees of freedom."""
        _, means, sizes = self.cell_means
        places = np.unique(self.cells, return_inverse=True)[1].reshape(-1)
        return float((np.log(self.losses / means[places]) ** 2).sum()), int((sizes - 1).sum())


# Losses at some FLOPs of one draw; NaN where there are none. The first draw is the estimate itself.
Frontier = Callable[[int, np.ndarray], np.ndarray]


def compute_gain(base: Runs, arm: Runs, loss: str, num_samples: int, seed: int) -> GainRecord:
    """The gain over the base's range of FLOPs, with bootstrap intervals."""
    by_law = base.samples is not None and arm.samples is not None
    num_draws = min(len(base.samples), len(arm.samples)) if by_law else num_samples  # type: ignore[arg-type]
    squares = sum(runs.replicate_squares[0] for runs in (base, arm))
    degrees = sum(runs.replicate_squares[1] for runs in (base, arm))
    generator = np.random.default_rng(seed)
    # The noise of a few replicates is itself uncertain: its draws make the intervals those of Student's t.
    sds = np.sqrt(squares / generator.chisquare(degrees, num_samples)) if degrees else np.zeros(num_samples)
    frontiers = [_law_frontier(runs) if by_law else _envelope(runs, sds, generator) for runs in (base, arm)]
    budgets = np.geomspace(base.flops.min(), base.flops.max(), NUM_GAINS)
    if not by_law and not degrees:
        num_draws = 0
    gains = np.array([_gains(frontiers[0], frontiers[1], draw, budgets, arm.flops) for draw in range(num_draws + 1)])
    losses = frontiers[0](0, budgets)
    ends = frontiers[1](0, np.array([arm.flops.min(), arm.flops.max()]))
    inside = (losses <= np.nanmax(ends)) & (losses >= np.nanmin(ends)) & np.isfinite(gains[0])
    inside &= np.isfinite(gains).mean(0) >= MIN_SHARE_REACHED
    points = [
        GainPoint(
            base_flops=float(budgets[place]),
            loss=float(losses[place]),
            gain=_interval(gains[:, place]),
            is_extrapolated=not inside[place],
        )
        for place in np.flatnonzero(np.isfinite(gains[0]))
    ]
    logs = np.log(gains[:, inside])
    counts = np.isfinite(logs).sum(1)
    means = np.exp(np.nansum(logs, 1) / np.where(counts, counts, np.nan))
    return GainRecord(
        arm=arm.arm,
        base=base.arm,
        loss=loss,
        frontier="law" if by_law else "envelope",
        overall=_interval(means) if inside.any() else None,
        points=points,
    )


def _interval(draws: np.ndarray) -> Interval:
    """The first draw, and the interval of the others, of which a few may not reach the loss."""
    others = draws[1:]
    known = others[np.isfinite(others)]
    return percentile_interval(float(draws[0]), known if len(known) >= MIN_SHARE_REACHED * len(others) else others)


def _law_frontier(runs: Runs) -> Frontier:
    law, formula, samples = runs.law, runs.formula, runs.samples
    assert law is not None
    assert formula is not None
    assert samples is not None
    draws = np.concatenate([law.theta[None], samples])
    return lambda draw, flops: best_losses(law, formula, draws[draw : draw + 1], flops)[0]


def _envelope(runs: Runs, sds: np.ndarray, generator: np.random.Generator) -> Frontier:
    """The runs that no other beats for less compute, joined by lines in logarithms.

    Args:
        runs: of an arm.
        sds: [S], noise of log losses in each draw; the mean of k replicates has 1/√k of it.
        generator: of the noise.
    """
    flops, losses, sizes = runs.cell_means
    order = np.argsort(flops, kind="stable")
    flops, losses, sizes = flops[order], losses[order], sizes[order]
    noise = np.append(0.0, sds)[:, None] / np.sqrt(sizes) * generator.standard_normal((len(sds) + 1, len(losses)))
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
