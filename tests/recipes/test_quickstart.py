"""The quickstart: a voice for every machine, arms that can be compared, trainings that fail, and what to type next."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest
from small_trainings import overrides

from lst.configs.compose import build_config
from lst.errors import ProblemsError, UserError
from lst.recipes import quickstart
from lst.recipes.quickstart import (
    checked_arms,
    controlled_words,
    next_commands,
    quickstart_plan,
    train_arms,
    with_a_voice,
)
from lst.recipes.training.train import train
from lst.runs import RunFolder, is_trained
from lst.runs.folder import arm_overrides


def test_speech_is_simulated_where_no_engine_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_engine(requested: str) -> str:
        raise UserError("no speech engine is installed")

    words = ["seed=3"]
    assert with_a_voice(build_config(words), words) == words or shutil.which("flite") is None
    monkeypatch.setattr(quickstart, "choose_engine", no_engine)
    assert with_a_voice(build_config(words), words) == [*words, "data.voice=simulated"]
    assert "speech is simulated" in capsys.readouterr().err
    # What the user asks for is never replaced.
    for asked in (["data.voice=pico"], ["corpus=recordings"], ["corpus=simulated"]):
        assert with_a_voice(build_config(asked), asked) == asked


def test_arms_whose_steps_cannot_follow_are_refused() -> None:
    words = ["control=flops", "arms.static=[patching=static,train.max_steps=5]"]
    with pytest.raises(ProblemsError, match=r"arms\.static: it sets train.max_steps") as raised:
        checked_arms(build_config(words), words)
    assert "control=steps" in str(raised.value)


def test_options_that_arms_choose_are_refused() -> None:
    words = ["train.row_patches=128"]
    with pytest.raises(UserError, match=r"train\.row_patches: each arm of quickstart chooses its own"):
        checked_arms(build_config(words), words)


def test_steps_are_counted_once_and_kept(
    smoke_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_data, run)
    words = ["experiment=smoke", f"run_dir={run}", "control=flops", "arms.curriculum=[patching=static]"]
    config = build_config(words)
    arms = checked_arms(config, words)
    found = controlled_words(config, arms, {name: [] for name in arms})
    assert found["baseline"] == [f"train.max_steps={config.train.max_steps}"]
    assert found["static"] == found["curriculum"] != found["baseline"]
    table = capsys.readouterr().out
    assert "FLOPs*" in table
    monkeypatch.setattr(quickstart, "spent", None)
    assert controlled_words(config, arms, {name: [] for name in arms}) == found
    assert capsys.readouterr().out == table


def test_a_plan_agrees_with_trainings_whose_steps_were_counted(smoke_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_data, run)
    words = ["experiment=smoke", f"run_dir={run}", "control=flops", "arms.curriculum=[patching=static]"]
    words += ["train.max_steps=4", "train.warmup_steps=0"]
    config = build_config(words)
    before = "\n".join(quickstart_plan(config, words))
    assert "steps of static, curriculum will follow from baseline (control=flops)" in before
    arms = checked_arms(config, words)
    own = {name: arm_overrides(config, words, name) for name in arms}
    steps = controlled_words(config, arms, own)["static"][-1]
    assert steps != "train.max_steps=4"
    train(build_config([*own["static"], steps]))
    wanted = f"  {steps.removeprefix('train.max_steps=')} steps × "
    kept = RunFolder(run).control
    for _ in range(2):
        plan = "\n".join(quickstart_plan(config, words))
        assert wanted in plan
        assert "will follow" not in plan
        # Without the record they are counted, and it is not written.
        kept.unlink(missing_ok=True)


@pytest.mark.usefixtures("forked_commands")
def test_a_training_that_fails_is_named_and_the_others_go_on(smoke_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_data, run)
    good = overrides(run, "train.max_steps=1", "train.warmup_steps=0", "name=good", "patching=static")
    bad = overrides(run, "name=bad", "patching=static", "train.learning_rate=1e30", "train.clip_norm=1e30")
    with pytest.raises(ProblemsError, match=r"1 of 2 trainings failed") as raised:
        train_arms({"bad": bad, "good": good})
    assert str(run / "logs" / "train-bad.log") in str(raised.value)
    assert "lower train.learning_rate" in (run / "logs" / "train-bad.log").read_text()
    assert is_trained(RunFolder(run).final("good"))


def test_what_to_type_next_begins_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config(["run_dir=runs/my run"])
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", os.pathsep.join(["/bin", scripts]))
    lines = next_commands(config)
    assert lines[0].startswith("lst generate run_dir='runs/my run' name=static ")
    monkeypatch.setenv("PATH", "/bin")
    if Path(scripts, "activate").exists():
        assert next_commands(config) == [f"source {os.path.relpath(Path(scripts, 'activate'))}", *lines]
