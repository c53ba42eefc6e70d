"""The backbone, which models the sequence of patches (or of tokens, in the token-level baseline)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from lst.model.config import ModelConfig
from lst.model.layers import (
    Block,
    GeluFeedForward,
    Recorder,
    Rotary,
    SelfAttention,
    SwiGLU,
    core_over,
    llama3_speeds,
)
from lst.model.pointwise import RMSNorm
from lst.model.ranges import KeyRange
from lst.model.state_space import H3, S4D, Recurrence

# Mixers that keep a state; the others are attention.
RECURRENT: dict[str, type[Any]] = {"h3": H3, "s4d": S4D}


class Backbone(nn.Module):
    """Causal layers over the real patches of a batch. The config names the mixer of each layer.

    Attention, states and positions stop at document boundaries.

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mixers, self.window_patches = config.mixers, config.global_window_patches
        self.rotary = build_rotary(config) if config.positions == "rotary" else None
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_patches, config.global_dim) if learned else None
        self.blocks = nn.ModuleList(build_block(mixer, config) for mixer in self.mixers)
        self.norm = build_norm(config) if config.ends_backbone_in_norm else nn.Identity()

    def forward(
        self,
        x_MD: torch.Tensor,
        position_ids_M: torch.Tensor,
        patches: KeyRange,
        starts: torch.Tensor,
        recorder: Recorder | None = None,
    ) -> torch.Tensor:
        """[M, D] → [M, D].

        Args:
            x_MD: patch vectors.
            position_ids_M: int64 [M], positions in the documents.
            patches: the patches that each patch may attend to.
            starts: int64 [S + 1], offsets of the documents among the patches.
            recorder: keeps keys, values and states for generation.
        """
        x_MD, rotation = self.place(x_MD, position_ids_M)
        windowed = KeyRange(torch.maximum(patches.first, patches.last - self.window_patches + 1), patches.last)
        surroundings: dict[str, tuple[Any, ...]] = {
            "attention": (rotation, core_over(patches, "backbone", recorder)),
            "window_attention": (rotation, core_over(windowed, "backbone", recorder)),
        } | dict.fromkeys(RECURRENT, (recurrence_over(starts, recorder),))
        for mixer, block in zip(self.mixers, self.blocks, strict=True):
            x_MD = block(x_MD, *surroundings[mixer])
        return self.norm(x_MD)

    def place(
        self, x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """Adds learned positions to inputs [n, D], and computes attention's rotation; each if the config has it."""
        if self.positions is not None:
            x = x + self.positions(position_ids)
        return x, None if self.rotary is None else self.rotary(position_ids)


def recurrence_over(starts: torch.Tensor, recorder: Recorder | None) -> Recurrence:
    """The parallel form of recurrent mixers over whole documents, with offsets ``starts`` int64 [S + 1]."""

    def recur(mixer: Any, *inputs: torch.Tensor) -> torch.Tensor:
        out, state = mixer.mix(*inputs, starts=starts, state_lengths=None if recorder is None else recorder.num_patches)
        if recorder is not None:
            recorder.recurrent.append(tuple(state))
        return out

    return recur


def build_block(mixer: str, config: ModelConfig) -> Block:
    """Builds one layer of the backbone with a mixer of ``MIXERS``."""
    dim = config.global_dim
    ffn = GeluFeedForward(dim) if config.ffn == "gelu" else SwiGLU(dim, config.backbone_ffn_dim)
    return Block(build_mixer(mixer, config), ffn, partial(build_norm, config))


def build_mixer(mixer: str, config: ModelConfig) -> nn.Module:
    """Builds a mixer by its name in the config."""
    if mixer in RECURRENT:
        return RECURRENT[mixer](config)
    make_head_norm = partial(RMSNorm, config.head_dim, config.norm_eps) if config.query_key_norm else None
    return SelfAttention(
        config.global_dim,
        config.global_heads,
        config.global_key_heads,
        config.head_dim,
        config.attention_bias,
        make_head_norm,
    )


def build_norm(config: ModelConfig) -> nn.Module:
    """Builds a norm of the backbone's width."""
    dim, eps = config.global_dim, config.norm_eps
    return nn.LayerNorm(dim, eps=eps) if config.norm == "layer" else RMSNorm(dim, eps)


def build_rotary(config: ModelConfig) -> Rotary:
    """Builds the backbone's rotary positions."""
    scaling = None if config.rope_scaling == "none" else partial(_slowed, config=config)
    return Rotary(config.head_dim, config.rope_theta, scaling)


def _slowed(speeds: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Angles of one position, [n], slowed for a longer context as the config says."""
    if config.rope_scaling == "linear":
        return speeds / config.rope_factor
    return llama3_speeds(
        speeds, config.rope_factor, config.rope_low_factor, config.rope_high_factor, config.rope_original_patches
    )
