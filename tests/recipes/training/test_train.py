"""Training: killed and resumed equals uninterrupted, bit for bit; other settings and other data are refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from safetensors.torch import load_file
from small_trainings import metrics, overrides

from lst.cli import main
from lst.configs.compose import build_config
from lst.configs.schema import TrainConfig
from lst.errors import UserError
from lst.recipes.training import trainer
from lst.recipes.training.schedule import learning_rate_share
from lst.recipes.training.train import train


@pytest.mark.parametrize("options", [[], ["model=lst_debug_h3", "model.embedding_dropout=0.1"]], ids=["lst", "h3"])
def test_killed_and_resumed_equals_uninterrupted(run: Path, options: list[str]) -> None:
    """SIGKILL at some step after the first checkpoint; the resumed run writes the same losses and weights."""
    train(build_config(overrides(run, "name=whole", *options)))
    command = [sys.executable, "-m", "lst", "train", *overrides(run, "name=killed", *options)]
    process = forked.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    checkpoints = run / "models" / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*/COMPLETE")):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "models" / "killed" / "final" / "config.json").exists()
    # As if killed in the middle of an interval: metrics have run ahead of the checkpoint.
    with open(run / "models" / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "loss": 99.0}\n{"step": 9, "lo')
    train(build_config(overrides(run, "name=killed", *options)))
    assert metrics(run, "killed") == metrics(run, "whole")
    first, second = (load_file(run / "models" / name / "final" / "model.safetensors") for name in ("whole", "killed"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", "bfloat16"), ("64-true", "float64")])
def test_other_precisions_train_and_resume(run: Path, precision: str, dtype: str) -> None:
    """A hybrid, whose state spaces are float32 at least; the last checkpoint is lost and made again, bit for bit."""
    config = build_config(overrides(run, "name=p", "model=lst_debug_h3", f"train.precision={precision}"))
    weights = train(config) / "model.safetensors"
    first, losses = load_file(weights), metrics(run, "p")
    for name, tensor in first.items():
        is_state_space = ".ssm." in name or ".shift." in name
        assert str(tensor.dtype) == f"torch.{'float32' if is_state_space and dtype == 'bfloat16' else dtype}", name
    nats = [row["loss"] for row in losses if "loss" in row]
    assert nats[-1] < nats[0] - 0.1
    shutil.rmtree(weights.parent)
    shutil.rmtree(run / "models" / "p" / "checkpoints" / "step-00000009")
    second = load_file(train(config) / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert metrics(run, "p") == losses


SLURM = {
    "SLURM_NTASKS": "1",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "node-1",
    "SLURM_STEP_NUM_TASKS": "1",
}


def test_in_a_slurm_job_a_foreign_checkpoint_is_not_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Lightning's own requeueing leaves in the working directory belongs to another model."""
    plain = load_file(train(build_config(overrides(run, "name=plain"))) / "model.safetensors")
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").mkdir()
    handlers = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    in_job = load_file(train(build_config(overrides(run, "name=in_job"))) / "model.safetensors")
    assert all(torch.equal(plain[name], in_job[name]) for name in plain)
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == handlers
    assert {path.name for path in tmp_path.iterdir()} == {"run", "hpc_ckpt_1.ckpt"}


def test_a_training_that_begins_at_another_step_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config(overrides(run, "name=other"))
    train(config)
    shutil.rmtree(run / "models" / "other" / "final")
    fit = trainer.fit
    monkeypatch.setattr("lst.recipes.training.train.fit", lambda *arguments: fit(*arguments[:-1]))
    with pytest.raises(UserError, match=r"would begin at step 0, not at step 9: another checkpoint was loaded"):
        train(config)


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_several_processes_of_one_training_are_refused(
    run: Path, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "2")
    assert main(["train", *overrides(run, "name=twice")]) == 2
    assert f"was started as 2 processes ({variable}=2)" in capsys.readouterr().err
    assert not (run / "models").exists()
    monkeypatch.setenv(variable, "1")
    assert main(["train", *overrides(run, "name=once", "train.max_steps=1", "train.warmup_steps=0")]) == 0


def test_a_finished_training_is_not_done_again(run: Path) -> None:
    config = build_config(overrides(run, "name=once"))
    weights = train(config) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert train(config) / "model.safetensors" == weights
    assert weights.stat().st_mtime_ns == before


