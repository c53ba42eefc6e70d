"""How much repeated data is worth: losses whose effective data is known."""

from __future__ import annotations

import numpy as np

from lst.recipes.reproduce.repetition import NUM_SAMPLES, repetition_records

UNIQUE, DECAY, NOISE = 1e5, 6.0, 0.002


def row(arm: str, tokens: float, effective: float, error: float = 0.0) -> dict[str, str | float]:
    loss = (1.2 + 300 * effective**-0.5) * np.exp(error)
    return {"arm": arm, "size": "m", "D": tokens, "D_units": 0.8 * tokens, "speech_bits": float(loss)}


def rows(decay: float, seed: int = 0) -> tuple[list[dict[str, str | float]], list[dict[str, str | float]]]:
    """Fresh and repeated models of equal budgets."""
    errors = iter(NOISE * np.random.default_rng(seed).standard_normal(100))
    budgets = UNIQUE * np.array([0.5, 1, 2, 4, 8, 16])
    fresh = [row("baseline", budget, budget, next(errors)) for budget in budgets]
    repeats = np.maximum(budgets / UNIQUE - 1, 0)
    worth = np.minimum(budgets, UNIQUE * (1 - decay * np.expm1(-repeats / decay)))
    repeated = [row("baseline", *pair, next(errors)) for pair in zip(budgets[2:], worth[2:], strict=True)]
    return fresh, repeated


def test_the_decay_of_repeated_data_is_found_with_its_interval() -> None:
    fresh, repeated = rows(DECAY)
    (found,) = repetition_records(fresh, repeated, round(0.8 * UNIQUE), {"baseline": NOISE}, 0)
    assert found["decay"] is not None
    assert found["decay"]["low"] is not None
    assert found["decay"]["high"] is not None
    assert found["decay"]["low"] < DECAY < found["decay"]["high"] < 3 * DECAY
    assert [round(one["passes"]) for one in found["models"]] == [2, 4, 8, 16]
    for one in found["models"]:
        assert one["effective"] is not None
        assert one["effective"]["value"] < 1.1 * one["D"]
        assert one["fresh_loss"] is not None
        assert one["fresh_loss"] < one["loss"] * 1.01


def test_losses_outside_of_what_was_trained_are_not_guessed() -> None:
    fresh, repeated = rows(DECAY)
    repeated[0]["speech_bits"], repeated[1]["speech_bits"] = 9.0, 1.0
    repeated[2]["size"] = "other"
    (found,) = repetition_records(fresh, repeated, round(0.8 * UNIQUE), {}, 0)
    assert [one["effective"] is None for one in found["models"]] == [True, True, False, True]
    assert found["decay"] is None, "one model tells no decay"
    assert repetition_records(fresh, [], 1, {}, 0) == []
    assert NUM_SAMPLES >= 200


def test_arms_are_compared_with_themselves() -> None:
    arms = ("baseline", "static-4")
    fresh, repeated = rows(DECAY)
    both = [{**one, "arm": arm} for one in fresh for arm in arms]
    found = repetition_records(both, [{**one, "arm": arm} for one in repeated for arm in arms], 80_000, {}, 0)
    assert [one["arm"] for one in found] == list(arms)
    assert all(one["decay"] == found[0]["decay"] for one in found)
