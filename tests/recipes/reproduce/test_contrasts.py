"""Crossed seed × item intervals and Holm's verdicts, on credits whose differences are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from lst.evaluation.accuracy import holm
from lst.recipes.reproduce.contrasts import Contrast, contrast, decide

SEEDS, ITEMS = 5, 1000


def credits_of(
    generator: np.random.Generator, gain: float, items: np.ndarray, seed_sd: float = 0.05, num_seeds: int = SEEDS
) -> np.ndarray:
    """Right and wrong answers [seeds, items] of models whose accuracy lies about ``gain`` above 0.6."""
    seeds = seed_sd * generator.standard_normal((num_seeds, 1))
    return (generator.random((num_seeds, len(items))) < expit(logit(0.6 + gain) + seeds + items)).astype(float)


def two_arms(seed: int, gain: float, num_seeds: int = SEEDS, seed_sd: float = 0.05) -> Contrast:
    generator = np.random.default_rng(seed)
    items = 0.8 * generator.standard_normal(ITEMS)
    # What an arm finds hard differs from item to item, too.
    own = [items + 0.3 * generator.standard_normal(ITEMS) for _ in range(2)]
    better, base = (credits_of(generator, one, own[n], seed_sd, num_seeds) for n, one in enumerate((gain, 0.0)))
    return contrast([(1.0, better), (-1.0, base)])


def test_five_points_more_hold() -> None:
    assert np.mean([two_arms(seed, 0.06).value for seed in range(40)]) == pytest.approx(0.05, abs=0.005)
    verdicts = [decide({"gain": two_arms(seed, 0.06)})["gain"].verdict for seed in range(40)]
    assert verdicts.count("holds") >= 36
    assert "does not hold" not in verdicts


def test_no_difference_is_called_as_seldom_as_promised() -> None:
    found = [decide({f"{n}": two_arms(10 * seed + n, 0.0) for n in range(4)}) for seed in range(100)]
    called = sum(any(one.verdict == "holds" for one in family.values()) for family in found)
    assert called <= 6, "families of four claims, none of which is true"


@pytest.mark.parametrize(("num_seeds", "seed_sd"), [(2, 0.05), (5, 0.05), (3, 0.4), (5, 0.4)])
def test_intervals_hold_the_true_difference(num_seeds: int, seed_sd: float) -> None:
    found = [two_arms(seed, 0.0, num_seeds, seed_sd).interval() for seed in range(300)]
    assert 0.92 <= np.mean([low <= 0.0 <= high for low, high in found]) <= 0.993


def test_seeds_that_differ_widen_the_interval_and_more_items_do_not_help() -> None:
    generator = np.random.default_rng(0)
    wide, narrow = (
        contrast([(1.0, credits_of(generator, 0.0, np.zeros(5000), sd)), (-1.0, np.full((5, 5000), 0.6))])
        for sd in (0.5, 0.0)
    )
    assert wide.error > 5 * narrow.error
    assert wide.degrees < 5


def test_a_difference_below_a_point_for_sure_does_not_hold() -> None:
    found = {
        "none": Contrast(0.0, 0.003, 200, ITEMS, SEEDS),
        "worse": Contrast(-0.05, 0.005, 50, ITEMS, SEEDS),
        "unknown": Contrast(0.01, 0.01, 50, ITEMS, SEEDS),
        "better": Contrast(0.05, 0.005, 50, ITEMS, SEEDS),
    }
    verdicts = {name: one.verdict for name, one in decide(found).items()}
    assert verdicts == {
        "none": "does not hold",
        "worse": "does not hold",
        "unknown": "not decided here",
        "better": "holds",
    }
    assert decide({}) == {}


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_leaves_zero_out_where_holms_test_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = {
        f"{n}": Contrast(float(value), 0.02, 30, ITEMS, SEEDS)
        for n, value in enumerate(generator.normal(0.04, 0.03, size=6))
    }
    decisions = decide(found)
    corrected = holm([one.p_value for one in found.values()])
    for one, p_holm in zip(decisions.values(), corrected, strict=True):
        assert one.p_holm == p_holm
        assert (one.low > 0 or one.high < 0) == (p_holm < 0.05)
