"""What ``results.json`` says of several models: comparisons on the same items, corrected, and one sentence of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lst.evaluation.accuracy import HEADLINE, direction_scores, holm
from lst.evaluation.results import DIRECTIONS, ClozeRow, ItemRow
from lst.evaluation.summary import ScoredModel, run_results

NUM_ITEMS = 60


def scored(name: str, strategy: str, rights: dict[str, int], first: int = 0, controls: Any = None) -> ScoredModel:
    """A model that answers the first questions of each direction rightly, so many as ``rights`` says."""
    rows: list[ItemRow] = []
    for direction in DIRECTIONS:
        for number in range(first, NUM_ITEMS):
            is_right = number < rights[direction]
            for ending in range(2):
                is_true = ending == number % 2
                rows.append(
                    {
                        "item": f"q{number}",
                        "stratum": ("name", "topic")[number % 2],
                        "direction": direction,
                        "ending": ending,
                        "is_true": is_true,
                        "nats": -1.0 if is_true == is_right else -2.0,
                        "swapped_nats": -1.5,
                        "alone_nats": -1.5,
                        "num_tokens": 2,
                        "num_bytes": 9,
                    }
                )
    cloze: list[ClozeRow] = [
        {
            "utterance": f"u{number}",
            "other": "x",
            "direction": direction,
            "true_nats": -4.0,
            "true_tokens": 4,
            "false_nats": -3.0,
            "false_tokens": 2,
        }
        for direction in DIRECTIONS
        for number in range(10)
    ]
    accuracy = {"accuracy": 1.0, "low": 1.0, "high": 1.0}
    result: Any = {
        "name": name,
        "strategy": strategy,
        "bits": {"bits_per_unit": 4.0, "bits_per_byte": 2.0, "num_units": 100, "num_bytes": 50},
        "questions": direction_scores(rows, 200, 0),
        "cloze": {direction: {"num_items": 10, "sum": accuracy, "mean": accuracy} for direction in DIRECTIONS},
        "controls": {"questions": controls or {}},
    }
    return ScoredModel(result, rows, cloze)


def control(accuracy: float, p_holm: float, missing: str = "") -> dict[str, Any]:
    found = {"num_items": NUM_ITEMS, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
    return {
        "chooses": "the longest",
        "directions": ["S→S"],
        "missing": missing,
        "p_value": p_holm,
        "p_holm": p_holm,
        "strata": {} if missing else {"all": found},
    }


FAIR = {"rate": control(0.52, 1.0), "longest": control(0.5, 1.0)}
CUE = {**FAIR, "rate": control(0.7, 0.01)}
SILENT = {**FAIR, "level": control(0, 1, "no audio")}
LOW = {"S→S": 31, "T→T": 31, "S→T": 31, "T→S": 31}
HIGH = {"S→S": 55, "T→T": 31, "S→T": 10, "T→S": 33}


def summary(*models: ScoredModel, speech: str = "simulated speech") -> Any:
    return run_results(models, "stories", speech, "f00", 500, 0)


def test_models_are_compared_on_the_same_questions_with_the_baseline() -> None:
    # The baseline need not come first. The other one was asked fewer questions.
    found = summary(scored("static", "static", HIGH, first=4, controls=FAIR), scored("plain", "none", LOW))
    assert [(one["first"], one["second"], one["direction"]) for one in found["comparisons"]] == [
        ("plain", "static", direction) for direction in DIRECTIONS
    ]
    by_direction = {one["direction"]: one for one in found["comparisons"]}
    assert {one["num_items"] for one in found["comparisons"]} == {56}
    assert by_direction["S→S"]["difference"] == pytest.approx(24 / 56)
    assert by_direction["S→T"]["difference"] == pytest.approx(-21 / 56)
    assert by_direction["S→S"]["low"] > 0 > by_direction["S→T"]["high"]
    # McNemar by hand: 24 questions of which one model alone is right.
    assert by_direction["S→S"]["p_value"] == pytest.approx(2 * 0.5**24)
    assert by_direction["S→S"]["p_holm"] == pytest.approx(4 * 2 * 0.5**24)
    assert holm([one["p_value"] for one in found["comparisons"]]) == [one["p_holm"] for one in found["comparisons"]]
    assert found["verdict"] == (
        "On simulated speech, static beats plain on S→S, loses to plain on S→T and is not distinguishable from plain "
        "on T→T and T→S (paired on the same 56 questions, Holm-corrected); spoken endings after speech are chosen by "
        "content at 91.1 % (static, 92.9 % where only the name differs) and at chance (plain)."
    )


def test_models_that_compare_alike_share_a_clause() -> None:
    found = summary(scored("plain", "none", LOW), scored("a", "static", LOW), scored("b", "aligned", LOW))
    assert found["verdict"] == (
        "On simulated speech, a and b are not distinguishable from plain in any direction (paired on the same 60 "
        "questions, Holm-corrected); no model chooses spoken endings after speech better than chance."
    )


@pytest.mark.parametrize(
    ("controls", "speech", "told"),
    [
        (
            {**FAIR, "rate": control(0.7, 0.01)},
            "recordings",
            "at 91.7 % {}, and without content by rate alone at 70.0 %.",
        ),
        (FAIR, "recordings", "by content at 91.7 % {}."),
        (
            {**FAIR, "level": control(0, 1, "no audio")},
            "recordings",
            "{}, by content or not: level could not be measured.",
        ),
        ({**FAIR, "level": control(0, 1, "no audio")}, "simulated speech", "by content at 91.7 % {}."),
        ({}, "recordings", "{}, by content or not: no control was measured."),
    ],
)
def test_a_verdict_says_content_only_where_controls_are_at_chance(controls: Any, speech: str, told: str) -> None:
    found = summary(scored("static", "static", HIGH, controls=controls), speech=speech)
    assert found["verdict"].startswith(f"On {speech}, static is above chance on S→S (60 questions); ")
    assert found["verdict"].endswith(told.format("(static, 93.3 % where only the name differs)"))
    assert {one["name"] for one in found["missing_controls"]} == {name for name in controls if name == "level"}


def test_results_have_the_headline_score_its_strata_and_the_mean() -> None:
    found = summary(scored("static", "static", HIGH, controls=FAIR))
    assert found["version"] == 1
    assert found["speech"] == "simulated speech"
    (model,) = found["models"]
    for direction, own in model["directions"].items():
        assert (own["stratum"], own["score"]) == ("all", HEADLINE[direction])
        assert own["accuracy"] == pytest.approx(HIGH[direction] / NUM_ITEMS)
        assert own["low"] <= own["accuracy"] <= own["high"]
        assert own["mean"]["accuracy"] == pytest.approx(HIGH[direction] / NUM_ITEMS)
        assert np.mean([own["strata"][name]["accuracy"] for name in ("name", "topic")]) == pytest.approx(
            own["accuracy"]
        )
    assert {one["name"]: one["accuracy"] for one in found["controls"]} == {"rate": 0.52, "longest": 0.5}


def test_without_questions_cloze_items_are_compared_by_the_mean() -> None:
    models = [scored("plain", "none", LOW), scored("static", "static", LOW)]
    del models[1].result["questions"]  # type: ignore[typeddict-item]
    found = summary(*models)
    assert found["items"] == "cloze"
    # −1 a token for the true endings, −1.5 for the false ones.
    assert models[0].credits("cloze", "S→S") == {f"u{number}": 1.0 for number in range(10)}
    assert {one["num_items"] for one in found["comparisons"]} == {10}
    assert "10 cloze items" in found["verdict"]
    assert found["models"][0]["directions"]["T→S"]["score"] == "mean"
