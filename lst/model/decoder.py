"""Patch decoder: token states and backbone outputs to next-token states (LST paper, section 2)."""

from __future__ import annotations

import functools

import torch
from torch import nn

from lst.kernels.attention import local_attention, patch_cross_attention
from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig
from lst.model.layers import Block, CrossAttention, Rotary


class PatchDecoder(nn.Module):
    """Each layer: tokens read the backbone's outputs of the patches complete before them, then each other.

    Its input is the encoder's token states, not fresh embeddings.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window_tokens, self.window_patches = config.window_tokens, config.window_patches
        dim, heads = config.local_dim, config.local_heads
        self.rotary = Rotary(dim // heads, config.rope_theta)
        self.readers = nn.ModuleList(
            CrossAttention(dim, config.global_dim, heads) for _ in range(config.decoder_layers)
        )
        self.blocks = nn.ModuleList(Block(dim, heads, config.ffn_dim(dim)) for _ in range(config.decoder_layers))

    def forward(self, tokens_ND: torch.Tensor, patches_MD: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """[N, D_local] and [M, D_global] → [N, D_local]."""
        rotation = self.rotary(batch.position_ids)
        windowed = functools.partial(local_attention, doc_ids_N=batch.doc_ids, window=self.window_tokens)
        seen_patches = functools.partial(
            patch_cross_attention,
            context_patch_ids_N=batch.context_patch_ids,
            token_doc_ids_N=batch.doc_ids,
            patch_doc_ids_M=batch.patch_doc_ids.flatten()[batch.patch_slots],
            window=self.window_patches,
        )
        for reader, block in zip(self.readers, self.blocks, strict=True):
            tokens_ND = block(reader(tokens_ND, patches_MD, seen_patches), rotation, windowed)
        return tokens_ND
