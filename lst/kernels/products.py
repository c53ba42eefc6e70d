"""Large products of many rows with one matrix, float32 on a CPU: by oneDNN where PyTorch has it.

PyTorch's own choice is MKL. For 4,096 rows on two cores of an AMD EPYC, oneDNN took 13 to 16 % less time for outputs
and for gradients of inputs. On one core of another, it took 3 to 28 % more for 128 to 4,096 rows, and four times as
long for small matrices where their number of rows was new to it. Intel's processors were not measured.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# For fewer multiplications, what a call costs beside them exceeds what it saves. oneDNN prepares for each new number of
# rows, and patched models have another number of tokens in each batch.
_LEAST_PRODUCTS = 2**28


@functools.cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product of plain tensors."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def can_multiply(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether ``linear`` is faster than PyTorch's for inputs [..., K] and a matrix."""
    # First: what follows cannot be traced.
    return (
        not torch.compiler.is_compiling()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() * weight.shape[0] >= _LEAST_PRODUCTS
        and has_onednn()
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., K] times the transpose of a weight [V, K], plus a bias [V]: [..., V]. See ``can_multiply``."""
    if torch.is_grad_enabled() and any(y is not None and y.requires_grad for y in (x, weight, bias)):
        return _Linear.apply(x, weight, bias)
    return multiply(x, weight, bias)


def multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``linear`` without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_rows = grad.reshape(-1, grad.shape[-1])
        return (
            multiply(grad, weight.t()) if wants_x else None,
            # A sum over all rows, for which MKL is as fast.
            grad_rows.t() @ x.reshape(-1, x.shape[-1]) if wants_weight else None,
            grad_rows.sum(dim=0) if wants_bias else None,
        )
