"""Signals save a checkpoint, kills lose no row, one process trains a model at a time, and machines may change."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from repository import ROOT
from small_trainings import WHOLE, has_equal_weights, metrics, overrides

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.prepare import prepare
from lst.errors import UserError
from lst.recipes.evaluate import evaluate
from lst.recipes.report.write import write_report
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.train import train
from lst.runs.preparing import prepare_options
from lst.storage.locks import HeldByReadersError, HeldError, folder_lock, reading_lock


def files(run: Path) -> list[str]:
    return [path.name for path in complete_checkpoints(run / "models" / "m" / "checkpoints")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(
    run: Path,
    whole_run: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step_row = LanguageModelModule.step_row

    def stopping(self: LanguageModelModule, step: int, loss: float) -> Any:
        if step == 2:
            os.kill(os.getpid(), number)
        return step_row(self, step, loss)

    monkeypatch.setattr(LanguageModelModule, "step_row", stopping)
    handler = signal.getsignal(number)
    words = overrides(run, "name=m", *WHOLE)
    assert main(["train", *words]) == 128 + number
    assert signal.getsignal(number) == handler
    told = capsys.readouterr().err
    assert f"{number.name}: a checkpoint is saved at the end of this step" in told
    assert "lst train: stopped; train m has saved step 2 of 9, and the same command goes on from here" in told
    assert files(run) == ["step-00000002"]
    if number != signal.SIGTERM:
        return
    assert has_equal_weights(train(build_config(words)), whole_run / "models" / "m" / "final")
    assert metrics(run, "m") == metrics(whole_run, "m")


def test_a_second_signal_ends_at_once() -> None:
    code = (
        "import os, signal\n"
        "from lst.recipes.training.signals import StopSignals\n"
        "with StopSignals() as signals:\n"
        "    signals.install()\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    assert signals.received == signal.SIGUSR1\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    raise AssertionError\n"
    )
    done = forked.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM
    assert "a second signal ends at once" in done.stderr


def die(*_: object, **__: object) -> None:
    raise SystemExit("killed")


@pytest.mark.parametrize("moment", ["before the validation", "after the validation", "after the checkpoint"])
def test_a_kill_at_a_step_that_is_validated_and_saved_loses_no_row(
    run: Path, whole_run: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the resumed training are those of the uninterrupted one, byte for byte; TensorBoard's too."""
    save, words = SafeCheckpointIO.save_checkpoint, overrides(run, "name=m", *WHOLE)
    with monkeypatch.context() as patch:
        if moment == "before the validation":
            patch.setattr(LanguageModelModule, "on_validation_epoch_start", die)
        elif moment == "after the validation":
            patch.setattr(SafeCheckpointIO, "save_checkpoint", die)
        else:
            patch.setattr(SafeCheckpointIO, "save_checkpoint", lambda *words, **more: (save(*words, **more), die()))
        assert main_is_killed(["train", *words])
    train(build_config(words))
    a, b = (folder / "models" / "m" / "metrics.jsonl" for folder in (run, whole_run))
    assert a.read_bytes() == b.read_bytes()
    assert shown_in_tensorboard(run) == numbers(metrics(run, "m"))


def main_is_killed(words: list[str]) -> bool:
    return main(words) == 130


def numbers(rows: list[dict]) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each number of ``metrics.jsonl``, as float32."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                tag = "train_loss" if name == "loss" else name
                found.setdefault(tag, []).append((row["step"], torch.tensor(value, dtype=torch.float32).item()))
    return found


def shown_in_tensorboard(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "models" / "m" / "tensorboard"), purge_orphaned_data=False).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_one_process_trains_evaluates_or_reports_at_a_time(trained: Path) -> None:
    config = build_config(overrides(trained, "name=m", *WHOLE))
    who = f"process {os.getpid()} on "
    works: list[tuple[Path, str, Callable[[], object]]] = [
        (trained / "models" / "m", "trained", lambda: train(config)),
        (trained / "eval", "evaluated", lambda: evaluate(config)),
        (trained, "reported", lambda: write_report(config, overrides(trained))),
    ]
    for folder, work, do in works:
        with folder_lock(folder), pytest.raises(HeldError, match=f"being {work} by another process .{who}"):
            do()
    with folder_lock(trained / "data"), pytest.raises(HeldError, match="being prepared by another process"):
        train(config)


