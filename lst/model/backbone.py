"""The backbone: what models the sequence of patches (or, in the baseline, of tokens)."""

from __future__ import annotations

import functools

import torch
from torch import nn

from lst.kernels.attention import row_attention
from lst.model.config import ModelConfig
from lst.model.layers import NORM_EPS, Block, Rotary


class Backbone(nn.Module):
    """Causal Transformer over the patches of a row; attention and positions stop at document boundaries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, heads = config.global_dim, config.global_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.blocks = nn.ModuleList(Block(dim, heads, config.ffn_dim(dim)) for _ in range(config.global_layers))
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)

    def forward(self, x_BPD: torch.Tensor, doc_ids_BP: torch.Tensor, position_ids_BP: torch.Tensor) -> torch.Tensor:
        """[B, P, D] → [B, P, D]."""
        rotation = self.rotary(position_ids_BP)
        core = functools.partial(row_attention, doc_ids_BP=doc_ids_BP)
        for block in self.blocks:
            x_BPD = block(x_BPD, rotation, core)
        return self.norm(x_BPD)
