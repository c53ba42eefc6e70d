"""Norm, rotation and gate: the passes between matrix products, as plain formulas."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

NORM_EPS = 1e-5


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm (Zhang and Sennrich 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=NORM_EPS)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates [..., H, D] by the angles of ``Rotary``."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up, [..., F] of the joined [..., 2F]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up
