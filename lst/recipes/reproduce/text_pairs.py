"""Compares perplexities of models on the same texts, with seeds and texts as crossed random effects.

The mean nats a token of a group of seeds is a ratio: all nats over all tokens. Each seed and text stands in it with
its linear part,

    z(s, i) = R + (nats(s, i) − R · tokens(i)) / mean tokens,

whose mean over seeds and texts is R. So ``contrasts`` gives intervals of R, and of differences of two groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lst.recipes.reproduce.contrasts import Contrast, contrast, decide
from lst.recipes.reproduce.formats import TextPairRecord
from lst.recipes.scaling.formats import Interval

# Perplexity on OpenWebText at 125 M parameters: arXiv 2212.14052.
PUBLISHED = {"transformer": 20.6, "h3": 21.0, "hybrid": 19.6, "s4d": 24.9}


@dataclass(frozen=True)
class TextGroup:
    """The seeds of one model on the same texts.

    Attributes:
        nats: of each text, float [seeds, texts].
        tokens: of each text, float [texts].
    """

    nats: np.ndarray
    tokens: np.ndarray

    @property
    def nats_a_token(self) -> float:
        """Over all seeds and texts."""
        return float(self.nats.mean(axis=0).sum() / self.tokens.sum())

    @property
    def by_seed(self) -> list[float]:
        """Perplexity of each seed."""
        return [math.exp(nats / self.tokens.sum()) for nats in self.nats.sum(axis=1)]

    @property
    def parts(self) -> np.ndarray:
        """z(s, i), float [seeds, texts]."""
        ratio = self.nats_a_token
        return ratio + (self.nats - ratio * self.tokens) / self.tokens.mean()

    @property
    def can_vary(self) -> bool:
        """Whether there are enough seeds and texts for an interval."""
        return min(self.nats.shape) >= 2

    def perplexity(self) -> Interval:
        """With its 95 % interval."""
        value = math.exp(self.nats_a_token)
        if not self.can_vary:
            return {"value": value, "low": None, "high": None}
        low, high = contrast([(1.0, self.parts)]).interval()
        return {"value": value, "low": math.exp(low), "high": math.exp(high)}


def pairs_of(groups: Mapping[str, TextGroup]) -> list[TextPairRecord]:
    """Every pair of models; intervals are corrected for their number by Holm's method. None without two seeds each."""
    found: dict[str, Contrast] = {}
    names: dict[str, tuple[str, str]] = {}
    for first, second in combinations([name for name, group in groups.items() if group.can_vary], 2):
        key = f"{first} {second}"
        names[key] = first, second
        found[key] = contrast([(1.0, groups[first].parts), (-1.0, groups[second].parts)])
    decisions = decide(found)
    records = []
    for key, (first, second) in names.items():
        low, high = decisions[key].low, decisions[key].high
        ratio: Interval = {"value": math.exp(found[key].value), "low": math.exp(low), "high": math.exp(high)}
        records.append(
            TextPairRecord(
                first=first,
                second=second,
                ratio=ratio,
                p_holm=decisions[key].p_holm,
                better=second if low > 0 else first if high < 0 else "",
                published_better=_published_better(first, second),
            )
        )
    return records


def _published_better(first: str, second: str) -> str:
    if not {first, second} <= PUBLISHED.keys():
        return ""
    return first if PUBLISHED[first] < PUBLISHED[second] else second
