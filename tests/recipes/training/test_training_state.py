"""Checkpoints: what goes in comes out, and what is not whole is no checkpoint."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from lst.errors import UserError
from lst.recipes.training.checkpoints import (
    SafeCheckpointIO,
    checkpoint_folder,
    complete_checkpoints,
    decode_state,
    encode_state,
)

STATE = {
    "weights": {"a.b": torch.arange(6.0).view(2, 3), "scalar": torch.tensor(3, dtype=torch.int64)},
    "optimizer": {"state": {0: {"step": torch.tensor(4.0)}, 1: {}}, "betas": (0.9, 0.95)},
    "empty": [],
    "none": None,
    "text": "é",
    "__tensor__": "a key that looks like a sign of the format",
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def assert_equal(a: object, b: object) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_round_trip_keeps_types_keys_and_values(tmp_path: Path) -> None:
    io = SafeCheckpointIO()
    io.save_checkpoint(STATE, tmp_path / "step-00000001")
    assert_equal(io.load_checkpoint(tmp_path / "step-00000001"), STATE)
    names = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert names == {"state.json", "tensors.safetensors", "COMPLETE"}


def test_version_1_is_read_and_later_versions_are_refused(tmp_path: Path) -> None:
    io, folder = SafeCheckpointIO(), tmp_path / "step-00000001"
    io.save_checkpoint(STATE, folder)
    index = json.loads((folder / "state.json").read_text())
    (folder / "COMPLETE").write_text("")
    (folder / "state.json").write_text(json.dumps(index["state"]))
    assert_equal(io.load_checkpoint(folder), STATE)
    (folder / "state.json").write_text(json.dumps({**index, "version": 3}))
    with pytest.raises(UserError, match=r"format version 3, known are 1 to 2\. Delete"):
        io.load_checkpoint(folder)


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="/a/0: set"):
        encode_state({"a": [{1, 2}]}, {})


def test_shared_tensors_survive() -> None:
    tensor, tensors = torch.ones(2), {}
    state = encode_state({"a": tensor, "b": tensor}, tensors)
    assert_equal(decode_state(state, tensors), {"a": tensor, "b": tensor})


@pytest.mark.parametrize("failing_write", [0, 1, 2, 3, 4, 5])
def test_killed_at_any_write_the_newest_whole_checkpoint_loads(
    failing_write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies at a rename or flush leaves the earlier checkpoint, or the new one, whole."""
    import os

    io = SafeCheckpointIO()
    io.save_checkpoint({"step": 1}, checkpoint_folder(tmp_path, 1))
    real_replace, count = os.replace, 0

    def replace(*arguments: object) -> None:
        nonlocal count
        if count == failing_write:
            raise SystemExit("killed")
        count += 1
        real_replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", replace)
    died = False
    try:
        io.save_checkpoint({"step": 2}, checkpoint_folder(tmp_path, 2))
    except SystemExit:
        died = True
    newest = io.load_checkpoint(complete_checkpoints(tmp_path)[-1])
    assert newest == {"step": 1 if died else 2}
    # Two files, the folder and the marker are renamed.
    assert died == (failing_write < 4)


def test_incomplete_and_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    io, folder = SafeCheckpointIO(), tmp_path / "step-00000003"
    io.save_checkpoint({"w": torch.ones(1)}, folder)
    (folder / "tensors.safetensors").write_bytes(b"xx")
    with pytest.raises(UserError, match=r"is damaged.*goes on from the checkpoint before"):
        io.load_checkpoint(folder)
    (folder / "COMPLETE").unlink()
    assert complete_checkpoints(tmp_path) == []
    with pytest.raises(UserError, match="not a complete checkpoint"):
        io.load_checkpoint(folder)


def test_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="is full"):
        SafeCheckpointIO().save_checkpoint({"w": torch.ones(1)}, tmp_path / "step-00000001")
    assert list(tmp_path.iterdir()) == []


def test_removal_takes_the_marker_first(tmp_path: Path) -> None:
    io, folder = SafeCheckpointIO(), tmp_path / "step-00000001"
    io.save_checkpoint({}, folder)
    io.remove_checkpoint(folder)
    assert not folder.exists()
