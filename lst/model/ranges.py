"""The range of keys of each query, for every attention of the model.

Positions and patches of a batch decide the ranges. The host does not wait for the device, and no range crosses the
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
        tokens: from tokens to tokens, the sliding window of both local modules.
        patches: from patches to patches, in the backbone.
        reads: from the queries of patches [M·K] to tokens, in the encoder.
        contexts: from tokens to the keys of patches [M·K], in the decoder.
    """

    tokens: KeyRange
    patches: KeyRange
    reads: KeyRange
    contexts: KeyRange


def attention_ranges(batch: PackedBatch, config: ModelConfig) -> AttentionRanges:
    """Computes the ranges of a batch, by a few small integer operations."""
    device = batch.token_ids.device
    tokens = torch.arange(batch.num_tokens, device=device)
    patches = torch.arange(batch.num_patches, device=device)
    positions_M = batch.patch_position_ids.flatten()[batch.patch_slots]
    first_tokens_M = torch.searchsorted(batch.patch_ids, patches)
    last_tokens_M = torch.searchsorted(batch.patch_ids, patches, right=True) - 1
    oldest_read_M = patches - positions_M.clamp(max=config.encoder_window_patches - 1)
    contexts, keys = batch.context_patch_ids, config.decoder_keys
    oldest_context_N = contexts - positions_M[contexts].clamp(max=config.decoder_window_patches - 1)
    return AttentionRanges(
        tokens=KeyRange(tokens - batch.position_ids.clamp(max=config.window_tokens - 1), tokens),
        patches=KeyRange(patches - positions_M, patches),
        reads=KeyRange(
            first_tokens_M[oldest_read_M].repeat_interleave(config.sub_queries),
            last_tokens_M.repeat_interleave(config.sub_queries),
        ),
        contexts=KeyRange(keys * oldest_context_N, keys * contexts + keys - 1),
    )
