"""Checkpoints and records of a small training: it goes on from a good one to the same weights, or says why not."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from damage import Damage, Pristine, damages
from fuzzing import fuzzed, sampled, told
from hypothesis import given
from hypothesis import strategies as st
from made_run import make_run

from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.errors import UserError
from lst.recipes.training.checkpoints import MARKER_FILE, DamagedCheckpointError, read_checkpoint
from lst.recipes.training.train import check_training, train
from lst.runs import open_data
from lst.storage import sha256

STEPS = ["train.max_steps=3", "train.checkpoint_every=1", "train.keep_checkpoints=3", "train.eval_every=3"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    make_run(folder)
    return build_config(["experiment=smoke", f"run_dir={folder}", "name=m", "patching=static", *STEPS])


@pytest.fixture(scope="module")
def trained(config: Config) -> Pristine:
    """The folder of a training of three steps, whose last checkpoint was lost."""
    train(config)
    shutil.rmtree(Path(config.run_dir) / "models" / "m" / "checkpoints" / "step-00000003")
    return Pristine(Path(config.run_dir) / "models" / "m")


@pytest.fixture(scope="module")
def weights(trained: Pristine) -> bytes:
    return trained.contents["final/model.safetensors"]


def seal(folder: Path) -> None:
    """Makes markers agree with the damage."""
    for marker in folder.glob(f"checkpoints/*/{MARKER_FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            record = json.loads(marker.read_bytes()) if marker.is_file() else {}
            record["sha256"] = {name: sha256(marker.parent / name) for name in record["sha256"]}
            marker.write_text(json.dumps(record))


def drawn(data: st.DataObject, trained: Pristine) -> tuple[list[Damage], bool]:
    names = [name for name in trained.names if name.startswith("checkpoints") or "/" not in name]
    one = damages(names, trained.contents)
    found = data.draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda damage: damage.file))
    return found, data.draw(st.booleans())


@fuzzed
@given(data=st.data())
def test_checkpoints(config: Config, trained: Pristine, data: st.DataObject) -> None:
    found, is_sealed = drawn(data, trained)
    prepared = open_data(config)
    try:
        for damage in found:
            damage.do(trained.folder)
        changed = {name for name in trained.names if trained.is_changed(name)}
        if is_sealed:
            seal(trained.folder)
        steps = sorted({name.rpartition("/")[0] for name in trained.names if name.startswith("checkpoints/")})
        for step in steps:
            error = told(lambda step=step: read_checkpoint(trained.folder / step), trained.folder)
            files = {name for name in changed if name.startswith(step)}
            if not is_sealed and files and not any(name.endswith(MARKER_FILE) for name in files):
                assert error
        told(lambda: check_training(config, prepared).load(True), trained.folder)
    finally:
        trained.restore()


@sampled
@given(data=st.data())
def test_trainings_that_go_on(config: Config, trained: Pristine, weights: bytes, data: st.DataObject) -> None:
    """From whichever good checkpoint, the weights are those of the undisturbed training."""
    found, is_sealed = drawn(data, trained)
    final = trained.folder / "final"
    try:
        for damage in found:
            damage.do(trained.folder)
        for name in ("model.safetensors", "config.json", "hashes.json"):
            (final / name).unlink()
        if is_sealed:
            seal(trained.folder)
        error = told(lambda: train(config), trained.folder)
        if not is_sealed and not error:
            assert (final / "model.safetensors").read_bytes() == weights
    finally:
        trained.restore()


def changed_state(folder: Path, **changes: object) -> None:
    """Changes the newest checkpoint's state by key; its hashes agree."""
    path = folder / "checkpoints" / "step-00000002" / "state.json"
    record = json.loads(path.read_text())
    record["state"].update(changes)
    path.write_text(json.dumps(record))
    seal(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"callbacks": {"__pairs__": [[1]]}}, "step-00000002 is damaged"),
        ({"loader_state": 3}, "step-00000002 does not fit this training"),
        ({"state_dict": {}}, "step-00000002 does not fit this training"),
        ({"optimizer_states": []}, "step-00000002 does not fit this training .*0 optimizer_states"),
        ({"lr_schedulers": []}, "step-00000002 does not fit this training .*0 lr_schedulers"),
        ({"optimizer_states": [{"state": {}, "param_groups": []}]}, "step-00000002 does not fit this training"),
        ({"training_flops": "many"}, "step-00000002 does not fit this training"),
    ],
)
def test_a_state_of_another_shape_is_one_line(
    config: Config, trained: Pristine, capsys: pytest.CaptureFixture[str], changes: dict[str, object], said: str
) -> None:
    try:
        (trained.folder / "final" / "config.json").unlink()
        changed_state(trained.folder, **changes)
        if "does not fit" in said:
            with pytest.raises(DamagedCheckpointError, match=said):
                train(config)
        else:
            train(config)
            assert said in capsys.readouterr().err
    finally:
        trained.restore()


def test_an_empty_state_of_the_optimiser_is_refused(config: Config, trained: Pristine) -> None:
    path = trained.folder / "checkpoints" / "step-00000002" / "state.json"
    try:
        (trained.folder / "final" / "config.json").unlink()
        (saved,) = json.loads(path.read_text())["state"]["optimizer_states"]
        changed_state(trained.folder, optimizer_states=[{**saved, "state": {}}])
        with pytest.raises(DamagedCheckpointError, match="the state of its optimiser is empty"):
            train(config)
    finally:
        trained.restore()


def test_a_loader_that_waits_for_other_utterances_is_refused(config: Config, trained: Pristine) -> None:
    path = trained.folder / "checkpoints" / "step-00000002" / "state.json"
    try:
        (trained.folder / "final" / "config.json").unlink()
        state = json.loads(path.read_text())["state"]["loader_state"]
        for stream in state["streams"]:
            stream["buffer"] = [["interleaved", 0, 10**9, 0]]
        changed_state(trained.folder, loader_state=state)
        with pytest.raises(UserError, match="counts utterances or sources that the data has not"):
            train(config)
    finally:
        trained.restore()


@pytest.mark.parametrize("place", ["pipe", "device", "folder", "loop"])
@pytest.mark.parametrize("name", ["COMPLETE", "state.json", "tensors.safetensors"])
def test_what_is_no_file_in_a_checkpoint_is_named(trained: Pristine, name: str, place: str) -> None:
    step = trained.folder / "checkpoints" / "step-00000002"
    try:
        Damage(f"checkpoints/step-00000002/{name}", place=place).do(trained.folder)
        with pytest.raises(UserError, match="step-00000002"):
            read_checkpoint(step, verify=False)
    finally:
        trained.restore()


def test_other_folders_and_rows_beside_checkpoints(config: Config, trained: Pristine) -> None:
    """A folder whose name is no step is none; a row of metrics without its step is named."""
    try:
        (trained.folder / "final" / "config.json").unlink()
        (trained.folder / "checkpoints" / "step-old").mkdir()
        (trained.folder / "checkpoints" / "step-old" / "COMPLETE").write_text("")
        (trained.folder / "metrics.jsonl").write_text('{"loss": 1}\n')
        with pytest.raises(UserError, match=r"metrics\.jsonl, line 1 .*step is missing"):
            train(config)
        assert (trained.folder / "checkpoints" / "step-old").exists()
    finally:
        trained.restore()
