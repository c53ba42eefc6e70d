"""Models of aligned patches from training to report: with a boundary head, and without, as earlier versions trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lst.cli import main
from lst.configs.compose import build_config
from lst.recipes.evaluate import evaluate, results_as_text
from lst.recipes.training.train import train

STEPS = ["train.max_steps=3", "train.eval_every=3", "eval.max_items=2"]


def test_each_is_scored_and_named_by_what_it_can_know(
    smoke_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_data, run)
    words = ["experiment=smoke", f"run_dir={run}", *STEPS]
    train(build_config([*words, "patching=aligned", "name=decoded"]))
    assert "never sees" not in capsys.readouterr().err
    train(build_config([*words, "patching=bpe_aligned", "model.boundary_head=false", "name=plain"]))
    assert "plain: it will be scored on static patches, which this training never sees" in capsys.readouterr().err
    results = evaluate(build_config(words))
    assert {name: result["strategy"] for name, result in results.items()} == {"decoded": "decoded", "plain": "static"}
    for name, result in results.items():
        # Training cuts the same held-out utterances as it has learnt to by its last step.
        lines = (run / "models" / name / "metrics.jsonl").read_text().splitlines()
        last = [row for row in map(json.loads, lines) if "valid_bits_per_unit" in row][-1]
        assert result["bits"]["bits_per_unit"] == pytest.approx(last["valid_bits_per_unit"], rel=1e-4)
    cost = results["decoded"]["joint_cost"]
    assert cost["joint_bits_per_unit"] == pytest.approx(cost["bits_per_unit"] + cost["boundary_bits_per_unit"])
    assert 0 < cost["boundary_bits_per_unit"] < 1.5
    note = "scored on static patches, which its training (patching.strategy=aligned) never saw"
    assert {name: result.get("patching_note", "") for name, result in results.items()} == {"decoded": "", "plain": note}
    assert "joint_cost" not in results["plain"]
    text = results_as_text(results)
    assert f"plain: {note}" in text
    assert f"{cost['joint_bits_per_unit']:.3f} in all" in text
    assert main(["report", f"run_dir={run}"]) == 0
    page = " ".join((run / "report.html").read_text().split())
    assert f"<b>plain</b>: {note}." in page
    assert f"{cost['joint_bits_per_unit']:.3f} in all" in page
    prompt = ["generate.text=we went", "generate.modality=speech", "generate.max_new_tokens=5"]
    assert main(["generate", f"run_dir={run}", "name=decoded", *prompt]) == 0
