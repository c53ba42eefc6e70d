"""Tensors of a checkpoint that are cut by their rows among the processes of a training.

::

    FSDP's tensor [10, D] on 4 ranks       rows 0–2, 3–5, 6–8, 9       each in the file of its rank
    CutTensor.rows(first, count)           any rows, from the files that hold them

So a checkpoint can be read by any number of processes, and by each only what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from lst.parallel import Ranks
from lst.storage import Count, FormatError
from lst.storage.tensors import open_tensors


class RowPlaces(TypedDict):
    """Where the rows of a cut tensor are, in ``state.json``.

    Keys:
        shape: of the whole tensor.
        starts: by file, the number of its first row that the file holds.
    """

    shape: list[Count]
    starts: dict[str, Count]


class RowStart(NamedTuple):
    """Shape of a cut tensor, and the number of the first row that a rank holds."""

    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class CutTensor:
    """A tensor in several files, which is not read yet.

    Attributes:
        folder: of the files.
        name: of the tensor in each.
        shape: of the whole.
        starts: by file, the number of its first row.
    """

    folder: Path
    name: str
    shape: list[int]
    starts: Mapping[str, int]

    def rows(self, first: int, count: int) -> torch.Tensor:
        """``count`` rows from row ``first`` on.

        Raises:
            FormatError: the files do not hold them, or they are not finite.
        """
        found: list[torch.Tensor] = []
        next_row = first
        for file, start in sorted(self.starts.items(), key=lambda item: item[1]):
            opened = open_tensors(self.folder / file)
            if self.name not in opened.tensors or list(opened.tensors[self.name].shape[1:]) != self.shape[1:]:
                raise FormatError(f"{file} does not hold rows of {self.name}")
            end = start + opened.tensors[self.name].shape[0]
            if start <= next_row < min(end, first + count):
                part = opened.read([self.name])[self.name][next_row - start : first + count - start]
                found.append(part.clone())
                next_row += len(part)
        if next_row != first + count:
            raise FormatError(f"the rows of {self.name} from {next_row} on are in no file")
        if not found:
            raise FormatError(f"{self.name} has no rows")
        rows = found[0] if len(found) == 1 else torch.cat(found)
        if rows.is_floating_point() and not bool(rows.isfinite().all()):
            raise FormatError(f"{self.name} holds values that are not finite")
        return rows

    def whole(self) -> torch.Tensor:
        """All of it."""
        return self.rows(0, self.shape[0])


def own_tensors(
    tensors: Mapping[str, torch.Tensor], ranks: Ranks
) -> tuple[dict[str, torch.Tensor], dict[str, RowStart]]:
    """What a rank writes of a checkpoint: its rows of tensors that are cut, and its share of the others.

    Returns:
        The tensors, and where the rows of the cut ones begin.
    """
    own: dict[str, torch.Tensor] = {}
    starts: dict[str, RowStart] = {}
    num_bytes = [0] * ranks.size
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            first, count, is_written = _held_rows(tensor)
            if is_written and count:
                own[name] = tensor.to_local().detach().cpu().clone()
                starts[name] = RowStart(tuple(tensor.shape), first)
            continue
        # All ranks hold it, and all of them find the same one: the one that writes least so far.
        writer = num_bytes.index(min(num_bytes))
        num_bytes[writer] += tensor.nbytes
        if writer == ranks.rank:
            own[name] = tensor
    return own, starts


def joined_rows(starts_by_file: Mapping[str, Mapping[str, RowStart]]) -> dict[str, RowPlaces]:
    """Where the rows of each cut tensor are, from what each file says."""
    found: dict[str, RowPlaces] = {}
    for file, starts in starts_by_file.items():
        for name, (shape, start) in starts.items():
            found.setdefault(name, {"shape": list(shape), "starts": {}})["starts"][file] = start
    return found


def _held_rows(tensor: DTensor) -> tuple[int, int, bool]:
    """First row, number of rows, and whether this rank writes them: of equal copies, the first one is written."""
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    first, count, is_written = 0, tensor.shape[0], True
    for place, placement in enumerate(tensor.placements):
        if not isinstance(placement, Shard):
            is_written = is_written and coordinate[place] == 0
            continue
        # As torch.chunk cuts: all parts but the last ones have as many rows.
        most = -(-count // mesh.size(place))
        start = min(count, coordinate[place] * most)
        first, count = first + start, min(most, count - start)
    return first, count, is_written


def joined(value: Any) -> Any:
    """A state, however nested, in which no tensor is cut."""
    if isinstance(value, CutTensor):
        return value.whole()
    if isinstance(value, dict):
        return {key: joined(item) for key, item in value.items()}
    return type(value)(map(joined, value)) if type(value) in (list, tuple) else value


def placed_like(value: Any, like: torch.Tensor) -> Any:
    """A value of a checkpoint as this training holds it: of a tensor that is cut, the rows of this rank.

    Args:
        value: a tensor, a ``CutTensor``, or any other value, which stays as it is.
        like: the parameter that it belongs to.
    """
    if not isinstance(value, (torch.Tensor, CutTensor)):
        return value
    if not isinstance(like, DTensor) or tuple(value.shape) != tuple(like.shape):
        return value.whole() if isinstance(value, CutTensor) else value
    if isinstance(value, torch.Tensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    first, count, _ = _held_rows(like)
    local = value.rows(first, count) if count else torch.empty(like.to_local().shape, dtype=like.dtype)
    return DTensor.from_local(
        local.to(like.device),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
