"""Patch encoder: from token embeddings to one vector for each patch (LST paper, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig
from lst.model.layers import Block, CrossAttention, Recorder, Rotary, attention_block, core_over
from lst.model.pointwise import Linear
from lst.model.ranges import AttentionRanges, KeyRange


class PatchEncoder(nn.Module):
    """In each layer, tokens attend to tokens in a window; then k queries of each patch attend to tokens.

    A patch's queries see its own tokens and those of the patches before it in the window. They start as k projections
    of the maximum over the states of its tokens. At the end they are concatenated and projected to the backbone's
    width; with ``patch_projection=if_needed``, not where they have it already.

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_queries = config.sub_queries
        dim, heads, kv_heads = config.local_dim, config.local_heads, config.local_key_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.blocks = nn.ModuleList(
            attention_block(dim, heads, kv_heads, config.ffn_dim(dim)) for _ in range(config.encoder_layers)
        )
        self.readers = nn.ModuleList(
            CrossAttention(dim, dim, heads, kv_heads, residual=config.cross_residual)
            for _ in range(config.encoder_layers)
        )
        self.to_queries = Linear(dim, self.num_queries * dim)
        joined_dim = self.num_queries * dim
        self.to_global = Linear(joined_dim, config.global_dim) if config.projects_patches else nn.Identity()

    def forward(
        self, tokens_ND: torch.Tensor, batch: PackedBatch, ranges: AttentionRanges, recorder: Recorder | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states [N, D_local] and patch vectors [M, D_global] of embeddings [N, D_local].

        The token states do not depend on the patches; see ``token_states``.
        """
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

    def token_states(self, tokens_ND: torch.Tensor, batch: PackedBatch, tokens: KeyRange) -> torch.Tensor:
        """Token states [N, D_local] of embeddings [N, D_local], without patches: the same as of ``forward``."""
        rotation, windowed = self.rotary(batch.position_ids), core_over(tokens, "encoder.tokens", None)
        for block, _ in self.layers():
            tokens_ND = block(tokens_ND, rotation, windowed)
        return tokens_ND

    def layers(self) -> Iterator[tuple[Block, CrossAttention]]:
        """The block over tokens and the cross-attention of the patch queries of each layer."""
        return zip(cast("list[Block]", self.blocks), cast("list[CrossAttention]", self.readers), strict=True)

    def first_queries(self, pooled_MD: torch.Tensor) -> torch.Tensor:
        """Queries [M, K, D_local] from the maximum [M, D_local] over each patch's tokens after the first block."""
        return self.to_queries(pooled_MD).view(len(pooled_MD), self.num_queries, -1)


def max_pool_patches(tokens_ND: torch.Tensor, patch_ids_N: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Element-wise maximum [M, D] over the tokens of each patch.

    Args:
        tokens_ND: states [N, D].
        patch_ids_N: int64 [N], in order; every patch has a token.
        num_patches: M.
    """
    index_ND = patch_ids_N[:, None].expand_as(tokens_ND)
    return tokens_ND.new_zeros(num_patches, tokens_ND.shape[1]).scatter_reduce(
        0, index_ND, tokens_ND, "amax", include_self=False
    )
