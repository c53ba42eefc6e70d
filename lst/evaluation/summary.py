"""What an evaluation of several models says: accuracies, comparisons and controls as ``results.json``, and a verdict.

::

    eval/NAME.json and its rows ──ScoredModel──▶ run_results ──▶ RunResults, with one sentence made of its numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lst.data.prepared import SIMULATED_SPEECH
from lst.evaluation.accuracy import (
    ALL,
    HEADLINE,
    SIGNIFICANT,
    credits_of,
    holm,
    item_credits,
    mcnemar,
    paired_difference,
)
from lst.evaluation.results import (
    DIRECTIONS,
    NO_CLOZE,
    Accuracy,
    ClozeRow,
    ClozeScore,
    Comparison,
    Direction,
    DirectionScore,
    DirectionSummary,
    EvalResult,
    ItemKind,
    ItemRow,
    ModelSummary,
    RunResults,
    StratumSummary,
)

CHANCE = 0.5
# The stratum that stands for a model where the questions have it.
OVERALL = "story"


@dataclass(frozen=True)
class ScoredModel:
    """A model's evaluation, with the rows of its questions and cloze items."""

    result: EvalResult
    questions: Sequence[ItemRow]
    cloze: Sequence[ClozeRow]

    @property
    def name(self) -> str:
        """Within the run."""
        return self.result["name"]

    def credits(self, kind: ItemKind, direction: Direction) -> dict[str, float]:
        """Which items it answers rightly by the headline score: 1, 0, or a share in a tie."""
        if kind == "questions":
            return item_credits([row for row in self.questions if row["direction"] == direction], HEADLINE[direction])
        rows = [row for row in self.cloze if row["direction"] == direction]
        scores = np.array([[row["true_nats"], row["false_nats"]] for row in rows]).reshape(-1, 2)
        counts = np.array([[row["true_tokens"], row["false_tokens"]] for row in rows]).reshape(-1, 2)
        means = np.where(counts.min(axis=1, keepdims=True) == 0, np.nan, scores / np.maximum(counts, 1))
        items = [row["utterance"] for row in rows]
        return credits_of(np.repeat(items, 2).tolist(), means.ravel(), [True, False] * len(rows))


def run_results(
    models: Sequence[ScoredModel], corpus: str, speech: str, data: str, num_samples: int, seed: int
) -> RunResults:
    """All that ``results.json`` says of evaluated models, one or more.

    Args:
        models: in the order of the page.
        corpus: description of the data.
        speech: what its speech is called.
        data: its fingerprint.
        num_samples: resamples of the paired intervals.
        seed: of the resampling.
    """
    # Numbers of different items do not compare: where one model was asked no questions, cloze counts for all.
    kind: ItemKind = "questions" if all(model.result.get("questions") for model in models) else "cloze"
    is_asked = kind == "questions" or any(model.result["cloze"] for model in models)
    scores = HEADLINE if kind == "questions" else dict.fromkeys(HEADLINE if is_asked else (), "mean")
    controls = models[0].result.get("controls", {}).get(kind, {})
    found: RunResults = {
        "version": 1,
        "verdict": "",
        "score": ", ".join(f"{direction} by {score}" for direction, score in scores.items()),
        "items": kind,
        "chance": CHANCE,
        "corpus": corpus,
        "speech": speech,
        "data": data,
        "models": [model_summary(model.result, kind) for model in models],
        "comparisons": compare_models(models, kind, num_samples, seed),
        "controls": [
            {
                "name": name,
                "chooses": score["chooses"],
                "directions": score["directions"],
                "p_value": score["p_value"],
                "p_holm": score["p_holm"],
                **score["strata"][ALL],
                "strata": {stratum: own for stratum, own in score["strata"].items() if stratum != ALL},
            }
            for name, score in controls.items()
            if score["strata"]
        ],
        "missing_controls": [
            {"name": name, "reason": score["missing"]} for name, score in controls.items() if score["missing"]
        ],
    }
    return {**found, "verdict": verdict(found)}


def model_summary(result: EvalResult, kind: ItemKind) -> ModelSummary:
    """Accuracies of a model on its questions or on its cloze items, none where it was asked none, and its bits."""
    directions: dict[Direction, DirectionSummary] = (
        {direction: _cloze_summary(result["cloze"][direction]) for direction in DIRECTIONS if result["cloze"]}
        if kind == "cloze"
        else {direction: direction_summary(result["questions"][direction]) for direction in DIRECTIONS}
    )
    return {
        "name": result["name"],
        "strategy": result["strategy"],
        "directions": directions,
        "bits": result["bits"],
    }


def _cloze_summary(found: ClozeScore) -> DirectionSummary:
    own = _stratum_summary(found["num_items"], found["mean"], found["mean"])
    return {**own, "stratum": ALL, "score": "mean", "strata": {}}


def direction_summary(found: DirectionScore) -> DirectionSummary:
    """Accuracies of a direction by its headline score."""
    score = found["headline"]
    own = {
        stratum: _stratum_summary(values["num_items"], values[score], values["mean"])  # type: ignore[literal-required]
        for stratum, values in found["strata"].items()
    }
    # What a random false ending shows counts, not a mixture of easy and hard ones.
    chosen = OVERALL if OVERALL in own else ALL
    strata = {stratum: summary for stratum, summary in own.items() if stratum != chosen}
    return {**own[chosen], "stratum": chosen, "score": score, "strata": strata}


def _stratum_summary(num_items: int, headline: Accuracy, mean: Accuracy) -> StratumSummary:
    return {"num_items": num_items, **headline, "mean": mean}


