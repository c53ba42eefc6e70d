"""Safetensors files, by their header first: nothing is allocated before all sizes are known to be in the file.

::

    file ──read_header──▶ types, shapes ──compared with what is needed──▶ read_tensors ──▶ tensors

A tensor is read straight into its own memory, so that reading needs no more memory than the tensors do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError, safe_open

from lst.errors import UserError
from lst.storage.typed import FormatError, check_regular

if TYPE_CHECKING:
    import torch

_LENGTH_BYTES = 8


class TensorType(NamedTuple):
    """A type of numbers: its name in torch, and bytes of one."""

    torch_name: str
    num_bytes: int


# By their names in safetensors.
TYPES = {
    "BOOL": TensorType("bool", 1),
    "U8": TensorType("uint8", 1),
    "I8": TensorType("int8", 1),
    "U16": TensorType("uint16", 2),
    "I16": TensorType("int16", 2),
    "I32": TensorType("int32", 4),
    "I64": TensorType("int64", 8),
    "F16": TensorType("float16", 2),
    "BF16": TensorType("bfloat16", 2),
    "F32": TensorType("float32", 4),
    "F64": TensorType("float64", 8),
}


class TensorInfo(NamedTuple):
    """Type and shape of a tensor in a file, and where in the file its bytes begin."""

    type: TensorType
    shape: list[int]
    offset: int

    @property
    def num_elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """The header of a safetensors file.

    Attributes:
        path: of the file.
        tensors: by name, in the order of their places.
        metadata: texts by name.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    @property
    def num_elements(self) -> int:
        """Numbers in all tensors."""
        return sum(info.num_elements for info in self.tensors.values())

    def read(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of these names, or all of them, on the CPU.

        Raises:
            KeyError: it has no tensor of a name.
            FormatError: the file was cut since its header was read.
        """
        import torch

        found = {}
        with open(self.path, "rb") as file:
            for name in self.tensors if names is None else names:
                info = self.tensors[name]
                tensor = torch.empty(info.shape, dtype=getattr(torch, info.type.torch_name))
                if info.num_elements:
                    target = tensor.reshape(-1).view(torch.uint8).numpy().data
                    file.seek(info.offset)
                    while target:
                        if not (num_read := file.readinto(target)):
                            raise FormatError(f"{self.path} was cut while it was read")
                        target = target[num_read:]
                found[name] = tensor
        return found


def read_weights(file: TensorFile, needed: Mapping[str, list[int]]) -> dict[str, torch.Tensor]:
    """All tensors of a file as float32.

    Args:
        file: its header.
        needed: their shapes by name.

    Raises:
        FormatError: they are others, or hold values that are not finite; the message begins with a verb.
    """
    if {name: info.shape for name, info in file.tensors.items()} != needed:
        raise FormatError("does not hold the weights that its description asks for")
    tensors = file.read()
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise FormatError("holds values that are not finite")
    return {name: tensor.float() for name, tensor in tensors.items()}


def open_tensors(path: Path) -> TensorFile:
    """The header of a safetensors file, which must account for every byte of the file.

    Raises:
        OSError: the file is missing or cannot be opened.
        FormatError: it is damaged; the message begins with a verb.
    """
    check_regular(path)
    with open(path, "rb") as opened:
        offset = _LENGTH_BYTES + int.from_bytes(opened.read(_LENGTH_BYTES), "little")
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            # In this order, and without gaps.
            for name in file.offset_keys():
                entry = file.get_slice(name)
                if (kind := TYPES.get(str(entry.get_dtype()))) is None:
                    raise FormatError(f"holds {name!r} of type {entry.get_dtype()}; allowed are {', '.join(TYPES)}")
                tensors[name] = TensorInfo(kind, entry.get_shape(), offset)
                offset += tensors[name].num_elements * kind.num_bytes
            return TensorFile(path, tensors, file.metadata() or {})
    except FormatError:
        raise
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"is no safetensors file ({str(error)[:200]})") from None


def read_header(path: Path, what: str, remedy: str) -> TensorFile:
    """``open_tensors``, whose errors say what to do.

    Args:
        path: the file.
        what: what the file is and its verb, for errors: ``the model's weights are``.
        remedy: what to do where it is missing or damaged, for errors.

    Raises:
        UserError: the file is missing or cannot be opened; ``FormatError`` where it is damaged.
    """
    try:
        return open_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{what} missing: {path}. {remedy}") from None
    except FormatError as error:
        raise FormatError(f"{what} damaged: {path} {error}. {remedy}") from None
    except OSError as error:
        raise UserError(f"{what} unreadable: {path} ({error.strerror or error}). {remedy}") from None
