"""A decay that branches off a stable phase equals a training that went its way from step 0, bit for bit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from small_trainings import has_equal_weights, metrics

from lst.cli import main
from lst.configs.compose import build_config
from lst.recipes.training.train import train

# Stable from step 2 to step 9, then a decay of 3 steps.
LONG = (
    *("experiment=smoke", "patching=static", "train.schedule=wsd", "train.warmup_steps=2", "train.max_steps=12"),
    *("train.decay_share=0.25", "train.eval_every=3", "train.checkpoint_every=5", "train.keep_checkpoints=1"),
    *("train.keep_at=[1,4,11]", "model.embedding_dropout=0.1"),
)
# The same with 6 steps, of which the last 2 decay.
SHORT = ("train.max_steps=6", "train.decay_share=0.34", "train.keep_at=[]")


@pytest.fixture(scope="module")
def long_run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the finished training ``long``; copy it before writing into it."""
    folder = tmp_path_factory.mktemp("long") / "run"
    shutil.copytree(smoke_data, folder)
    train(build_config([*LONG, f"run_dir={folder}", "name=long"]))
    return folder


@pytest.fixture
def run(long_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(long_run, tmp_path / "run"))


def checkpoint(run: Path, step: int, name: str = "long") -> Path:
    return run / "models" / name / "checkpoints" / f"step-{step:08d}"


def words(run: Path, name: str, *more: str) -> list[str]:
    return [*LONG, *SHORT, f"run_dir={run}", f"name={name}", *more]


def test_chosen_checkpoints_stay(long_run: Path) -> None:
    kept = sorted(path.name for path in checkpoint(long_run, 0).parent.iterdir())
    assert kept == [f"step-{step:08d}" for step in (1, 4, 11, 12)]


def test_a_branch_equals_a_training_from_step_0(run: Path) -> None:
    """Weights and rows, also when the branch is stopped, and when its source went away meanwhile."""
    whole = train(build_config(words(run, "whole")))
    branch = build_config(words(run, "branch", f"train.branch_from={checkpoint(run, 4)}"))
    final = train(branch)
    assert has_equal_weights(final, whole)
    assert metrics(run, "branch") == metrics(run, "whole")
    settings = json.loads((run / "models" / "branch" / "settings.json").read_text())
    assert settings["resumed"] == [
        {
            "step": 4,
            "resume_from": str(checkpoint(run, 4)),
            "changed": {"train.decay_share": 0.34, "train.max_steps": 6},
        }
    ]
    shutil.rmtree(final)
    shutil.rmtree(checkpoint(run, 6, "branch"))
    shutil.rmtree(run / "models" / "long")
    assert has_equal_weights(train(branch), whole)
    assert metrics(run, "branch") == metrics(run, "whole")


@pytest.mark.parametrize(
    ("step", "more", "expected"),
    [
        (1, [], ["step 1 lies in the warm-up, which ends at step 2"]),
        (11, ["train.max_steps=20"], ["step 11 lies in the decay, which began after step 9"]),
        (4, ["train.max_steps=4"], ["step 4 lies behind step 3, where this training begins to decay: raise"]),
        (4, ["train.warmup_steps=null"], ["its warm-up had 2 steps, this one has 1: add train.warmup_steps=2"]),
        (
            4,
            ["seed=1", "model.global_layers=1", "train.learning_rate=1", "train.rows=3"],
            ["seed: 0 then, 1 now", "model.global_layers: 2 then, 1 now", "train.rows: 2 then, 3 now"],
        ),
        (4, ["train.schedule=cosine"], ["has no effect with train.schedule=cosine"]),
        (4, ["train.resume_from=4"], ["train.branch_from and train.resume_from each name"]),
        (7, [], ["is no complete checkpoint", "has those of steps 1, 4, 11, 12"]),
    ],
)
def test_what_shares_no_stable_phase_is_refused(
    step: int, more: list[str], expected: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what and why, before anything is written."""
    assert main(["train", *words(run, "branch", *more, f"train.branch_from={checkpoint(run, step)}")]) == 2
    told = capsys.readouterr().err
    for part in expected:
        assert part in told, told
    assert not (run / "models" / "branch" / "settings.json").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train.schedule": "cosine"}, "train.schedule=cosine then: only wsd has a stable phase"),
        ({"patching.strategy": "curriculum"}, "patching=curriculum follows the share of the training that is done"),
        ({"data": "other"}, "data: 'other' then"),
    ],
)
def test_other_sources_are_refused(
    changes: dict[str, str], expected: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "models" / "long" / "settings.json"
    settings = json.loads(path.read_text())
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (settings[section] if section else settings)[name] = value
    path.write_text(json.dumps(settings))
    assert main(["train", *words(run, "branch", f"train.branch_from={checkpoint(run, 4)}")]) == 2
    assert expected in capsys.readouterr().err


def test_a_training_does_not_branch_off_itself_or_over_another(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words(run, "long", f"train.branch_from={checkpoint(run, 4)}")]) == 2
    assert re.search(r"the path of a checkpoint of another training", capsys.readouterr().err)
    shutil.copytree(run / "models" / "long", run / "models" / "taken")
    assert main(["train", *words(run, "taken", f"train.branch_from={checkpoint(run, 4)}")]) == 2
    assert "taken has checkpoints of its own; train under another name=NAME" in capsys.readouterr().err


def test_the_plan_says_where_a_branch_begins(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words(run, "branch", f"train.branch_from={checkpoint(run, 4)}"), "--dry-run"]) == 0
    assert f"goes on from step 4 of {run}/models/long" in capsys.readouterr().out


def test_steps_that_are_kept_lie_within_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "train.keep_at=[5,9]", "train.max_steps=8", "--cfg", "job"]) == 2
    assert "train.keep_at=[5, 9]: there are train.max_steps=8 steps" in capsys.readouterr().err