def test_only_the_latest_checkpoints_are_kept_and_none_is_a_pickle(run: Path) -> None:
    train(build_config(overrides(run, "name=kept", "train.checkpoint_every=2")))
    folder = run / "models" / "kept"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000008", "step-00000009"]
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    assert suffixes == {".json", ".jsonl", ".safetensors", ".yaml", ".md", ".model", ""}


def test_losses_fall_and_metrics_count(run: Path) -> None:
    train(build_config(overrides(run, "name=m", "train.max_steps=30", "train.eval_every=10")))
    rows = metrics(run, "m")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 30
    assert sum(losses[-5:]) < sum(losses[:5])
    held_out = [row for row in rows if "valid_bits_per_unit" in row]
    assert [row["step"] for row in held_out] == [10, 20, 30]
    last = [row for row in rows if "loss" in row][-1]
    assert last["slots"] == 30 * 2 * 96
    assert 0.5 * last["slots"] < last["patches"] <= last["slots"]
    assert last["training_flops"] > 0
    assert all(row["gradient_norm"] > 0 for row in rows if "loss" in row)


def test_gradient_norm_is_that_before_clipping(run: Path) -> None:
    """The first step of two trainings differs in the clipping only."""
    norms = []
    for clip_norm in ("1e-3", "1e3"):
        train(build_config(overrides(run, f"name=c{clip_norm}", "train.max_steps=2", f"train.clip_norm={clip_norm}")))
        norms.append([row["gradient_norm"] for row in metrics(run, f"c{clip_norm}") if "loss" in row])
    assert norms[0][0] == norms[1][0] > 0.01
    assert norms[0][1] != norms[1][1]


def test_other_settings_are_refused_with_their_names(run: Path) -> None:
    train(build_config(overrides(run, "name=s")))
    with pytest.raises(UserError, match=r"(?s)begun with other settings.*seed: 0 then, 1 now"):
        train(build_config(overrides(run, "name=s", "seed=1")))


def test_altered_shard_and_swapped_codebook_are_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = run / "data" / "shards" / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    assert main(["train", *overrides(run)]) == 2
    assert re.search(r"train-000000\.tar: sample .* was altered", capsys.readouterr().err)
    from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
    from lst.tokenizers.speech import load_speech_tokenizer

    path = run / "data" / "units.safetensors"
    codec = load_speech_tokenizer(path)
    assert isinstance(codec, KmeansTokenizer)
    assert isinstance(codec.quantiser, Centroids)
    turned = Centroids(codec.quantiser.centroids[::-1].copy(), codec.quantiser.feature_scale)
    KmeansTokenizer(turned, codec.spec).save(path)
    assert main(["train", *overrides(run)]) == 2
    assert "units.safetensors has hash" in capsys.readouterr().err


def test_unprepared_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=smoke", f"run_dir={tmp_path}"]) == 2
    assert "Run lst prepare (again) first" in capsys.readouterr().err


def test_rate_warms_up_and_falls() -> None:
    config = TrainConfig(max_steps=100, warmup_steps=10, final_rate_share=0.01)
    shares = [learning_rate_share(step, config) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[10] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert learning_rate_share(100, config) == pytest.approx(0.01)
    # Halfway down the cosine is halfway between 1 and the final share.
    assert learning_rate_share(55, config) == pytest.approx(0.505)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", (1.0, 0.55, 0.1)), ("constant", (1.0, 1.0, 1.0)), ("wsd", (1.0, 1.0, 0.1))],
)
def test_other_schedules_warm_up_by_a_share_and_end_at_the_last_step(
    schedule: str, shares: tuple[float, float, float]
) -> None:
    config = TrainConfig(max_steps=200, warmup_share=0.1, schedule=schedule, decay_share=0.25, final_rate_share=0.1)
    assert learning_rate_share(9, config) == pytest.approx(0.5)
    assert [learning_rate_share(step, config) for step in (20, 110, 200)] == pytest.approx(shares)
    if schedule == "wsd":
        assert learning_rate_share(150, config) == 1.0
        assert learning_rate_share(175, config) == pytest.approx(0.55)


def test_exploding_loss_ends_training_with_advice(run: Path) -> None:
    with pytest.raises(UserError, match=r"lower train\.learning_rate"):
        train(build_config(overrides(run, "name=boom", "train.learning_rate=1e30", "train.clip_norm=1e30")))
