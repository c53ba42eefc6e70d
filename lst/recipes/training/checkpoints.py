"""Lightning checkpoints as safetensors and JSON: nothing that is read back can run code.

::

    step-00000100/state.json            {"version": 2, "state": everything but the tensors, each tensor by its name}
    step-00000100/tensors.safetensors
    step-00000100/COMPLETE              written last: without it the folder is no checkpoint

In version 1 of the format, ``state.json`` is the state itself; it is still read.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load, save

from lst.errors import UserError
from lst.storage import disk_full_error, fsync_folder, write_bytes, write_text

STATE_FILE, TENSORS_FILE, MARKER_FILE = "state.json", "tensors.safetensors", "COMPLETE"
VERSION = 2
_TENSOR, _PAIRS, _TUPLE = "__tensor__", "__pairs__", "__tuple__"


def encode_state(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Turns nested dicts, lists, tuples, tensors and plain values into JSON; adds the tensors to ``tensors`` by path.

    Raises:
        TypeError: ``value`` holds another type; a checkpoint must not hold objects.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {_TENSOR: path}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and not {_TENSOR, _PAIRS, _TUPLE} & value.keys():
            return {key: encode_state(item, tensors, f"{path}/{key}") for key, item in value.items()}
        return {_PAIRS: [[key, encode_state(item, tensors, f"{path}/{key}")] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [encode_state(item, tensors, f"{path}/{index}") for index, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold {path or 'this'}: {type(value).__name__}; use tensors and plain values")


def decode_state(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Inverse of ``encode_state``."""
    if isinstance(value, list):
        return [decode_state(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]]
    if value.keys() == {_PAIRS}:
        return {key: decode_state(item, tensors) for key, item in value[_PAIRS]}
    if value.keys() == {_TUPLE}:
        return tuple(decode_state(item, tensors) for item in value[_TUPLE])
    return {key: decode_state(item, tensors) for key, item in value.items()}


class SafeCheckpointIO(CheckpointIO):
    """Lightning's reader and writer of checkpoints, without pickles."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint into a staging folder, flushes it, renames it, and marks it complete."""
        folder = Path(path)
        staging = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        tensors: dict[str, torch.Tensor] = {}
        state = encode_state(checkpoint, tensors)
        try:
            write_bytes(staging / TENSORS_FILE, save(tensors))
            write_text(staging / STATE_FILE, json.dumps({"version": VERSION, "state": state}))
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(staging, folder)
            fsync_folder(folder.parent)
            write_text(folder / MARKER_FILE, "")
        except OSError as error:
            if error.errno == 28:
                raise disk_full_error(folder) from error
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint; raises ``UserError`` if it is incomplete, damaged, or of a later version."""
        folder = Path(path)
        remedy = f"Delete {folder} and run lst train again: it goes on from the checkpoint before."
        if not (folder / MARKER_FILE).exists():
            raise UserError(f"{folder} is not a complete checkpoint (no {MARKER_FILE}). {remedy}")
        try:
            tensors = load((folder / TENSORS_FILE).read_bytes())
            index = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            if index.get("version", 1) > VERSION:
                raise UserError(f"{folder} has format version {index['version']}, known are 1 to {VERSION}. {remedy}")
            return decode_state(index["state"] if "version" in index else index, tensors)
        except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
            raise UserError(f"the checkpoint {folder} is damaged ({error}). {remedy}") from None

    def remove_checkpoint(self, path: Any) -> None:
        """Removes a checkpoint, its marker first: a folder removed in part is no checkpoint."""
        (Path(path) / MARKER_FILE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` steps, below ``folder``."""
    return folder / f"step-{step:08d}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{MARKER_FILE}"))
