"""What a person watches: losses by modality, rates, waiting for data, and the logs that show them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import metrics, overrides

from lst.configs.compose import build_config
from lst.errors import UserError
from lst.recipes.training.callbacks import loss_text
from lst.recipes.training.checkpoints import step_of
from lst.recipes.training.train import train
from lst.recipes.training.wandb_log import WandbLog
from lst.recipes.training.watch import SpeedRow, Watch, speed_text
from lst.storage import read_jsonl

CPU = torch.device("cpu")


def counts(step: int, tokens: int, flops: float) -> Any:
    return {"step": step, "tokens": tokens, "patches": tokens // 2, "training_flops": flops}


def test_rates_are_of_the_steps_since_the_row_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Watch(2, "32-true", CPU)
    monkeypatch.setattr("lst.recipes.training.watch.matrix_peak", lambda device, precision: 1e9)

    def batches() -> Iterator[int]:
        for number in range(9):
            now[0] += 1.0  # making a batch takes a second
            yield number

    rows = []
    for number, _ in zip(range(1, 6), watch.timed(batches()), strict=False):
        now[0] += 3.0  # and a step three
        rows.append(watch.row(counts(number, 80 * number, 8e8 * number)))
    assert [row is not None for row in rows] == [False, True, False, True, False]
    first, second = rows[1], rows[3]
    assert first is not None
    assert second is not None
    # The first step only starts the watch.
    assert (first["num_steps"], second["num_steps"]) == (1, 2)
    for row in (first, second):
        assert (row["tokens_per_s"], row["patches_per_s"], row["flops_per_s"]) == (20.0, 10.0, 2e8)
        assert row["peak_share"] == pytest.approx(0.2)
        assert row["data_wait_share"] == pytest.approx(0.25)
    assert speed_text(second) == "20 tokens/s, 20% of peak, 25% waiting for data"


def test_a_training_writes_its_speed_beside_its_losses(run: Path) -> None:
    options = overrides(run, "name=watched", "train.watch_every=3")
    train(build_config(options))
    folder = run / "models" / "watched"
    rows = read_jsonl(folder / "speed.jsonl", SpeedRow)
    assert [row["step"] for row in rows] == [3, 6, 9]
    assert all(row["tokens_per_s"] > 0 and row["peak_memory_bytes"] > 2**20 for row in rows)
    assert all(0 < row["peak_share"] < 1 and 0 <= row["data_wait_share"] <= 1 for row in rows)
    steps = [row for row in metrics(run, "watched") if "loss" in row]
    for row in steps:
        # With weights of 1, the loss is the mean over both.
        assert min(row["speech_loss"], row["text_loss"]) <= row["loss"] <= max(row["speech_loss"], row["text_loss"])
    assert loss_text(steps[0]).startswith(f"loss {steps[0]['loss']:.3f}, speech {steps[0]['speech_loss']:.3f}, text ")


def test_rows_ahead_of_the_checkpoint_are_dropped(run: Path) -> None:
    options = overrides(run, "name=again", "train.watch_every=1")
    train(build_config(options))
    folder = run / "models" / "again"
    before, last = sorted((folder / "checkpoints").iterdir())[-2:]
    for done in (folder / "final", last):
        shutil.rmtree(done)
    train(build_config(options))
    steps = [row["step"] for row in read_jsonl(folder / "speed.jsonl", SpeedRow)]
    # The watch begins after the first step of each call.
    assert steps == [step for step in range(2, step_of(last) + 1) if step != step_of(before) + 1]


def test_wandb_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"train\.logger=wandb needs the package wandb: pip install"):
        WandbLog(tmp_path, "model", {})


def test_wandb_offline_keeps_the_numbers_here(tmp_path: Path) -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("needs the package wandb")
    # In a process of its own, at whose end wandb's service has written everything.
    code = (
        "import sys; from pathlib import Path; from lst.recipes.training.wandb_log import WandbLog\n"
        "log = WandbLog(Path(sys.argv[1]), 'model', {'first_step': 0})\n"
        "log.add({'step': 1, 'loss': 2.5, 'gradient_norm': None})\n"
        "log.close()"
    )
    settings = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, **settings}, check=True)
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    deadline_s = time.monotonic() + 30
    while b"loss" not in kept.read_bytes():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert not [name for name in os.listdir(tmp_path) if name != "wandb"]
