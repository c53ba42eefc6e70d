"""Patch decoder: from token states and backbone outputs to next-token states (LST paper, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig
from lst.model.layers import Block, CrossAttention, Recorder, Rotary, attention_block, core_over
from lst.model.pointwise import Linear
from lst.model.ranges import AttentionRanges


class PatchDecoder(nn.Module):
    """In each layer, tokens attend to the backbone's outputs of complete patches, then to tokens in a window.

    The input is the encoder's token states, not new embeddings. A patch gives ``decoder_keys`` keys to each layer: the
    layer projects the backbone's output to them, or projects vectors of local width that one projection makes for all
    layers (``decoder_shared_projection``).

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, heads, kv_heads = config.local_dim, config.local_heads, config.local_key_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.local_dim, is_shared = dim, config.decoder_shared_projection
        self.to_local = Linear(config.global_dim, config.decoder_keys * dim) if is_shared else None
        state_dim, num_keys = (dim, 1) if is_shared else (config.global_dim, config.decoder_keys)
        self.readers = nn.ModuleList(
            CrossAttention(dim, state_dim, heads, kv_heads, num_keys, config.cross_residual)
            for _ in range(config.decoder_layers)
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
        states = self.read_states(patches_MD)
        for reader, block in self.layers():
            tokens_ND = block(reader(tokens_ND, states, reading), rotation, windowed)
        return tokens_ND

    def read_states(self, patches_MD: torch.Tensor) -> torch.Tensor:
        """What the layers make keys and values of: the backbone's outputs [M, D_global], or k vectors of each."""
        return patches_MD if self.to_local is None else self.to_local(patches_MD).view(-1, self.local_dim)

    def layers(self) -> Iterator[tuple[CrossAttention, Block]]:
        """The cross-attention to patches and the block over tokens of each layer."""
        return zip(cast("list[CrossAttention]", self.readers), cast("list[Block]", self.blocks), strict=True)
