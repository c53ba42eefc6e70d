"""What the front doors of all operators share: the choice of a path, and what Triton's kernels need."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

# Of float32 products on NVIDIA's GPUs: three products of TF32 halves, with about float32's accuracy.
EXACT_PRECISION = "tf32x3"


_Function = TypeVar("_Function", bound=Callable[..., Any])


def constant_result(function: _Function) -> _Function:
    """Marks a function that ``torch.compile`` calls once and does not trace.

    It is ``torch.compiler.assume_constant_result`` without its import of Dynamo, which costs each command 1.7 s of CPU.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class PathChoice:
    """Which path of an operator runs.

    Args:
        operator: for errors.
        paths: all paths.
        on_cpu: the path on the CPU.
        otherwise: the path on other devices without Triton.
        narrow: paths that do not take float64; ``otherwise`` runs in their place. Only tests and checks of gradients
            use float64, and Triton has no matrix product of it.
    """

    def __init__(
        self, operator: str, paths: tuple[str, ...], on_cpu: str, otherwise: str, narrow: tuple[str, ...] = ()
    ) -> None:
        self.operator, self.paths, self.narrow = operator, paths, narrow
        self.on_cpu, self.otherwise = on_cpu, otherwise
        self._forced: list[str] = []

    @property
    def forced(self) -> str | None:
        """The path that ``force`` asks for; None outside of it."""
        return self._forced[-1] if self._forced else None

    def on(self, device: torch.device, dtype: torch.dtype, fits_triton: bool = True) -> str:
        """The path that runs for inputs of a type on a device.

        Args:
            device: of the inputs.
            dtype: of the inputs.
            fits_triton: whether Triton's kernel is the fast one for these inputs.

        Raises:
            ValueError: ``triton`` is forced where it cannot run.
        """
        path = self.forced
        if path == "triton" and not _runs_triton(device):
            raise ValueError(
                f"{self.operator}: the path 'triton' is forced, and the inputs are on {device}: needed are Triton and "
                "a GPU, or on the CPU Triton's interpreter (TRITON_INTERPRET=1 before the first import)"
            )
        if path is None and device.type in ("cpu", "meta"):
            path = self.on_cpu
        elif path is None:
            path = "triton" if device.type == "cuda" and fits_triton and has_triton() else self.otherwise
        return self.otherwise if dtype == torch.float64 and path in self.narrow else path

    @contextlib.contextmanager
    def force(self, path: str) -> Iterator[None]:
        """Context manager: every call takes this path on any device.

        ``triton`` on the CPU needs Triton's interpreter (TRITON_INTERPRET=1).
        """
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


@constant_result
def _runs_triton(device: torch.device) -> bool:
    if not has_triton() or device.type == "cuda":
        return has_triton()
    import triton

    return bool(triton.knobs.runtime.interpret)


def float32_precision() -> str:
    """How Triton's kernels multiply float32.

    On NVIDIA's GPUs that is ``tf32x3``: three products of TF32 halves on tensor cores, with about float32's accuracy.
    With ``torch.backends.cuda.matmul.allow_tf32`` it is one product, rounded to TF32.
    """
    if torch.backends.cuda.matmul.allow_tf32:
        return "tf32"
    return EXACT_PRECISION if torch.version.hip is None else "ieee"


def on_device_of(tensor: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Context manager: kernels start on the tensor's device. Otherwise they start on the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
