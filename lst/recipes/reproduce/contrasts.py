"""Differences between trained models, with seeds and items as crossed random effects, and verdicts on claims.

Credits of a group of models (one arm, seeds s = 1 … S, items i = 1 … I) follow

    credit(s, i) = mean + seed(s) + item(i) + rest(s, i)

A contrast is a weighted sum of groups' means, over the same items. Its variance has a part of the items, which are the
same for all groups, and a part of each group's seeds. Both are estimated by the method of moments, and the interval is
Student's t with Satterthwaite's degrees of freedom. Resampling a handful of seeds would be too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from lst.evaluation.accuracy import holm

LEVEL = 0.95
# A claim does not hold where the difference is smaller than this for sure.
IRRELEVANT = 0.01
Verdict = Literal["holds", "does not hold", "not decided here"]


@dataclass(frozen=True)
class Contrast:
    """An estimated difference.

    Attributes:
        value: the estimate, in credits: 0.05 are five points.
        error: its standard error.
        degrees: of freedom.
        num_items, num_seeds: items, and seeds of the smallest group.
    """

    value: float
    error: float
    degrees: float
    num_items: int
    num_seeds: int

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.degrees))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Bounds that hold the true difference with this probability."""
        reach = float(stats.t.ppf((1 + level) / 2, self.degrees)) * self.error
        return self.value - reach, self.value + reach


def contrast(groups: Sequence[tuple[float, np.ndarray]]) -> Contrast:
    """The weighted sum of groups' means.

    Args:
        groups: weight and credits, float [seeds, items], of each; two or more seeds and items, the same items in all.

    >>> same = np.eye(4)[:2]
    >>> contrast([(1.0, same), (-1.0, same)]).value
    0.0
    """
    num_items = groups[0][1].shape[1]
    per_item = sum(weight * credits.mean(axis=0) for weight, credits in groups)
    of_items = float(np.var(per_item, ddof=1)) / num_items
    parts, degrees = [of_items], [num_items - 1.0]
    rest = 0.0
    for weight, credits in groups:
        num_seeds = len(credits)
        means = credits.mean(axis=1)
        parts.append(weight**2 * float(np.var(means, ddof=1)) / num_seeds)
        degrees.append(num_seeds - 1.0)
        residuals = credits - means[:, None] - credits.mean(axis=0) + credits.mean()
        mean_square = float((residuals**2).sum()) / ((num_seeds - 1) * (num_items - 1))
        # What neither seed nor item explains is in both parts; it counts once.
        rest += weight**2 * mean_square / (num_seeds * num_items)
    variance = max(sum(parts) - rest, *parts)
    squares = sum(part**2 / degree for part, degree in zip(parts, degrees, strict=True))
    return Contrast(
        value=float(np.mean(per_item)),
        error=float(np.sqrt(variance)),
        degrees=max(variance**2 / squares, 1.0) if squares else num_items - 1.0,
        num_items=num_items,
        num_seeds=min(len(credits) for _, credits in groups),
    )


@dataclass(frozen=True)
class Decision:
    """What a contrast says of a claim; bounds are corrected for the number of claims."""

    low: float
    high: float
    p_holm: float
    verdict: Verdict


def decide(found: Mapping[str, Contrast]) -> dict[str, Decision]:
    """A verdict on each of a family of claims that a difference is above zero.

    The interval of the claim with the k-th smallest p-value, of m, has the level 1 − 0.05 / (m − k + 1), as in Holm's
    method; after the first that holds zero, all have its level. So an interval leaves zero out where Holm's test does.
    """
    names = sorted(found, key=lambda name: found[name].p_value)
    corrected = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
    decisions, share = {}, (1 - LEVEL) / max(len(names), 1)
    for place, name in enumerate(names):
        if place == 0 or corrected[names[place - 1]] < 1 - LEVEL:
            share = (1 - LEVEL) / (len(names) - place)
        low, high = found[name].interval(1 - share)
        verdict: Verdict = "holds" if low > 0 else "does not hold" if high < IRRELEVANT else "not decided here"
        decisions[name] = Decision(low, high, corrected[name], verdict)
    return {name: decisions[name] for name in found}
