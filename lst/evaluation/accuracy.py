"""Accuracies from the log-likelihoods of endings, in five normalisations, with intervals.

================  ==================================================================================================
normalisation     score of an ending e given its context c, the highest of an item wins
================  ==================================================================================================
``sum``           ln p(e | c)
``mean``          ln p(e | c) a token: the published score of written and spoken endings
``byte``          ln p(e | c) a byte of the ending's text
``mi``            ln p(e | c) − ln p(e): relative to the ending without its context (mutual information)
``swap``          ln p(e | c) − ln p(e | c′), c′ another context: what a spoken ending costs by its sound cancels
================  ==================================================================================================

With two endings and c′ the context of the false one, ``swap`` compares ln p(e | c) + ln p(e′ | c′) with
ln p(e | c′) + ln p(e′ | c). Content is a small part of the bits of a spoken ending, so ``swap`` is the headline there;
it is ``mean`` for written endings. Both are chosen before anything is scored (``HEADLINE``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lst.evaluation.results import Accuracy, CountedAccuracy, DirectionScore, ItemRow, StratumScore

NORMALISATIONS = ("sum", "mean", "byte", "mi", "swap")
HEADLINE = {"S→S": "swap", "T→T": "mean", "S→T": "mean", "T→S": "swap"}
# Without a context there is nothing to swap, and directions that differ in the context's modality are one.
HEADLINE_ALONE = {"S→S": "mean", "T→T": "mean"}
# A p-value below it tells two models, or a control and chance, apart.
SIGNIFICANT = 0.05
# In place of the name of a stratum: all items.
ALL = "all"


def ending_scores(rows: Sequence[ItemRow], normalisation: str) -> np.ndarray:
    """The score of each row's ending, float64 [rows]."""
    nats = np.array([row["nats"] for row in rows])
    if normalisation == "mi":
        return nats - np.array([row["alone_nats"] for row in rows])
    if normalisation == "swap":
        return nats - np.array([row["swapped_nats"] for row in rows])
    if normalisation == "sum":
        return nats
    counts = np.array([row["num_tokens" if normalisation == "mean" else "num_bytes"] for row in rows])
    return nats / np.maximum(counts, 1)


def item_credits(rows: Sequence[ItemRow], normalisation: str) -> dict[str, float]:
    """By item: 1 where the true ending scores highest, 1/n in a tie of n endings, 0 otherwise.

    An item with an ending without tokens is a tie of all its endings: nothing can be said of it.

    >>> row = {"item": "a", "stratum": "", "direction": "T→T", "ending": 0, "is_true": True, "nats": -2.0,
    ...        "swapped_nats": -3.0, "alone_nats": -4.0, "num_tokens": 1, "num_bytes": 5}
    >>> item_credits([row, {**row, "ending": 1, "is_true": False, "nats": -2.5}], "sum")
    {'a': 1.0}
    """
    scores = ending_scores(rows, normalisation)
    scores[[row["num_tokens"] == 0 for row in rows]] = np.nan
    return credits_of([row["item"] for row in rows], scores, [row["is_true"] for row in rows])


def credits_of(items: Sequence[str], scores: np.ndarray, is_true: Sequence[bool]) -> dict[str, float]:
    """By item: 1 where the true ending scores highest, 1/n in a tie of n endings, 0 otherwise.

    Args:
        items: the item of each ending.
        scores: of each ending, float [endings]; where one is NaN, all endings of its item tie.
        is_true: whether an ending is the true one.
    """
    by_item: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_item.setdefault(item, []).append(index)
    true = np.asarray(is_true, bool)
    credits = {}
    for item, places in by_item.items():
        own = scores[places]
        is_best = (own == own.max()) | bool(np.isnan(own).any())
        credits[item] = float((is_best & true[places]).sum() / is_best.sum())
    return credits


def strata_accuracies(
    credits: Mapping[str, float], stratum_of: Mapping[str, str], num_samples: int, seed: int
) -> dict[str, CountedAccuracy]:
    """Accuracies of all items and of each stratum; nothing without items.

    Args:
        credits: by item.
        stratum_of: of each item; empty where items have none.
        num_samples, seed: of the resampling.
    """
    strata = [ALL, *sorted(set(stratum_of.values()) - {""})] if credits else []
    found: dict[str, CountedAccuracy] = {}
    for stratum in strata:
        values = np.array([value for item, value in credits.items() if stratum in (ALL, stratum_of[item])])
        found[stratum] = {"num_items": len(values), **accuracy(values, num_samples, seed)}
    return found


