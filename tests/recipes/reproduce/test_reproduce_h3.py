"""``lst reproduce h3`` on tasks of a few tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from lst.cli import main
from lst.recipes.reproduce.formats import H3File
from lst.storage import read_json

TINY = "task.length=8, task.vocabulary=10, task.train_sequences=40, task.test_sequences=8, train.max_steps=2"
PLAN = f"""
trainings:
  recall-h3: [model=h3, {TINY}, train.warmup_steps=1, "seeds=[0,1]"]
  recall-attention: [model=attention, {TINY}, train.warmup_steps=1, "seeds=[0]"]
"""


def test_what_is_missing_is_named_and_trained_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, out = tmp_path / "tiny.yaml", tmp_path / "out"
    plan.write_text(PLAN)
    words = ["reproduce", "h3", f"h3={plan}", f"out={out}", "jobs=0"]
    assert main([*words, "hours=1e-9"]) == 0
    assert "not finished: recall-h3, recall-attention" in capsys.readouterr().out
    assert main(words) == 0
    found = read_json(out / "h3.json", H3File, "the page", "")
    assert found["missing"] == []
    assert [(one["model"], list(one["accuracies"])) for one in found["trained"]] == [
        ("h3", ["0", "1"]),
        ("attention", ["0"]),
    ]
    assert found["trained"][0]["published"] == 99.8
    page = (out / "h3.html").read_text()
    assert "Associative recall" in page
    monkeypatch.setattr("lst.recipes.reproduce.h3.synthetic", None)
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == 0
    assert "recall-h3: nothing to do" in capsys.readouterr().out


def test_every_mistake_of_a_plan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("trainings: {a: [model=h3], b: [model=h3], c: [model=h4], d/e: [model=s4d], f: [steps=3]}\n")
    assert main(["reproduce", "h3", f"h3={plan}", f"out={tmp_path}/out"]) == 2
    told = capsys.readouterr().err
    for part in ("a and b would both train in", "h3.trainings.c: model=h4", "name='d/e'", "h3.trainings.f: "):
        assert part in told, told
    plan.write_text("trainings: {}\n")
    assert main(["reproduce", "h3", f"h3={plan}", f"out={tmp_path}/out"]) == 2
    assert "there is none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
