"""Numbers that are not finite reach neither weights nor checkpoints, and a training goes on without them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_trainings import WHOLE, has_equal_weights, metrics, overrides

from lst.cli import main
from lst.configs.compose import build_config
from lst.errors import UserError
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.recipes.training.finite import NonFiniteError
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.start import plan_start
from lst.recipes.training.train import train
from lst.runs import RunFolder, require_models
from lst.runs.formats import TrainingSettings, read_metrics


def infinite_gradient(loss: torch.Tensor) -> torch.Tensor:
    loss.register_hook(lambda gradient: gradient * float("inf"))
    return loss


POISONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "loss": lambda loss: loss * float("nan"),
    "gradient": infinite_gradient,
}


def poison(monkeypatch: pytest.MonkeyPatch, kind: str, *batches: int) -> None:
    """Some batches have a loss or a gradient that is not finite, whenever they come."""
    batch_loss = LanguageModelModule.batch_loss

    def poisoned(self: LanguageModelModule, batch: tuple) -> torch.Tensor:
        loss = batch_loss(self, batch)
        assert self.loader_state is not None
        if self.loader_state.batch_index not in batches:
            return loss
        if kind == "loss":
            self._watched[0] *= float("nan")
        return POISONS[kind](loss)

    monkeypatch.setattr(LanguageModelModule, "batch_loss", poisoned)


@pytest.mark.parametrize("kind", POISONS)
def test_a_training_ends_before_the_update_and_goes_on_without_the_batch(
    run: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batch 6 falls on a checkpoint. Skipped from the beginning or after the crash, the weights are the same."""
    poison(monkeypatch, kind, 6)
    words = overrides(run, "name=m", *WHOLE)
    assert main(["train", *words]) == 2
    told = capsys.readouterr().err
    assert "on batch 6 (documents " in told
    assert "The last good checkpoint is that of step 3." in told
    assert "train.resume_from=3 train.skip_batches=[6]" in told
    ids = re.findall(r"[\w-]+", told.partition("(documents ")[2].partition(")")[0])
    manifest = (run / "data" / "manifest.jsonl").read_text() + (run / "data" / "texts.jsonl").read_text()
    assert all(f'"{name}"' in manifest for name in ids)
    checkpoints = run / "models" / "m" / "checkpoints"
    assert [path.name for path in complete_checkpoints(checkpoints)] == ["step-00000003"]
    again = train(build_config([*words, "train.resume_from=3", "train.skip_batches=[6]"]))
    anew = train(build_config([*words, "name=anew", "train.skip_batches=[6]"]))
    assert has_equal_weights(again, anew)
    assert metrics(run, "m") == metrics(run, "anew")
    settings = json.loads((run / "models" / "m" / "settings.json").read_text())
    assert settings["resumed"] == [{"step": 3, "resume_from": "3", "changed": {"train.skip_batches": [6]}}]


def test_one_batch_is_left_out_and_the_others_follow(trained: Path) -> None:
    train(build_config(overrides(trained, "name=less", *WHOLE, "train.skip_batches=[2]", "train.max_steps=5")))
    rows = [row for row in metrics(trained, "less") if "loss" in row]
    before = [row for row in metrics(trained, "m") if "loss" in row]
    assert rows[0]["loss"] == before[0]["loss"]
    # Counts are of the loader: they show which batch came at each step.
    assert [row["slots"] for row in rows] == [before[batch - 1]["slots"] for batch in (1, 3, 4, 5, 6)]


