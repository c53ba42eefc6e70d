"""Lightning checkpoints as safetensors and JSON: nothing that is read back can run code.

::

    step-00000100/state.json            {"version": 2, "state": everything but the tensors, each tensor by its name}
    step-00000100/tensors.safetensors   of several processes, one file each: tensors-00001-of-00002.safetensors
    step-00000100/COMPLETE              ``Marker``, written last: without it the folder is no checkpoint

Of several processes, each writes the tensors that it alone holds, and a share of those that all hold. Where tensors are
cut among them (``lst.recipes.training.shards``), ``state.json`` also says under ``rows`` where the rows of each tensor
begin. The first process writes the marker, once all files are flushed.

The marker holds the hash of every other file, so that a checkpoint that was altered is not resumed. In checkpoints of
earlier releases it is empty, and in version 1 of the format ``state.json`` is the state itself; both are still read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from lst.errors import LstError, UserError
from lst.parallel import ALONE, Ranks, is_of_connection
from lst.progress import say
from lst.recipes.training.finite import check_finite, non_finite_names
from lst.recipes.training.shards import CutTensor, RowPlaces, RowStart, joined, joined_rows, own_tensors
from lst.storage import (
    STAGING_SUFFIX,
    Count,
    FormatError,
    OtherVersionError,
    parse_json,
    read_bytes,
    remove,
    remove_folder,
    sha256,
    staged,
    staged_folder,
    write_text,
)
from lst.storage.tensors import open_tensors

STATE_FILE, TENSORS_FILE, MARKER_FILE = "state.json", "tensors.safetensors", "COMPLETE"
VERSION = 2
_TENSOR, _PAIRS, _TUPLE = "__tensor__", "__pairs__", "__tuple__"


class Marker(TypedDict):
    """The content of ``COMPLETE``.

    Keys:
        world_size: processes that trained together.
        sha256: hash of each file, by its name: the state, and any number of files of tensors.
    """

    version: Literal[1]
    world_size: Count
    sha256: dict[str, str]


class DamagedCheckpointError(UserError):
    """A checkpoint that is not as it was written."""


@dataclass
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: its folder.
        step: number of steps that it was written after.
        state: as it was saved, until ``take`` hands it on.
    """

    path: Path
    step: int
    state: dict[str, Any]

    def take(self) -> dict[str, Any]:
        """The state; it is kept no longer, so that its tensors are not held twice."""
        state, self.state = self.state, {}
        return state


