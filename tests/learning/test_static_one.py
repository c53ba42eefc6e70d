"""Patches of one unit learn what the baseline learns: ``make test-learning``, about two hours on two cores.

Such patches are the baseline's own positions, so what they lose is lost by the local modules or their optimisation.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from pathlib import Path

import pytest
from scipy.stats import t as student_t

from lst.cli import main
from lst.evaluation.results import read_result
from lst.parallel.commands import ChildCommand, run_commands
from lst.runs import RunFolder

SEEDS = (0, 1, 2)
STEPS = int(os.environ.get("LST_LEARNING_STEPS", "3800"))
STORIES = int(os.environ.get("LST_LEARNING_STORIES", "1200"))
ARMS = {
    "baseline": ["model=baseline_quickstart", "patching=none"],
    "static-1": ["model=lst_quickstart", "patching=static", "patching.static_size=1"],
}
pytestmark = pytest.mark.skipif(
    os.environ.get("LST_TEST_LEARNING") != "all", reason="six trainings of ten minutes: make test-learning"
)


def welch_interval(first: list[float], second: list[float]) -> tuple[float, float]:
    """95 % interval of the difference of two means, second less first, whose deviations may differ."""
    errors = [statistics.variance(values) / len(values) for values in (first, second)]
    error = sum(errors)
    freedom = error**2 / max(sum(one**2 / (len(first) - 1) for one in errors), 1e-12)
    half = float(student_t.ppf(0.975, max(freedom, 1.0))) * math.sqrt(error)
    middle = statistics.mean(second) - statistics.mean(first)
    return middle - half, middle + half


def copied_names(folder: Path, name: str) -> float:
    """Share of the questions whose false ending has another name that a model answers after a spoken context."""
    result = read_result(RunFolder(folder).eval_result(name))
    assert result is not None
    return result["questions"]["S→T"]["strata"]["name"]["swap"]["accuracy"]


def test_patches_of_one_unit_copy_spoken_names_as_the_baseline_does(tmp_path: Path) -> None:
    run = [f"run_dir={tmp_path}", f"data.num_spoken_stories={STORIES}"]
    assert main(["prepare", *run]) == 0
    commands = [
        ChildCommand(
            f"{arm}-{seed}",
            (
                sys.executable,
                "-m",
                "lst",
                "train",
                run[0],
                f"name={arm}-{seed}",
                f"seed={seed}",
                f"train.max_steps={STEPS}",
                *words,
            ),
            tmp_path / "logs" / f"{arm}-{seed}.log",
        )
        for seed in SEEDS
        for arm, words in ARMS.items()
    ]
    assert [done.last_line for done in run_commands(commands, 2, 1) if done.exit_code] == []
    assert main(["eval", run[0]]) == 0
    accuracies = {arm: [copied_names(tmp_path, f"{arm}-{seed}") for seed in SEEDS] for arm in ARMS}
    low, high = welch_interval(*accuracies.values())
    print(f"names, S→T by swapped contexts: {accuracies}; static-1 less baseline: {low:+.3f} to {high:+.3f}")
    assert statistics.mean(accuracies["baseline"]) > 0.6, "the baseline has not learnt to copy: nothing is compared"
    assert high >= 0, accuracies
    # Three seeds that differ much would let anything pass.
    assert statistics.mean(accuracies["static-1"]) >= statistics.mean(accuracies["baseline"]) - 0.15, accuracies
