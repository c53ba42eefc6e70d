"""Who sees whom: the stretch of keys of each query, for every attention of the model.

Derived from a batch's positions and patches alone, with no read of the device from the host; nothing reaches across the
start of a document.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig


class KeyRange(NamedTuple):
    """First and last key of each query, int64 [Q], non-decreasing."""

    first: torch.Tensor
    last: torch.Tensor


class AttentionRanges(NamedTuple):
    """The key ranges of one batch.

    Attributes:
        tokens: of tokens among tokens, both local modules' sliding window.
        patches: of patches among patches, the backbone's.
        reads: of each patch's sub-queries [M·K] among tokens, the encoder's.
        contexts: of tokens among patches, the decoder's.
    """

    tokens: KeyRange
    patches: KeyRange
    reads: KeyRange
    contexts: KeyRange


def attention_ranges(batch: PackedBatch, config: ModelConfig) -> AttentionRanges:
    """Computes all ranges; a few small integer operations."""
    device = batch.token_ids.device
    tokens = torch.arange(batch.num_tokens, device=device)
    patches = torch.arange(batch.num_patches, device=device)
    positions_M = batch.patch_position_ids.flatten()[batch.patch_slots]
    first_tokens_M = torch.searchsorted(batch.patch_ids, patches)
    last_tokens_M = torch.searchsorted(batch.patch_ids, patches, right=True) - 1
    oldest_read_M = patches - positions_M.clamp(max=config.encoder_window_patches - 1)
    contexts = batch.context_patch_ids
    return AttentionRanges(
        tokens=KeyRange(tokens - batch.position_ids.clamp(max=config.window_tokens - 1), tokens),
        patches=KeyRange(patches - positions_M, patches),
        reads=KeyRange(
            first_tokens_M[oldest_read_M].repeat_interleave(config.sub_queries),
            last_tokens_M.repeat_interleave(config.sub_queries),
        ),
        contexts=KeyRange(contexts - positions_M[contexts].clamp(max=config.decoder_window_patches - 1), contexts),
    )