def baseline_of(models: Sequence[ScoredModel]) -> ScoredModel:
    """The model that others are compared with: the first without patches, or else the first."""
    return next((model for model in models if model.result["strategy"] == "none"), models[0])


def compare_models(models: Sequence[ScoredModel], kind: ItemKind, num_samples: int, seed: int) -> list[Comparison]:
    """Each further model against the baseline in each direction, on the items that both were asked.

    P-values are McNemar's, corrected together by Holm's method.
    """
    baseline = baseline_of(models)
    found: list[Comparison] = []
    for model in models:
        for direction in DIRECTIONS if model is not baseline else ():
            first, second = baseline.credits(kind, direction), model.credits(kind, direction)
            shared = [item for item in first if item in second]
            if not shared:
                continue
            before, after = (np.array([own[item] for item in shared]) for own in (first, second))
            difference = paired_difference(before, after, num_samples, seed)
            found.append(
                {
                    "first": baseline.name,
                    "second": model.name,
                    "direction": direction,
                    "num_items": len(shared),
                    "difference": difference["accuracy"],
                    "low": difference["low"],
                    "high": difference["high"],
                    "p_value": mcnemar(before, after),
                    "p_holm": 1.0,
                }
            )
    corrected = holm([comparison["p_value"] for comparison in found])
    return [{**comparison, "p_holm": p_value} for comparison, p_value in zip(found, corrected, strict=True)]


def verdict(found: RunResults) -> str:
    """One sentence made of the numbers of a run."""
    if not any(model["directions"] for model in found["models"]):
        costs = listed([f"{model['bits']['bits_per_unit']:.3f} ({model['name']})" for model in found["models"]])
        return f"On {found['speech']}, held-out speech costs {costs} bits a unit; {NO_CLOZE}."
    found = {**found, "models": [model for model in found["models"] if model["directions"]]}
    counts = [one["num_items"] for one in found["comparisons"]]
    counts = counts or [found["models"][0]["directions"]["S→S"]["num_items"]]
    asked = f"{min(counts):,} {'questions' if found['items'] == 'questions' else 'cloze items'}"
    if found["comparisons"]:
        told = f"{_against_baseline(found['comparisons'])} (paired on the same {asked}, Holm-corrected)"
    else:
        told = "; ".join(_against_chance(model) for model in found["models"]) + f" ({asked})"
    return f"On {found['speech']}, {told}; {_of_spoken_endings(found)}."


def _against_baseline(comparisons: Sequence[Comparison]) -> str:
    """How the further models compare with the baseline: ``static beats baseline on T→T and is not …``."""
    by_model: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_model.setdefault(comparison["second"], []).append(comparison)
    # Models of which the same holds share a clause.
    alike: dict[tuple[tuple[Direction, int], ...], list[str]] = {}
    for name, own in by_model.items():
        alike.setdefault(tuple((one["direction"], _order(one)) for one in own), []).append(name)
    return "; ".join(_clause(names, orders, comparisons[0]["first"]) for orders, names in alike.items())


def _clause(names: Sequence[str], orders: Sequence[tuple[Direction, int]], baseline: str) -> str:
    is_one = len(names) == 1
    better, worse, same = (listed([direction for direction, own in orders if own == order]) for order in (1, -1, 0))
    where = f"on {same}" if better or worse else "in any direction"
    parts = [
        *([f"beat{'s' * is_one} {baseline} on {better}"] if better else []),
        *([f"lose{'s' * is_one} to {baseline} on {worse}"] if worse else []),
        *([f"{'is' if is_one else 'are'} not distinguishable from {baseline} {where}"] if same else []),
    ]
    return f"{listed(names)} {listed(parts)}"


def _order(comparison: Comparison) -> int:
    """1 where the second model is surely better, −1 where it is surely worse, 0 where that is not known."""
    if comparison["p_holm"] >= SIGNIFICANT:
        return 0
    return 1 if comparison["difference"] > 0 else -1


def _against_chance(model: ModelSummary) -> str:
    above = [direction for direction, found in model["directions"].items() if found["low"] > CHANCE]
    return f"{model['name']} is above chance on {listed(above)}" if above else f"{model['name']} is at chance"


def _of_spoken_endings(found: RunResults) -> str:
    """At how many per cent spoken endings after speech are chosen, and whether anything but content tells them."""
    scores = {model["name"]: model["directions"]["S→S"] for model in found["models"]}
    if not any(score["low"] > CHANCE for score in scores.values()):
        return "no model chooses spoken endings after speech better than chance"
    shares = listed([_share(name, score) for name, score in scores.items()])
    cues = [control for control in found["controls"] if control["p_holm"] < SIGNIFICANT]
    if cues:
        told = listed([f"{cue['name']} alone at {_percent(cue['accuracy'])}" for cue in cues])
        return f"spoken endings after speech are chosen {shares}, and without content by {told}"
    measured = {control["name"] for control in found["controls"]}
    unknown = [one["name"] for one in found["missing_controls"] if one["name"] not in measured]
    if found["controls"] and (not unknown or found["speech"] == SIMULATED_SPEECH):
        return f"spoken endings after speech are chosen by content {shares}"
    why = f"{listed(unknown)} could not be measured" if unknown else "no control was measured"
    return f"spoken endings after speech are chosen {shares}, by content or not: {why}"


def _share(model: str, found: DirectionSummary) -> str:
    """``at 91.2 % (static, 78.0 % where only the name differs)``; ``at chance (static)`` where it is not above it."""
    if found["low"] <= CHANCE:
        return f"at chance ({model})"
    names = found["strata"].get("name")
    of_names = f", {_percent(names['accuracy'])} where only the name differs" if names else ""
    return f"at {_percent(found['accuracy'])} ({model}{of_names})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; empty for nothing."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
