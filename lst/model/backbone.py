"""The backbone: what models the sequence of patches (or, in the baseline, of tokens)."""

from __future__ import annotations

import torch
from torch import nn

from lst.model.config import ModelConfig
from lst.model.layers import Block, Recorder, Rotary, core_over
from lst.model.pointwise import RMSNorm
from lst.model.ranges import KeyRange


class Backbone(nn.Module):
    """Causal Transformer over the real patches of a batch; attention and positions stop at document boundaries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, heads = config.global_dim, config.global_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.blocks = nn.ModuleList(
            Block(dim, heads, config.global_key_heads, config.ffn_dim(dim)) for _ in range(config.global_layers)
        )
        self.norm = RMSNorm(dim)

    def forward(
        self, x_MD: torch.Tensor, position_ids_M: torch.Tensor, patches: KeyRange, recorder: Recorder | None = None
    ) -> torch.Tensor:
        """[M, D] → [M, D]."""
        rotation = self.rotary(position_ids_M)
        core = core_over(patches, "backbone", recorder)
        for block in self.blocks:
            x_MD = block(x_MD, rotation, core)
        return self.norm(x_MD)
