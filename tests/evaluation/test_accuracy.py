"""Accuracies from rows of log-likelihoods: normalisations, ties, strata, intervals, paired tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lst.evaluation.accuracy import (
    ALL,
    HEADLINE,
    NORMALISATIONS,
    direction_scores,
    item_credits,
    mcnemar,
    paired_difference,
)
from lst.evaluation.results import ItemRow


def rows_of(item: str, endings: list[tuple[float, float, float, int, int]], label: int = 0, **changed) -> list[ItemRow]:
    """Rows of an item, each ending as (nats, swapped, alone, tokens, bytes)."""
    return [
        {
            "item": item,
            "stratum": "",
            "direction": "T→T",
            "ending": number,
            "is_true": number == label,
            "nats": nats,
            "swapped_nats": swapped,
            "alone_nats": alone,
            "num_tokens": tokens,
            "num_bytes": num_bytes,
            **changed,
        }
        for number, (nats, swapped, alone, tokens, num_bytes) in enumerate(endings)
    ]


def test_each_normalisation_divides_and_subtracts_as_it_says():
    # By hand: sum −6 < −5; a token −2 > −2.5; a byte −0.6 < −0.5; mi 1 < 2; swap 3 > 0.
    rows = rows_of("a", [(-6.0, -9.0, -7.0, 3, 10), (-5.0, -5.0, -7.0, 2, 10)])
    assert {name: item_credits(rows, name)["a"] for name in NORMALISATIONS} == {
        "sum": 0.0,
        "mean": 1.0,
        "byte": 0.0,
        "mi": 0.0,
        "swap": 1.0,
    }


def test_swap_is_the_two_by_two_comparison():
    # ln p(e|c) + ln p(e'|c') against ln p(e|c') + ln p(e'|c).
    draw = np.random.default_rng(0)
    for _ in range(100):
        own, own_swapped, false, false_swapped = draw.normal(size=4)
        rows = rows_of("a", [(own, own_swapped, 0, 1, 1), (false, false_swapped, 0, 1, 1)])
        assert item_credits(rows, "swap")["a"] == float(own + false_swapped > own_swapped + false)


def test_ties_and_empty_endings_share_the_credit():
    four = [(-1.0, 0.0, 0.0, 1, 1)] * 4
    assert item_credits(rows_of("a", four), "sum") == {"a": 0.25}
    assert item_credits(rows_of("a", [*four[:2], (-2.0, 0, 0, 1, 1)]), "sum") == {"a": 0.5}
    assert item_credits(rows_of("a", [(-2.0, 0, 0, 1, 1), *four[:2]]), "sum") == {"a": 0.0}
    assert item_credits(rows_of("a", [(0.0, 0, 0, 0, 1), (-9.0, 0, 0, 1, 1)]), "sum") == {"a": 0.5}


@given(st.data())
def test_order_of_rows_and_endings_changes_nothing(data):
    num_endings = data.draw(st.integers(2, 4))
    label = data.draw(st.integers(0, num_endings - 1))
    numbers = st.integers(-5, 5).map(float)
    endings = [(*data.draw(st.tuples(numbers, numbers, numbers)), 2, 3) for _ in range(num_endings)]
    rows = rows_of("a", endings, label) + rows_of("b", endings[::-1], num_endings - 1 - label)
    shuffled = data.draw(st.permutations(rows))
    for name in NORMALISATIONS:
        credits = item_credits(rows, name)
        assert credits["a"] == credits["b"]
        assert item_credits(shuffled, name) == credits


@pytest.mark.parametrize("num_endings", [2, 4])
def test_an_oracle_is_always_right_and_a_constant_at_chance(num_endings):
    oracle, constant = [], []
    for number in range(40):
        label = number % num_endings
        right = [(0.0 if ending == label else -1.0, -1.0, -1.0, 1, 1) for ending in range(num_endings)]
        oracle += rows_of(f"i{number}", right, label)
        constant += rows_of(f"i{number}", [(-3.0, -3.0, -3.0, 1, 1)] * num_endings, label)
    for rows, expected in ((oracle, 1.0), (constant, 1 / num_endings)):
        score = direction_scores(rows, 200, 0)["T→T"]["strata"][ALL]
        for name in NORMALISATIONS:
            assert score[name] == {"accuracy": expected, "low": expected, "high": expected}


def test_strata_are_scored_apart_and_together():
    rows = rows_of("a", [(0.0, 0, 0, 1, 1), (-1.0, 0, 0, 1, 1)], stratum="name")
    rows += rows_of("b", [(-1.0, 0, 0, 1, 1), (0.0, 0, 0, 1, 1)], stratum="topic")
    rows += rows_of("c", [(0.0, 0, 0, 1, 1), (-1.0, 0, 0, 1, 1)], stratum="topic")
    found = direction_scores(rows, 200, 0)
    assert list(found) == ["T→T"]
    strata = found["T→T"]["strata"]
    assert found["T→T"]["headline"] == HEADLINE["T→T"] == "mean"
    assert {name: (own["num_items"], own["sum"]["accuracy"]) for name, own in strata.items()} == {
        ALL: (3, pytest.approx(2 / 3)),
        "name": (1, 1.0),
        "topic": (2, 0.5),
    }


def test_intervals_cover_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        rows = [
            row
            for n in range(100)
            for row in rows_of(f"{n}", [(float(draw.random() < 0.7), 0, 0, 1, 1), (0.5, 0, 0, 1, 1)])
        ]
        found = direction_scores(rows, 300, trial)["T→T"]["strata"][ALL]["sum"]
        covered += found["low"] <= 0.7 <= found["high"]
    assert 180 <= covered <= 199


def test_paired_intervals_are_narrower_than_those_of_two_models():
    draw = np.random.default_rng(2)
    first = (draw.random(400) < 0.6).astype(float)
    # The second model is right wherever the first is, and at a tenth of the others.
    second = np.where(first == 1, 1.0, (draw.random(400) < 0.1).astype(float))
    found = paired_difference(first, second, 2000, 0)
    assert 0 < found["low"] <= found["accuracy"] <= found["high"] < 0.08
    assert found["accuracy"] == pytest.approx(second.mean() - first.mean())


def test_mcnemar_is_the_exact_binomial_test():
    # scipy.stats.binomtest(3, 12).pvalue and (0, 6).
    first = np.array([1.0] * 3 + [0.0] * 9 + [1.0] * 50 + [0.5])
    second = np.array([0.0] * 3 + [1.0] * 9 + [1.0] * 50 + [0.0])
    assert mcnemar(first, second) == pytest.approx(0.14599609375)
    assert mcnemar(np.zeros(6), np.ones(6)) == pytest.approx(0.03125)
    assert mcnemar(np.ones(9), np.ones(9)) == 1.0
