"""Patch encoder: token embeddings to one vector a patch (LST paper, section 2)."""

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


class PatchEncoder(nn.Module):
    """Windowed token layers; after each, k queries a patch read tokens: the patch's own and, as far as the window goes,
    those of the patches before it.

    A patch's queries start as projections of the maximum over its tokens' states; at the end they are joined and
    projected to the backbone's width.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_queries = config.sub_queries
        dim, heads, kv_heads = config.local_dim, config.local_heads, config.local_key_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.blocks = nn.ModuleList(
            attention_block(dim, heads, kv_heads, config.ffn_dim(dim)) for _ in range(config.encoder_layers)
        )
        self.readers = nn.ModuleList(CrossAttention(dim, dim, heads, kv_heads) for _ in range(config.encoder_layers))
        self.to_queries = Linear(dim, self.num_queries * dim)
        self.to_global = Linear(self.num_queries * dim, config.global_dim)

    def forward(
        self, tokens_ND: torch.Tensor, batch: PackedBatch, ranges: AttentionRanges, recorder: Recorder | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states [N, D_local] and patch vectors [M, D_global] of embeddings [N, D_local]."""
        rotation = self.rotary(batch.position_ids)
        windowed = core_over(ranges.tokens, "encoder.tokens", recorder)
        reading = core_over(ranges.reads, "encoder.reads", recorder)
        queries_MKD: torch.Tensor | None = None
        for block, reader in self.layers():
            tokens_ND = block(tokens_ND, rotation, windowed)
            if queries_MKD is None:
                if recorder is not None:
                    recorder.states["encoder.first"] = tokens_ND
                queries_MKD = self.first_queries(max_pool_patches(tokens_ND, batch.patch_ids, batch.num_patches))
            queries_MKD = reader(queries_MKD, tokens_ND, reading)
        assert queries_MKD is not None
        return tokens_ND, self.to_global(queries_MKD.flatten(1))

    def layers(self) -> Iterator[tuple[Block, CrossAttention]]:
        """Each layer's block over tokens and reader of patches."""
        return zip(cast("list[Block]", self.blocks), cast("list[CrossAttention]", self.readers), strict=True)

    def first_queries(self, pooled_MD: torch.Tensor) -> torch.Tensor:
        """[M, K, D_local] of the maximum [M, D_local] over each patch's tokens after the first block."""
        return self.to_queries(pooled_MD).view(len(pooled_MD), self.num_queries, -1)


def max_pool_patches(tokens_ND: torch.Tensor, patch_ids_N: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Element-wise maximum [M, D] over each patch's tokens; every patch has one or more."""
    index_ND = patch_ids_N[:, None].expand_as(tokens_ND)
    return tokens_ND.new_zeros(num_patches, tokens_ND.shape[1]).scatter_reduce(
        0, index_ND, tokens_ND, "amax", include_self=False
    )
