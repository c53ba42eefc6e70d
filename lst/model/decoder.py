"""Patch decoder: from token states and backbone outputs to next-token states (LST paper, section 2)."""

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
    """In each layer, tokens attend to the backbone's outputs of complete patches, then to tokens in a window.

    The input is the encoder's token states, not new embeddings.

    Args:
        config: the shape of the model.
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
        """Token states [N, D_local] and backbone outputs [M, D_global] → [N, D_local]."""
        rotation = self.rotary(batch.position_ids)
        windowed = core_over(ranges.tokens, "decoder.tokens", recorder)
        reading = core_over(ranges.contexts, "decoder.reads", recorder)
        for reader, block in self.layers():
            tokens_ND = block(reader(tokens_ND, patches_MD, reading), rotation, windowed)
        return tokens_ND

    def layers(self) -> Iterator[tuple[CrossAttention, Block]]:
        """The cross-attention to patches and the block over tokens of each layer."""
        return zip(cast("list[CrossAttention]", self.readers), cast("list[Block]", self.blocks), strict=True)
