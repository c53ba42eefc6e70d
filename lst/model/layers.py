"""Layers that local modules and backbone share: attention with rotary positions, SwiGLU, pre-norm blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lst.kernels.attention import interval_attention
from lst.model.pointwise import Linear, RMSNorm, rotate, swiglu
from lst.model.ranges import KeyRange

# Attention: from queries, keys and values, all [..., heads, D], to outputs of the queries' shape.
AttentionCore = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Recorder:
    """Records keys, values and states while a prompt is computed in parallel, so that generation can continue it.

    Args:
        num_patches: int64 [S], patches of each document after which recurrent states are kept.

    Attributes:
        keys_values: of each attention by name, in the order of the layers.
        states: token states by name.
        recurrent: states of the recurrent mixers, in the order of the layers.
    """

    def __init__(self, num_patches: torch.Tensor | None = None) -> None:
        self.num_patches = num_patches
        self.keys_values: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.states: dict[str, torch.Tensor] = {}
        self.recurrent: list[tuple[torch.Tensor, ...]] = []

    def keys_and_values(self, name: str, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Records the keys and values [n, G, D] of one layer, and gives what its queries attend to: these."""
        self.keys_values.setdefault(name, []).append((key, value))
        return key, value


def core_over(keys: KeyRange, name: str, recorder: Recorder | None) -> AttentionCore:
    """Attention of every query to its range of keys. Leading dimensions of the queries are flattened for it.

    Args:
        keys: the range of each query.
        name: of the attention, for the recorder.
        recorder: records keys and values; None for training.
    """

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if recorder is not None:
            key, value = recorder.keys_and_values(name, key, value)
        return interval_attention(query.flatten(0, -3), key, value, keys.first, keys.last).view(query.shape)

    return attend