def headline_accuracy(score: DirectionScore, stratum: str) -> Accuracy:
    """The accuracy of a stratum by the headline score of its direction."""
    found: Mapping[str, Accuracy] = score["strata"][stratum]  # type: ignore[assignment]
    return found[score["headline"]]


def accuracy(values: np.ndarray, num_samples: int, seed: int) -> Accuracy:
    """The mean of credits, float [items], with its 95 % bootstrap interval over items."""
    low, high = bootstrap_interval(values, num_samples, seed)
    return {"accuracy": float(values.mean()), "low": low, "high": high}


def bootstrap_interval(values: np.ndarray, num_samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean, resampling items."""
    generator = np.random.default_rng([0xB007, seed])
    means = values[generator.integers(len(values), size=(num_samples, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(first: np.ndarray, second: np.ndarray, num_samples: int, seed: int) -> Accuracy:
    """Mean of ``second`` − ``first`` over the same items, with its 95 % bootstrap interval."""
    return accuracy(second - first, num_samples, seed)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided exact p-value of McNemar's test: items that only one of two models answers are as likely either way.

    Args:
        first, second: credits [items] of the same items; ties count as half an answer each and are left out.

    >>> mcnemar(np.array([1.0] * 8 + [0.0]), np.array([0.0] * 8 + [1.0]))
    0.0390625
    """
    wins = int(((first == 1) & (second == 0)).sum())
    losses = int(((first == 0) & (second == 1)).sum())
    total = wins + losses
    tail = sum(math.comb(total, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**total)


def off_chance(credits: np.ndarray, chance: float) -> float:
    """Two-sided exact p-value of right answers being as likely as by guessing.

    Args:
        credits: of items, float [items]; ties are left out.
        chance: the accuracy of guessing.

    >>> round(off_chance(np.array([1.0] * 8 + [0.0]), 0.5), 6), off_chance(np.array([1.0, 0.0, 0.0, 0.0]), 0.25)
    (0.039062, 1.0)
    """
    if chance == 0.5:
        return mcnemar(credits, 1 - credits)
    from scipy.stats import binomtest  # half a second, and most commands never ask for it

    num_right, num_wrong = int((credits == 1).sum()), int((credits == 0).sum())
    return float(binomtest(num_right, num_right + num_wrong, chance).pvalue) if num_right + num_wrong else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's method, in the same order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def direction_scores(
    rows: Sequence[ItemRow],
    num_samples: int,
    seed: int,
    headlines: Mapping[str, str] = HEADLINE,
    question_of: Callable[[str], str] = str,
) -> dict[str, DirectionScore]:
    """Accuracies of every direction that has rows: of all items and of each stratum, by every normalisation.

    Args:
        rows: of items.
        num_samples, seed: of the resampling.
        headlines: by direction.
        question_of: what an item asks; items of one question, in several voices, count as their mean.
    """
    found: dict[str, DirectionScore] = {}
    for direction, headline in headlines.items():
        chosen = [row for row in rows if row["direction"] == direction]
        if not chosen:
            continue
        strata = sorted({row["stratum"] for row in chosen} - {""})
        found[direction] = {
            "headline": headline,
            "strata": {
                stratum: _stratum_score(
                    [row for row in chosen if stratum in (ALL, row["stratum"])], num_samples, seed, question_of
                )
                for stratum in (ALL, *strata)
            },
        }
    return found


def _stratum_score(
    rows: Sequence[ItemRow], num_samples: int, seed: int, question_of: Callable[[str], str]
) -> StratumScore:
    def of(normalisation: str) -> Accuracy:
        by_question: dict[str, list[float]] = {}
        for item, credit in item_credits(rows, normalisation).items():
            by_question.setdefault(question_of(item), []).append(credit)
        return accuracy(np.array([sum(own) / len(own) for own in by_question.values()]), num_samples, seed)

    return {
        "num_items": len({question_of(row["item"]) for row in rows}),
        "sum": of("sum"),
        "mean": of("mean"),
        "byte": of("byte"),
        "mi": of("mi"),
        "swap": of("swap"),
    }
