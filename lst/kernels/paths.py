"""What the front doors of all operators share: which path is forced, whether Triton is there, where kernels start."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch

# Of NVIDIA's GPUs.
EXACT_PRECISION = "tf32x3"


class PathChoice:
    """The paths of one operator, and which of them is forced for now.

    Args:
        operator: for errors.
        paths: their names.
    """

    def __init__(self, operator: str, paths: tuple[str, ...]) -> None:
        self.operator, self.paths = operator, paths
        self._forced: list[str] = []

    @property
    def forced(self) -> str | None:
        """The path that ``force`` asks for, if one does."""
        return self._forced[-1] if self._forced else None

    def forced_on(self, device: torch.device) -> str | None:
        """The path that ``force`` asks for, if one does.

        Raises:
            ValueError: that is ``triton``, which cannot run on such a device.
        """
        if self.forced == "triton" and not _runs_triton(device):
            raise ValueError(
                f"{self.operator}: the path 'triton' is forced, and the inputs are on {device}: needed are Triton and "
                "a GPU, or on the CPU Triton's interpreter (TRITON_INTERPRET=1 before the first import)"
            )
        return self.forced

    @contextlib.contextmanager
    def force(self, path: str) -> Iterator[None]:
        """Within the block every call takes this path, on whatever device (``triton`` on the CPU needs Triton's
        interpreter, TRITON_INTERPRET=1)."""
        if path not in self.paths:
            raise ValueError(f"{self.operator} path {path!r}: allowed are {', '.join(self.paths)}")
        self._forced.append(path)
        try:
            yield
        finally:
            self._forced.pop()


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


@torch.compiler.assume_constant_result
def _runs_triton(device: torch.device) -> bool:
    if not has_triton() or device.type == "cuda":
        return has_triton()
    import triton

    return bool(triton.knobs.runtime.interpret)


def float32_precision() -> str:
    """How Triton's kernels multiply float32: on NVIDIA in three products of TF32 halves, which tensor cores take and
    which keep about float32's accuracy; rounded to TF32 with ``torch.backends.cuda.matmul.allow_tf32``."""
    if torch.backends.cuda.matmul.allow_tf32:
        return "tf32"
    return EXACT_PRECISION if torch.version.hip is None else "ieee"


def on_device_of(tensor: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Kernels start on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