def encode_state(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Turns nested dicts, lists, tuples, tensors and plain values into JSON; adds the tensors to ``tensors`` by path.

    Raises:
        TypeError: ``value`` holds another type; a checkpoint must not hold objects.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach() if isinstance(value, DTensor) else value.detach().cpu().contiguous()
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


def decode_state(value: Any, tensors: Mapping[str, Any]) -> Any:
    """Inverse of ``encode_state``."""
    if isinstance(value, list):
        return [decode_state(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]]
    if value.keys() == {_PAIRS}:
        return {pair[0]: decode_state(pair[1], tensors) for pair in value[_PAIRS]}
    if value.keys() == {_TUPLE}:
        return tuple(decode_state(item, tensors) for item in value[_TUPLE])
    return {key: decode_state(item, tensors) for key, item in value.items()}


class SafeCheckpointIO(CheckpointIO):
    """Lightning's reader and writer of checkpoints, without pickles.

    Args:
        loaded: a checkpoint that was read already: Lightning gets its state instead of reading it again.
        ranks: processes that train together; all of them call each method.
        takes_cut: whether tensors that are cut among processes are handed on so, for a strategy that places them.
    """

    def __init__(self, loaded: Checkpoint | None = None, ranks: Ranks = ALONE, takes_cut: bool = False) -> None:
        self.loaded, self.ranks, self.takes_cut = loaded, ranks, takes_cut

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint into a staging folder, flushes it, renames it, and marks it complete.

        Raises:
            NonFiniteError: a tensor holds infinity or NaN; nothing is written.
        """
        folder, ranks = Path(path), self.ranks
        tensors: dict[str, Any] = {}
        state = encode_state(checkpoint, tensors)
        own, starts = own_tensors(tensors, ranks)
        name = TENSORS_FILE if ranks.size == 1 else f"tensors-{ranks.rank + 1:05d}-of-{ranks.size:05d}.safetensors"
        with ranks.together():
            check_finite(own, f"the checkpoint {folder}")
        with contextlib.ExitStack() as held:
            staging = ranks.at_first(lambda: held.enter_context(staged_folder(folder)))
            with ranks.together():
                with staged(staging / name) as temporary:
                    save_file(own, temporary)
                written = (name, sha256(staging / name), starts)
            files = ranks.gather(written)
            hashes = ranks.at_first(lambda: _finish(folder, staging, state, files))
        marker = Marker(version=1, world_size=ranks.size, sha256=hashes)
        ranks.at_first(lambda: write_text(folder / MARKER_FILE, json.dumps(marker)))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The state that was loaded already, or ``read_checkpoint``."""
        is_loaded = self.loaded is not None and self.loaded.path == Path(path)
        state = self.loaded.take() if self.loaded is not None and is_loaded else read_checkpoint(Path(path)).state
        return state if self.takes_cut else joined(state)

    def remove_checkpoint(self, path: Any) -> None:
        """See the function of that name."""
        if self.ranks.is_first:
            remove_checkpoint(Path(path))


def _finish(
    folder: Path, staging: Path, state: Any, files: Sequence[tuple[str, str, Mapping[str, RowStart]]]
) -> dict[str, str]:
    """Writes the state beside the tensors of all ranks, and makes room for the folder; the hashes of all files."""
    rows = joined_rows({name: starts for name, _, starts in files})
    index = {"version": VERSION, "state": state, **({"rows": rows} if rows else {})}
    write_text(staging / STATE_FILE, json.dumps(index))
    hashes = {STATE_FILE: sha256(staging / STATE_FILE)} | {name: found for name, found, _ in files}
    remove_checkpoint(folder)
    return hashes


def read_checkpoint(folder: Path, verify: bool = True, ranks: Ranks = ALONE, reshard: bool = False) -> Checkpoint:
    """Reads a checkpoint; every rank calls it for itself.

    Args:
        folder: of the checkpoint.
        verify: compare the hashes of its files with those in its marker, and look for values that are not finite. Each
            rank does so for its share of the files.
        ranks: that go on from it.
        reshard: it may be of another number of processes.

    Raises:
        UserError: it is incomplete, of a later version, or of another number of processes; ``DamagedCheckpointError``
            where it is not as it was written.
    """
    step = step_of(folder)
    remedy = f"Delete {folder} and run the same command again: it goes on from the checkpoint before."
    if not (folder / MARKER_FILE).exists():
        raise UserError(f"{folder} is not a complete checkpoint (no {MARKER_FILE}). {remedy}")
    try:
        marker = _read_marker(folder)
        if marker is not None:
            _check_world_size(folder, marker, ranks, reshard)
        if verify and marker is not None:
            _check_hashes(folder, marker, ranks)
        index = parse_json(read_bytes(folder / STATE_FILE), dict[str, Any])
        _check_version(folder, index, remedy)
        names = [TENSORS_FILE] if marker is None else [name for name in marker["sha256"] if name != STATE_FILE]
        rows: dict[str, Any] = parse_json(json.dumps(index.get("rows", {})).encode(), dict[str, RowPlaces])
        tensors: dict[str, torch.Tensor | CutTensor] = {
            key: tensor for name in names for key, tensor in _read_tensors(folder / name, rows).items()
        }
        for key, places in rows.items():
            tensors[key] = CutTensor(folder, key, places["shape"], places["starts"])
        state: dict[str, Any] = decode_state(index["state"] if "version" in index else index, tensors)
        if state.get("global_step", step) != step:
            raise FormatError(f"it is of step {state['global_step']}, not of the step that its name says")
        if verify and (wrong := non_finite_names({k: x for k, x in tensors.items() if isinstance(x, torch.Tensor)})):
            raise FormatError(f"{wrong[0]} holds values that are not finite")
    except OtherVersionError as error:
        raise UserError(f"{folder / MARKER_FILE} {error}. {remedy}") from None
    except (OSError, LookupError, TypeError, AttributeError, FormatError) as error:
        raise DamagedCheckpointError(f"the checkpoint {folder} is damaged ({error}). {remedy}") from None
    if not verify:
        say(f"{folder} was not verified (train.verify_checkpoints=false)")
    elif marker is None:
        say(f"{folder} has no hashes, as an earlier release wrote it, and was not verified; the next one has them")
    return Checkpoint(folder, step, state)


@contextlib.contextmanager
def restoring(checkpoint: Checkpoint | None, is_restored: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Context manager around the use of a checkpoint, whose state may have right hashes and a wrong content.

    Args:
        checkpoint: that is restored; None where a training begins.
        is_restored: whether a step was done with its state: what fails then has another cause.

    Raises:
        DamagedCheckpointError: in place of an error that the content of the state leads to.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        is_other = isinstance(error, (LstError, torch.OutOfMemoryError)) or is_of_connection(error)
        if checkpoint is None or is_other or is_restored():
            raise
        told = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DamagedCheckpointError(
            f"the checkpoint {checkpoint.path} does not fit this training ({told}). Delete it and run the same command "
            "again: it goes on from the checkpoint before."
        ) from error


def _read_marker(folder: Path) -> Marker | None:
    """The marker of a checkpoint; None where it is empty, as earlier releases wrote it."""
    content = read_bytes(folder / MARKER_FILE)
    if not content:
        return None
    marker = parse_json(content, Marker)
    if STATE_FILE not in marker["sha256"] or any(Path(name).name != name for name in marker["sha256"]):
        raise FormatError(f"{MARKER_FILE} does not name the files of a checkpoint")
    return marker


def _check_hashes(folder: Path, marker: Marker, ranks: Ranks) -> None:
    for name, recorded in [*marker["sha256"].items()][ranks.rank :: ranks.size]:
        if (found := sha256(folder / name)) != recorded:
            raise FormatError(f"{name} has SHA-256 {found[:12]}…, {MARKER_FILE} records {recorded[:12]}…")


def _check_version(folder: Path, index: dict[str, Any], remedy: str) -> None:
    version = index.get("version", 1)
    if version not in range(1, VERSION + 1):
        raise UserError(f"{folder} has format version {version}, known are 1 to {VERSION}. {remedy}")


def _check_world_size(folder: Path, marker: Marker, ranks: Ranks, reshard: bool) -> None:
    before = marker["world_size"]
    if before != ranks.size and not reshard:
        raise UserError(
            f"{folder} was written by {before} processes that trained together, this training has {ranks.size}: train "
            f"with as many (train.devices × train.num_nodes), or add train.reshard=true: it then goes on with "
            f"{ranks.size}, and sums are rounded otherwise"
        )


def _read_tensors(path: Path, left_out: Collection[str]) -> dict[str, torch.Tensor]:
    """The tensors of a file but some, in memory of their own, one copy of each at a time."""
    try:
        file = open_tensors(path)
        return file.read([name for name in file.tensors if name not in left_out])
    except FormatError as error:
        raise FormatError(f"{path.name} {error}") from None


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` steps, below ``folder``."""
    return folder / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """Inverse of ``checkpoint_folder``."""
    return int(folder.name.rpartition("-")[2])


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in _step_folders(folder) if (path / MARKER_FILE).exists())


def _step_folders(folder: Path) -> list[Path]:
    """Folders with the name of a checkpoint."""
    return [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]


def remove_checkpoint(folder: Path) -> None:
    """Removes a checkpoint, its marker first: a folder removed in part is no checkpoint."""
    remove(folder / MARKER_FILE)
    remove_folder(folder)


def clear_unfinished(folder: Path) -> None:
    """Removes what killed processes left: checkpoints that were written or removed in part."""
    whole = set(complete_checkpoints(folder))
    for path in [*_step_folders(folder), *folder.glob(f".step-*{STAGING_SUFFIX}")]:
        if path not in whole:
            remove_folder(path)
