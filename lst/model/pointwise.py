"""Layers that act on each position separately: linear layer, norm, rotation, gate.

Norm, rotation and gate have their own backward pass, which keeps fewer tensors and takes fewer passes over memory than
autograd's. Under ``torch.compile`` the plain formulas run, because it fuses them itself. Tests compare the two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lst.kernels.products import can_multiply, linear

NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019): w · x / √(mean x² + ε), with sums in float32 or wider.

    Args:
        dim: width of the last dimension.
        eps: ε.
    """

    def __init__(self, dim: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., D] of the same type."""
        if torch.compiler.is_compiling():
            return rms_norm_reference(x, self.weight, self.eps)
        if torch.is_grad_enabled():
            return _RMSNorm.apply(x, self.weight, self.eps)
        return _normed(x, self.weight, self.eps)[0]


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float = NORM_EPS) -> torch.Tensor:
    """The plain twin of ``RMSNorm``: [..., D] → [..., D]."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out, inverse = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        unit, wide_grad = x * inverse, grad.to(inverse.dtype)
        product = wide_grad * unit
        grad_weight = product.reshape(-1, x.shape[-1]).sum(dim=0)
        # The part of the gradient along x vanishes: the norm removes the length of x.
        along = (product @ weight.to(product.dtype)).div_(x.shape[-1])[..., None]
        grad_x = (wide_grad * weight).sub_(unit.mul_(along)).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None


class Linear(nn.Linear):
    """A linear layer that is fast on a CPU too, for many rows and for a single one. The bias starts at zero.

    Args:
        in_dim, out_dim: widths.
        bias: whether there is a bias.
    """

    def __init__(self, in_dim: int, out_dim: int, bias: bool = False) -> None:
        super().__init__(in_dim, out_dim, bias=bias)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_dim] → [..., out_dim]."""
        if can_multiply(x, self.weight):
            return linear(x, self.weight, self.bias)
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.numel() != self.in_features:
            return functional.linear(x, self.weight, self.bias)
        parts = torch.get_num_threads()
        if x.device.type != "cpu" or x.dtype != self.weight.dtype or self.out_features % parts:
            return functional.linear(x, self.weight, self.bias)
        # PyTorch computes such a product on one core, but a batch of products on all.
        split = self.weight.view(parts, -1, self.in_features).transpose(1, 2)
        out = torch.bmm(x.reshape(1, 1, -1).expand(parts, 1, -1), split)
        out = out.view(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias.to(out.dtype)


def _normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The normed tensor, and the inverse root mean square [..., 1]."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * inverse).mul_(weight).to(x.dtype), inverse


def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, num_rotated: int) -> torch.Tensor:
    """Rotates the first ``num_rotated`` heads of [..., H, D] by the angles of ``Rotary``; the others stay.

    Args:
        heads: [..., H, D].
        cos, sin: [..., 1, D / 2].
        num_rotated: heads that are rotated.
    """
    cos, sin = cos.to(heads.dtype), sin.to(heads.dtype)
    if torch.compiler.is_compiling():
        return rotate_reference(heads, cos, sin, num_rotated)
    if not torch.is_grad_enabled():
        return _rotated(heads, cos, sin, num_rotated)
    return _Rotate.apply(heads, cos, sin, num_rotated)


def rotate_reference(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, num_rotated: int) -> torch.Tensor:
    """The plain twin of ``rotate``."""
    first, second = heads[..., :num_rotated, :].chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([rotated, heads[..., num_rotated:, :]], dim=-2)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, num_rotated: int) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.num_rotated = num_rotated
        return _rotated(heads, cos, sin, num_rotated)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        # The transpose of a rotation is its inverse.
        return _rotated(grad, cos, -sin, ctx.num_rotated), None, None, None


def _rotated(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, num_rotated: int) -> torch.Tensor:
    out = torch.empty_like(heads)
    out[..., num_rotated:, :] = heads[..., num_rotated:, :]
    first, second = heads[..., :num_rotated, :].chunk(2, dim=-1)
    out_first, out_second = out[..., :num_rotated, :].chunk(2, dim=-1)
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin)
    return out


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, [..., F], of the concatenated [..., 2F]."""
    if torch.compiler.is_compiling():
        return swiglu_reference(gate_up)
    return _SwiGLU.apply(gate_up) if torch.is_grad_enabled() else _gated(gate_up)


def _gated(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def swiglu_reference(gate_up: torch.Tensor) -> torch.Tensor:
    """The plain twin of ``swiglu``."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        return _gated(gate_up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, dim=-1)
        torch.mul(grad, functional.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return out
