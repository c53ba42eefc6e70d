"""A checkpoint that was altered in any way is named and passed over; one of other data or settings is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_trainings import WHOLE, has_equal_weights, metrics, overrides

from lst.configs.compose import build_config
from lst.errors import UserError
from lst.recipes.training.checkpoints import Checkpoint, DamagedCheckpointError, restoring
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.training.train import train

STEP = "step-00000009"


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def tensor_offset(folder: Path, part: str) -> int:
    """Where the last tensor whose name holds ``part`` begins in the file."""
    content = (folder / "tensors.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return 8 + size + max(entry["data_offsets"][0] for name, entry in header.items() if part in name)


def change_batch_index(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    state["state"]["loader_state"]["batch_index"] += 1
    (folder / "state.json").write_text(json.dumps(state))


ALTERATIONS: dict[str, Callable[[Path], object]] = {
    "a bit of a weight": lambda folder: flip(folder / "tensors.safetensors", tensor_offset(folder, "state_dict")),
    "a bit of the optimiser": lambda folder: flip(folder / "tensors.safetensors", tensor_offset(folder, "exp_avg")),
    "a bit of the state": lambda folder: flip(folder / "state.json", -20),
    "an older file": lambda folder: shutil.copy(folder.parent / "step-00000006" / "tensors.safetensors", folder),
    "another batch": change_batch_index,
    "cut": lambda folder: (folder / "tensors.safetensors").write_bytes(b"x" * 100),
    "removed": lambda folder: (folder / "state.json").unlink(),
    "an older checkpoint": lambda folder: shutil.copytree(folder.parent / "step-00000006", folder, dirs_exist_ok=True),
    "no marker of ours": lambda folder: (folder / "COMPLETE").write_text('{"version": 1}'),
    "a file outside": lambda folder: (folder / "COMPLETE").write_text(
        (folder / "COMPLETE").read_text().replace('"tensors.s', '"../step-00000006/tensors.s')
    ),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_checkpoint_is_passed_over(
    trained: Path, alteration: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = TrainingFolder(trained / "models" / "m")
    ALTERATIONS[alteration](folder.checkpoints / STEP)
    found = folder.load_newest()
    assert found is not None
    assert found.step == 6
    told = capsys.readouterr().err
    assert f"{STEP} is damaged (" in told
    assert f"going on from the checkpoint before {STEP}" in told


def test_a_training_goes_on_from_the_checkpoint_before_and_replaces_the_damaged_one(
    trained: Path, whole_run: Path
) -> None:
    """Nothing of the damaged one stays, and the result is that of the undamaged training."""
    folder = trained / "models" / "m"
    ALTERATIONS["a bit of a weight"](folder / "checkpoints" / STEP)
    # As earlier releases left them: a marker without hashes, and settings without the machine.
    (folder / "checkpoints" / "step-00000006" / "COMPLETE").write_text("")
    settings = json.loads((folder / "settings.json").read_text())
    settings.pop("machine")
    (folder / "settings.json").write_text(json.dumps(settings))
    shutil.rmtree(folder / "final")
    final = train(build_config(overrides(trained, "name=m", *WHOLE)))
    assert has_equal_weights(final, whole_run / "models" / "m" / "final")
    assert metrics(trained, "m") == metrics(whole_run, "m")
    assert set(json.loads((folder / "checkpoints" / STEP / "COMPLETE").read_text())["sha256"]) == {
        "state.json",
        "tensors.safetensors",
    }


def test_checkpoints_without_hashes_are_read_with_one_warning(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = TrainingFolder(trained / "models" / "m")
    (folder.checkpoints / STEP / "COMPLETE").write_text("")
    found = folder.load_newest()
    assert found is not None
    assert found.step == 9
    assert capsys.readouterr().err.count("has no hashes") == 1


def test_verification_can_be_left_out_and_that_is_said(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = TrainingFolder(trained / "models" / "m")
    ALTERATIONS["a bit of a weight"](folder.checkpoints / STEP)
    found = folder.load_newest(verify=False)
    assert found is not None
    assert found.step == 9
    assert "was not verified (train.verify_checkpoints=false)" in capsys.readouterr().err


def test_where_all_are_damaged_nothing_begins_anew(stopped: Path) -> None:
    for path in (stopped / "models" / "m" / "checkpoints").iterdir():
        ALTERATIONS["cut"](path)
    with pytest.raises(UserError, match=r"all 2 checkpoints in .* are damaged"):
        train(build_config(overrides(stopped, "name=m", *WHOLE)))


def test_a_checkpoint_of_several_processes_is_refused(trained: Path) -> None:
    folder = TrainingFolder(trained / "models" / "m")
    marker = folder.checkpoints / STEP / "COMPLETE"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "world_size": 2}))
    with pytest.raises(UserError, match="written by 2 processes that trained together, this training has 1"):
        folder.load_newest()


def test_a_checkpoint_of_other_settings_is_refused(stopped: Path) -> None:
    """Its hashes are right, and so is its step."""
    words = [*WHOLE, "train.max_steps=6", "name=other", "train.learning_rate=1e-4"]
    train(build_config(overrides(stopped, *words)))
    models = stopped / "models"
    shutil.rmtree(models / "m" / "checkpoints" / "step-00000006")
    shutil.copytree(models / "other" / "checkpoints" / "step-00000006", models / "m" / "checkpoints" / "step-00000006")
    with pytest.raises(UserError, match="belongs to other data or settings"):
        train(build_config(overrides(stopped, "name=m", *WHOLE)))


def test_left_overs_of_killed_runs_are_cleared(stopped: Path) -> None:
    folder = stopped / "models" / "m"
    for name in ("checkpoints/.step-00000009.partial", "checkpoints/step-00000002"):
        (folder / name).mkdir()
        (folder / name / "tensors.safetensors").write_text("x")
    for name in (".metrics.0123456789ab.partial.jsonl", "final/.model.0123456789ab.partial.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    train(build_config(overrides(stopped, "name=m", *WHOLE)))
    assert [path for path in folder.rglob("*") if ".partial" in path.name] == []
    assert not (folder / "checkpoints" / "step-00000002").exists()


def test_a_connection_that_is_lost_is_no_damage_of_the_checkpoint(tmp_path: Path) -> None:
    for error in (RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer"), KeyError("x")):
        is_lost = isinstance(error, RuntimeError)
        with pytest.raises(RuntimeError if is_lost else DamagedCheckpointError) as raised:  # noqa: SIM117
            with restoring(Checkpoint(tmp_path, 3, {})):
                raise error
        assert (raised.value is error) == is_lost
