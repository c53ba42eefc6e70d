"""Patch decoder: token states and backbone outputs to next-token states (LST paper, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig
from lst.model.layers import Block, CrossAttention, Recorder, Rotary, attention_block, core_over
from lst.model.ranges import AttentionRanges


class PatchDecoder(nn.Module):
    """Each layer: tokens read the backbone's outputs of the patches complete before them, then each other.

    Its input is the encoder's token states, not fresh embeddings.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, heads, kv_heads = config.local_dim, config.local_heads, config.local_key_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.readers = nn.ModuleList(
            CrossAttention(dim, config.global_dim, heads, kv_heads) for _ in range(config.decoder_layers)
        )
        self.blocks = nn.ModuleList(
            attention_block(dim, heads, kv_heads, config.ffn_dim(dim)) for _ in range(config.decoder_layers)
        )

    def forward(
        self,
        tokens_ND: torch.Tensor,
        patches_MD: torch.Tensor,
        batch: PackedBatch,
        ranges: AttentionRanges,
        recorder: Recorder | None = None,
    ) -> torch.Tensor:
        """[N, D_local] and [M, D_global] → [N, D_local]."""
        rotation = self.rotary(batch.position_ids)
        windowed = core_over(ranges.tokens, "decoder.tokens", recorder)
        reading = core_over(ranges.contexts, "decoder.reads", recorder)
        for reader, block in self.layers():
            tokens_ND = block(reader(tokens_ND, patches_MD, reading), rotation, windowed)
        return tokens_ND

    def layers(self) -> Iterator[tuple[CrossAttention, Block]]:
        """Each layer's reader of patches and block over tokens."""
        return zip(cast("list[CrossAttention]", self.readers), cast("list[Block]", self.blocks), strict=True)