def test_a_lower_rate_holds_from_the_named_step_on(trained: Path) -> None:
    """Once: the same command goes on from its own newest checkpoint after that."""
    shutil.rmtree(trained / "models" / "m" / "final")
    words = overrides(trained, "name=m", *WHOLE, "train.learning_rate=1e-3")
    with pytest.raises(UserError, match=r"(?s)learning_rate.*may change.*train\.resume_from=STEP .there are 3, 6, 9"):
        train(build_config(words))
    before = metrics(trained, "m")
    config = build_config([*words, "train.resume_from=6"])
    final = train(config)
    rates = {row["step"]: row["learning_rate"] for row in metrics(trained, "m") if "loss" in row}
    then = {row["step"]: row["learning_rate"] for row in before if "loss" in row}
    share = 1e-3 / build_config(overrides(trained)).train.learning_rate
    for step, rate in rates.items():
        assert rate == pytest.approx(then[step] * (share if step > 6 else 1))
    first = load_file(final / "model.safetensors")
    shutil.rmtree(final)
    shutil.rmtree(trained / "models" / "m" / "checkpoints" / "step-00000009")
    again = load_file(train(config) / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(UserError, match="seed: 0 then, 1 now"):
        train(build_config([*words, "train.resume_from=3", "seed=1"]))
    with pytest.raises(UserError, match=r"is trained .*train under another name=NAME"):
        train(build_config([*words, "train.resume_from=3", "train.learning_rate=1e-4"]))
    with pytest.raises(UserError, match=r"no complete checkpoint; .* has those of steps 3, 6, 9"):
        train(build_config([*words, "train.resume_from=4"]))


def test_of_several_continuations_the_last_one_is_recorded(trained: Path) -> None:
    folder = TrainingFolder(trained / "models" / "m")
    settings = folder.record(TrainingSettings)
    assert settings is not None
    settings["train"]["learning_rate"] = 1e-3
    for step in (6, 3):
        record = plan_start(folder, settings, str(step)).record
        changed = {"train.learning_rate": 1e-3}
        assert record["resumed"] == [{"step": step, "resume_from": str(step), "changed": changed}]
        (folder.path / "settings.json").write_text(json.dumps({"version": 1, **record}))
        assert plan_start(folder, settings, None).named is None


def test_a_rate_at_which_groups_of_parameters_coincide(run: Path) -> None:
    """The rate of a state space's dynamics is bounded: at low rates they share a group with others."""
    words = overrides(run, "name=h3", "model=lst_debug_h3", *WHOLE)
    shutil.rmtree(train(build_config([*words, "train.learning_rate=3e-3"])))
    train(build_config([*words, "train.learning_rate=5e-4", "train.weight_decay=0", "train.resume_from=6"]))
    assert [row["step"] for row in metrics(run, "h3") if "loss" in row] == list(range(1, 10))


def test_a_checkpoint_of_another_training_is_gone_on_from_under_a_new_name(trained: Path) -> None:
    checkpoint = trained / "models" / "m" / "checkpoints" / "step-00000006"
    named = f"train.resume_from={checkpoint}"
    config = build_config(overrides(trained, "name=low", *WHOLE, named, "loss.z_weight=0.1"))
    final = train(config)
    assert metrics(trained, "low")[:8] == metrics(trained, "m")[:8]
    assert metrics(trained, "low")[8:] != metrics(trained, "m")[8:]
    first = load_file(final / "model.safetensors")
    shutil.rmtree(final)
    again = load_file(train(config) / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_updates_are_left_out_up_to_a_ceiling(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, "gradient", 2)
    poison(monkeypatch, "loss", 6)
    words = overrides(run, "name=m", *WHOLE, "train.on_nonfinite=skip")
    with pytest.raises(UserError, match="on batch 6"):
        train(build_config([*words, "train.max_skipped_updates=1"]))
    assert "on batch 2 (documents" in capsys.readouterr().err
    weights = load_file(train(build_config(words)) / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    rows = [row for row in metrics(run, "m") if "learning_rate" in row]
    assert {row["step"]: row.get("skipped_batch") for row in rows if "loss" not in row} == {2: 2, 6: 6}
    assert len(rows) == 9
    # As the report reads them.
    steps, validations = read_metrics(run / "models" / "m" / "metrics.jsonl")
    assert [row["step"] for row in steps] == [1, 3, 4, 5, 7, 8, 9]
    assert [row["step"] for row in validations] == [3, 6, 9]


@pytest.mark.parametrize("kind", POISONS)
def test_a_loss_that_is_read_seldom_stops_the_same_update(
    run: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device leaves updates out from step 3 on, and the host learns of it at step 5."""
    modules: list[LanguageModelModule] = []
    begin = LanguageModelModule.on_train_start

    def noting(self: LanguageModelModule) -> None:
        modules.append(self)
        begin(self)

    monkeypatch.setattr(LanguageModelModule, "on_train_start", noting)
    poison(monkeypatch, kind, 3)
    told = []
    for every in (1, 5):
        seldom = (f"train.read_every={every}", "train.checkpoint_every=9", "train.eval_every=9")
        with pytest.raises(UserError) as raised:
            train(build_config(overrides(run, "name=m", *WHOLE, *seldom)))
        told.append(str(raised.value))
        shutil.rmtree(run / "models" / "m")
    assert told[0] == told[1]
    assert "step 3: " in told[0]
    assert "on batch 3 (documents " in told[0]
    assert [module.global_step for module in modules] == [2, 5]
    first, second = (module.model.state_dict() for module in modules)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_that_is_read_seldom_changes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "gradient", 2, 5)
    finals = {
        every: train(
            build_config(
                overrides(run, f"name=m{every}", *WHOLE, "train.on_nonfinite=skip", f"train.read_every={every}")
            )
        )
        for every in (1, 4)
    }
    assert has_equal_weights(finals[1], finals[4])
    assert metrics(run, "m1") == metrics(run, "m4")


def test_state_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="/w hold values that are not finite"):
        SafeCheckpointIO().save_checkpoint({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "step-00000001")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_nans_does_not_count_as_trained(
    trained: Path, whole_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it keep the others from being evaluated."""
    shutil.copytree(trained / "models" / "m", trained / "models" / "good")
    path = trained / "models" / "m" / "final" / "model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)
    assert require_models(RunFolder(trained)) == ["good"]
    final = train(build_config(overrides(trained, "name=m", *WHOLE)))
    assert "are not finite: this model does not count as trained" in capsys.readouterr().err
    assert has_equal_weights(final, whole_run / "models" / "m" / "final")
