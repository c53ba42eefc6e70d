"""IsoFLOP parabolas: of the points of one budget, the loss as a parabola over log N, and its minimum.

A parabola is not the shape of the law's section, which is steeper on the side of small models where α > β. On wide or
lopsided grids its minimum is therefore off (arXiv 2603.22339). The bias is shown: the same parabola through the law's
own losses, beside the law's true minimum.
"""

from __future__ import annotations

import numpy as np

from lst.recipes.scaling.formats import IsoFlopRecord, ParabolaRecord
from lst.recipes.scaling.frontier import FlopsFormula, best_sizes
from lst.recipes.scaling.law import Law

# Points whose FLOPs differ by less, as a factor, are of one budget.
SAME_BUDGET = 1.05
MIN_SIZES, MIN_A_SIDE, MIN_BUDGETS = 3, 2, 2


def budgets_of(flops: np.ndarray) -> list[np.ndarray]:
    """Places of the points of each budget, from the smallest; neighbours within a factor of 1.05 are joined."""
    order = np.argsort(flops, kind="stable")
    starts = np.flatnonzero(np.diff(np.log(flops[order])) > np.log(SAME_BUDGET)) + 1
    return np.split(order, starts)


def isoflop_record(law: Law, formula: FlopsFormula, flops: np.ndarray) -> IsoFlopRecord | None:
    """Parabolas of all budgets with three sizes or more; None where there are fewer than two such budgets.

    Args:
        law: of the same points.
        formula: of FLOPs.
        flops: [P], of the points.
    """
    sizes = law.points.num_parameters
    groups = [group for group in budgets_of(flops) if len(np.unique(sizes[group])) >= MIN_SIZES]
    if len(groups) < MIN_BUDGETS:
        return None
    records = [_parabola(law, formula, flops, group) for group in groups]
    return IsoFlopRecord(
        budgets=records,
        a=_exponent([(record["flops"], record["N_best"]) for record in records]),
        a_of_law=_exponent([(record["flops"], record["N_of_law"]) for record in records if record["N_best"]]),
    )


def _parabola(law: Law, formula: FlopsFormula, flops: np.ndarray, group: np.ndarray) -> ParabolaRecord:
    sizes, tokens = law.points.num_parameters[group], law.points.num_tokens[group]
    losses = law.points.losses[group]
    budget = float(np.exp(np.log(flops[group]).mean()))
    log_n = np.log(sizes)
    centre = float(np.unique(log_n).mean())
    coefficients, best, why_not = parabola_minimum(log_n - centre, losses)
    _, of_law, _ = parabola_minimum(log_n - centre, law.losses_at(sizes, tokens, law.theta[None])[0])
    best_n, _ = best_sizes(law, formula, law.theta[None], np.array([budget]))
    return ParabolaRecord(
        flops=budget,
        N=sizes.tolist(),
        losses=losses.tolist(),
        centre=centre,
        coefficients=coefficients.tolist(),
        N_best=None if best is None else float(np.exp(best + centre)),
        loss_best=None if best is None else float(np.polynomial.polynomial.polyval(best, coefficients)),
        N_law=float(best_n[0, 0]),
        N_of_law=None if of_law is None else float(np.exp(of_law + centre)),
        why_not=why_not,
    )


def parabola_minimum(x: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float | None, str]:
    """Coefficients [3] of 1, x, x² by least squares, the minimum, and why there is none.

    There is none where the parabola opens downwards, or where fewer than two different x lie on a side of it.
    """
    coefficients = np.polynomial.polynomial.polyfit(x, losses, 2)
    # A curvature within rounding of zero has no minimum to speak of.
    if coefficients[2] * np.ptp(x) ** 2 <= 1e-12 * np.abs(losses).max():
        return coefficients, None, "the parabola has no minimum"
    best = float(-0.5 * coefficients[1] / coefficients[2])
    different = np.unique(x)
    below, above = int((different < best).sum()), int((different > best).sum())
    if min(below, above) < MIN_A_SIDE:
        return (
            coefficients,
            None,
            f"{below} sizes are smaller than the minimum and {above} larger: 2 of each are needed",
        )
    return coefficients, best, ""


def _exponent(pairs: list[tuple[float, float | None]]) -> float | None:
    """a of N* ∝ C^a by least squares on logarithms; None with fewer than two minima."""
    known = [(np.log(flops), np.log(size)) for flops, size in pairs if size is not None]
    if len(known) < MIN_BUDGETS:
        return None
    x, y = np.array(known).T
    return float(np.polynomial.polynomial.polyfit(x - x.mean(), y, 1)[1])
