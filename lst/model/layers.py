"""The pieces that local modules and backbone share: projections with rotary positions, SwiGLU, pre-norm blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

NORM_EPS = 1e-5
# What attends, given queries, keys and values with heads second to last.
AttentionCore = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Rotary(nn.Module):
    """Rotary position embedding (RoFormer, Su et al. 2021) on pairs of half-vectors.

    Args:
        head_dim: width of a head, even.
        theta: base of the wavelengths.
    """

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        self.register_buffer("frequencies", (theta**-exponents).float(), persistent=False)

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32 [..., 1, head_dim / 2], of int64 positions [...]."""
        angles = position_ids[..., None].float() * self.get_buffer("frequencies")
        return angles.cos()[..., None, :], angles.sin()[..., None, :]


def rotate(x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotates [..., H, D] by the angles of ``Rotary``."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class SelfAttention(nn.Module):
    """Projections and rotary positions around an attention core."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], core: AttentionCore
    ) -> torch.Tensor:
        """[..., D] → [..., D]; ``core`` says who sees whom."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)) for part in self.query_key_value(x).chunk(3, dim=-1)
        )
        return self.output(core(rotate(query, rotation), rotate(key, rotation), value).flatten(-2))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.output(functional.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm Transformer block: x + attention, then x + feed-forward."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.attention = SelfAttention(dim, num_heads)
        self.ffn_norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.ffn = SwiGLU(dim, ffn_dim)

    def forward(
        self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor], core: AttentionCore
    ) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, core)
        return x + self.ffn(self.ffn_norm(x))


class CrossAttention(nn.Module):
    """Pre-norm cross-attention with a residual: queries of one width read states of another."""

    def __init__(self, query_dim: int, state_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_norm = nn.RMSNorm(query_dim, eps=NORM_EPS)
        self.state_norm = nn.RMSNorm(state_dim, eps=NORM_EPS)
        self.query = nn.Linear(query_dim, query_dim, bias=False)
        self.key_value = nn.Linear(state_dim, 2 * query_dim, bias=False)
        self.output = nn.Linear(query_dim, query_dim, bias=False)

    def forward(self, x: torch.Tensor, states: torch.Tensor, core: AttentionCore) -> torch.Tensor:
        """x [..., Dq] reads states [n, Ds]; ``core`` says who sees what."""
        query = self.query(self.query_norm(x)).unflatten(-1, (self.num_heads, -1))
        key, value = (
            part.unflatten(-1, (self.num_heads, -1)) for part in self.key_value(self.state_norm(states)).chunk(2, -1)
        )
        return x + self.output(core(query, key, value).flatten(-2))