def test_data_that_is_read_is_not_prepared_anew(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole data needs nothing, so the command that made it still says so. Readers do not exclude one another."""
    data, config = trained / "data", build_config([*overrides(trained), "num_workers=1"])
    (data / ".lock-reader-0123456789ab").write_text('{"pid": 1, "host": "of a killed reader", "since": "then"}')
    with reading_lock(data), reading_lock(data):
        assert prepare(data, prepare_options(config)) is not None
        assert "prepared data is whole" in capsys.readouterr().err
        (data / "shards" / "train-000000.tar").write_bytes(b"x")
        with pytest.raises(HeldByReadersError, match=f"being read by another process .process {os.getpid()}") as held:
            prepare(data, prepare_options(config))
        assert "killed" not in str(held.value)
        assert (data / "index.json").exists()
    assert list(data.glob(".lock*")) == []


def test_a_resumed_training_holds_its_state_once(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    row = LanguageModelModule.step_row

    def measuring(self: LanguageModelModule, step: int, loss: float) -> Any:
        if step == 8:
            gc.collect()
            tensors = [item for item in gc.get_objects() if type(item) in (torch.Tensor, torch.nn.Parameter)]
            storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
            held.append(sum(storages.values()))
        return row(self, step, loss)

    monkeypatch.setattr(LanguageModelModule, "step_row", measuring)
    words = overrides(stopped, *WHOLE)
    train(build_config([*words, "name=m"]))
    train(build_config([*words, "name=uninterrupted"]))
    resumed_bytes, uninterrupted_bytes = held
    assert resumed_bytes < 1.05 * uninterrupted_bytes


def test_a_changed_machine_is_said_and_recorded(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stopped / "models" / "m" / "settings.json"
    settings = json.loads(path.read_text())
    assert settings["machine"] == {"accelerator": "cpu", "compile": False, "num_threads": torch.get_num_threads()}
    settings["machine"] |= {"accelerator": "cuda", "num_threads": 64}
    path.write_text(json.dumps(settings))
    train(build_config(overrides(stopped, "name=m", *WHOLE, "train.accelerator=cpu", "train.eval_utterances=2")))
    told = capsys.readouterr().err
    assert "accelerator cuda, num_threads 64 before, accelerator cpu, num_threads 1 now: from step 6 on" in told
    assert told.count("no longer bit for bit") == 1
    changed = {"machine.accelerator": "cpu", "machine.num_threads": 1}
    assert json.loads(path.read_text())["resumed"] == [{"step": 6, "resume_from": None, "changed": changed}]


def test_settings_that_cannot_train_lock_nobody_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun without reaching a checkpoint is begun anew with other settings."""
    with pytest.raises(UserError, match=r"train\.accelerator=gpi: allowed are auto, cpu"):
        build_config(overrides(run, "train.accelerator=gpi"))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"train\.accelerator=cuda .*cannot be used here"):
            train(build_config(overrides(run, "name=m", "train.accelerator=cuda")))
        assert not (run / "models" / "m" / "settings.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_fit_start", die)
        assert main_is_killed(["train", *overrides(run, "name=m", "patching=entropy", "seed=1")])
    assert (run / "models" / "m" / "unit_model").exists()
    assert main(["train", *overrides(run, "name=m", "train.max_steps=1", "train.warmup_steps=0")]) == 0
    assert not (run / "models" / "m" / "unit_model").exists()


def test_a_stop_after_the_last_step_ends_the_command_too(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several trainings of one command, the next one is not begun."""
    metrics_of = LanguageModelModule.valid_metrics

    def stopping(self: LanguageModelModule) -> dict[str, float]:
        if self.global_step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return metrics_of(self)

    monkeypatch.setattr(LanguageModelModule, "valid_metrics", stopping)
    assert main(["train", *overrides(stopped, "name=m", *WHOLE)]) == 143
    assert "m is trained; the same command goes on from here" in capsys.readouterr().err
    assert (stopped / "models" / "m" / "final" / "config.json").exists()


def test_a_card_that_is_missing_is_made_up(trained: Path) -> None:
    final = trained / "models" / "m" / "final"
    (final / "README.md").unlink()
    shutil.rmtree(trained / "models" / "m" / "checkpoints")
    train(build_config(overrides(trained, "name=m", *WHOLE)))
    assert (final / "README.md").exists()