class Rotary(nn.Module):
    """Rotary position embedding (RoFormer, Su et al. 2021) on pairs of half-vectors.

    Args:
        head_dim: width of a head, even.
        theta: base of the wavelengths.
        scaling: slows angles for a longer context: maps the angles of one position, float64 [head_dim / 2].
    """

    def __init__(
        self, head_dim: int, theta: float, scaling: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        super().__init__()
        self.head_dim, self.theta, self.scaling = head_dim, theta, scaling

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32 [..., 1, head_dim / 2], of int64 positions [...]."""
        # Not a buffer: half precision would round it, and the angles of far positions would be wrong.
        wide = torch.float32 if position_ids.device.type == "mps" else torch.float64
        exponents = torch.arange(0, self.head_dim, 2, dtype=wide, device=position_ids.device) / self.head_dim
        speeds = self.theta**-exponents
        if self.scaling is not None:
            speeds = self.scaling(speeds)
        angles = position_ids[..., None].float() * speeds.float()
        return angles.cos()[..., None, :], angles.sin()[..., None, :]


def llama3_speeds(
    speeds: torch.Tensor, factor: float, low_factor: float, high_factor: float, original_positions: int
) -> torch.Tensor:
    """Rotary angles of Llama 3.1: slow ones are divided by ``factor``, fast ones stay, those between are blended.

    Args:
        speeds: angle of one position, float [n].
        factor: how many times slower.
        low_factor, high_factor: turns within ``original_positions`` up to which an angle is slow, and from which it is
            fast.
        original_positions: context that the angles were made for.
    """
    turns = original_positions * speeds / (2 * math.pi)
    share_kept = ((turns - low_factor) / (high_factor - low_factor)).clamp(0, 1)
    return speeds * (share_kept + (1 - share_kept) / factor)


class SelfAttention(nn.Module):
    """Projections and rotary positions around an attention core.

    Args:
        dim: width.
        num_heads: query heads.
        num_kv_heads: key and value heads, each shared by the same number of query heads (grouped-query attention,
            Ainslie et al. 2023).
        head_dim: width of a head; 0: the width divided by the heads.
        biases: ``none``, ``qkv`` (of queries, keys and values) or ``all``.
        make_head_norm: builds the norm of queries, and that of keys; None for none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int = 0,
        biases: str = "none",
        make_head_norm: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        head_dim = head_dim or dim // num_heads
        self.query_key_value = Linear(dim, (num_heads + 2 * num_kv_heads) * head_dim, bias=biases != "none")
        self.output = Linear(num_heads * head_dim, dim, bias=biases == "all")
        self.query_norm = make_head_norm and make_head_norm()
        self.key_norm = make_head_norm and make_head_norm()

    def forward(
        self, x: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor] | None, core: AttentionCore
    ) -> torch.Tensor:
        """[..., D] → [..., D]; ``rotation`` is that of ``Rotary`` or None, ``core`` attends."""
        heads = self.query_key_value(x).view(*x.shape[:-1], self.num_heads + 2 * self.num_kv_heads, -1)
        if self.query_norm is not None and self.key_norm is not None:
            query, key, value = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=-2)
            heads = torch.cat([self.query_norm(query), self.key_norm(key), value], dim=-2)
        if rotation is not None:
            heads = rotate(heads, *rotation, num_rotated=self.num_heads + self.num_kv_heads)
        query, key, value = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=-2)
        return self.output(core(query, key, value).flatten(-2))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020): W₂ (silu(W_g x) ⊙ W_u x)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = Linear(dim, 2 * hidden_dim)
        self.output = Linear(hidden_dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., D]."""
        return self.output(swiglu(self.gate_up(x)))


class GeluFeedForward(nn.Module):
    """Feed-forward layer of GPT-2 and H3: four times the width, the tanh form of GELU, and biases."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = Linear(dim, 4 * dim, bias=True)
        self.output = Linear(4 * dim, dim, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., D]."""
        return self.output(functional.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Pre-norm block: x + mixer, then x + feed-forward.

    Args:
        mixer: attention, or a recurrent mixer.
        ffn: the feed-forward layer.
        make_norm: builds a norm.
    """

    def __init__(self, mixer: nn.Module, ffn: nn.Module, make_norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.mixer_norm = make_norm()
        self.mixer = mixer
        self.ffn_norm = make_norm()
        self.ffn = ffn

    def forward(self, x: torch.Tensor, *surroundings: Any) -> torch.Tensor:
        """[..., D] → [..., D]; ``surroundings`` are the further arguments of the mixer."""
        x = x + self.mixer(self.mixer_norm(x), *surroundings)
        return x + self.ffn(self.ffn_norm(x))


def attention_block(dim: int, num_heads: int, num_kv_heads: int, ffn_dim: int) -> Block:
    """Builds a Transformer block of the local modules."""
    return Block(SelfAttention(dim, num_heads, num_kv_heads), SwiGLU(dim, ffn_dim), lambda: RMSNorm(dim))


class CrossAttention(nn.Module):
    """Pre-norm cross-attention with a residual, from queries of one width to states of another.

    Args:
        query_dim, state_dim: widths.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        num_keys: keys that each state gives.
        residual: how many times the input is added to the output.
    """

    def __init__(
        self, query_dim: int, state_dim: int, num_heads: int, num_kv_heads: int, num_keys: int = 1, residual: int = 1
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.residual = num_heads, num_kv_heads, residual
        self.head_dim = query_dim // num_heads
        self.query_norm = RMSNorm(query_dim)
        self.state_norm = RMSNorm(state_dim)
        self.query = Linear(query_dim, query_dim)
        self.key_value = Linear(state_dim, num_keys * 2 * num_kv_heads * self.head_dim)
        self.output = Linear(query_dim, query_dim)

    def keys_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [n·K, G, D/H] of states [n, Ds]; the K of a state follow one another."""
        heads = self.key_value(self.state_norm(states)).view(-1, 2 * self.num_kv_heads, self.head_dim)
        key, value = heads.chunk(2, dim=-2)
        return key, value

    def read(self, x: torch.Tensor, key: torch.Tensor, value: torch.Tensor, core: AttentionCore) -> torch.Tensor:
        """x [..., Dq] attends to keys and values by ``core``; [..., Dq]."""
        query = self.query(self.query_norm(x)).view(*x.shape[:-1], self.num_heads, -1)
        return torch.add(self.output(core(query, key, value).flatten(-2)), x, alpha=self.residual)

    def forward(self, x: torch.Tensor, states: torch.Tensor, core: AttentionCore) -> torch.Tensor:
        """x [..., Dq] attends to states [n, Ds]; [..., Dq]."""
        return self.read(x, *self.keys_values(states), core)
