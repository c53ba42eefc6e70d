"""Analytic cost of the model by module.

A multiply-add counts as two operations; norms, softmax and gates are left out. Attention counts the pairs of a query
and a key that it sees: ``workload_of_batch`` counts them, ``typical_workload`` estimates them for planning. State space
models count as their recurrence and their short convolution, whatever algorithm a kernel uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from lst.model.backbone import RECURRENT
from lst.model.batch import PackedBatch
from lst.model.boundary import BoundaryHead
from lst.model.config import ModelConfig
from lst.model.ranges import KeyRange, attention_ranges


@dataclass(frozen=True)
class Workload:
    """Counts of a batch that decide the cost of a model.

    Attributes:
        num_tokens, num_patches: real tokens and patches; equal for the baseline.
        token_pairs: pairs of a token and a token that it attends to in the local modules.
        patch_pairs: pairs of a patch and a patch that it attends to in the backbone.
        read_pairs: pairs of a patch and a token that one of its queries attends to in the encoder.
        context_pairs: pairs of a token and a patch whose keys it attends to in the decoder.
        window_pairs: ``patch_pairs`` within the window of ``window_attention``.
    """

    num_tokens: float
    num_patches: float
    token_pairs: float
    patch_pairs: float
    read_pairs: float
    context_pairs: float
    window_pairs: float = 0.0


@dataclass(frozen=True)
class Flops:
    """Operations of the forward pass, by module."""

    encoder: float
    backbone: float
    decoder: float
    head: float

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        return self.encoder + self.backbone + self.decoder + self.head

    @property
    def training(self) -> float:
        """Operations of forward and backward pass: the backward pass costs twice the forward."""
        return 3 * self.forward

    def divided_by(self, count: float) -> Flops:
        """Operations for each of ``count`` tokens, speech units, patches or steps."""
        return Flops(*(part / count for part in (self.encoder, self.backbone, self.decoder, self.head)))


def workload_of_batch(batch: PackedBatch, config: ModelConfig) -> Workload:
    """Counts a batch exactly. It waits for the device: for benchmarks and logs, not for training steps on a GPU."""
    ranges = attention_ranges(batch, config)

    def pairs(keys: KeyRange) -> float:
        return float((keys.last - keys.first + 1).sum())

    return Workload(
        num_tokens=batch.num_tokens,
        num_patches=batch.num_patches,
        token_pairs=pairs(ranges.tokens),
        patch_pairs=pairs(ranges.patches),
        window_pairs=float(
            (ranges.patches.last - ranges.patches.first + 1).clamp(max=config.global_window_patches).sum()
        ),
        read_pairs=pairs(ranges.reads) / config.sub_queries,
        context_pairs=pairs(ranges.contexts) / config.decoder_keys,
    )


def typical_workload(
    config: ModelConfig, num_tokens: float, num_patches: float, mean_document_patches: float
) -> Workload:
    """Estimates a batch of documents of one length: the mean query sees half a document, or its window.

    Args:
        config: the shape of the model.
        num_tokens: real tokens.
        num_patches: real patches; for the baseline, as many as tokens.
        mean_document_patches: length of a patch's document in patches, the mean over patches.
    """
    tokens_a_patch = num_tokens / max(num_patches, 1)
    half_patches = mean_document_patches / 2
    return Workload(
        num_tokens=num_tokens,
        num_patches=num_patches,
        token_pairs=num_tokens * min(config.window_tokens, half_patches * tokens_a_patch),
        patch_pairs=num_patches * half_patches,
        window_pairs=num_patches * min(config.global_window_patches, half_patches),
        read_pairs=num_patches * max(min(config.encoder_window_patches, half_patches), 1) * tokens_a_patch,
        context_pairs=num_tokens * min(config.decoder_window_patches, half_patches),
    )


def model_flops(config: ModelConfig, vocab_size: int, work: Workload) -> Flops:
    """Operations of a workload, by module."""
    backbone = sum(_mixer(mixer, config, work) + work.num_patches * _feed_forward(config) for mixer in config.mixers)
    if not config.has_local_modules:
        return Flops(0.0, backbone, 0.0, 2.0 * work.num_tokens * config.global_dim * vocab_size)
    dim, k = config.local_dim, config.sub_queries
    key_value_dim = 2 * dim * config.local_key_heads / config.local_heads
    block = _block(dim, config.local_heads, config.local_key_heads, config, work.num_tokens, work.token_pairs)
    read = (
        work.num_tokens * 2 * dim * key_value_dim + work.num_patches * k * 4 * dim * dim + k * work.read_pairs * 4 * dim
    )
    join = work.num_patches * 2 * k * dim * (dim + config.global_dim * config.projects_patches)
    keys = work.num_patches * config.decoder_keys
    is_shared = config.decoder_shared_projection
    contexts = (
        work.num_tokens * 4 * dim * dim
        + keys * 2 * (dim if is_shared else config.global_dim) * key_value_dim
        + config.decoder_keys * work.context_pairs * 4 * dim
    )
    boundaries = work.num_tokens * BoundaryHead.flops_a_token(dim) * config.boundary_head
    split = keys * 2 * config.global_dim * dim * is_shared
    return Flops(
        encoder=config.encoder_layers * (block + read) + join + boundaries,
        backbone=backbone,
        decoder=config.decoder_layers * (block + contexts) + split,
        head=2.0 * work.num_tokens * dim * vocab_size,
    )


def _mixer(mixer: str, config: ModelConfig, work: Workload) -> float:
    """The mixer of one layer of the backbone."""
    dim = config.global_dim
    if mixer not in RECURRENT:
        pairs = work.patch_pairs if mixer == "attention" else work.window_pairs
        return _attention(dim, config.global_heads, config.global_key_heads, work.num_patches, pairs, config.head_dim)
    return work.num_patches * RECURRENT[mixer].flops_a_position(config)


def _feed_forward(config: ModelConfig) -> float:
    """The feed-forward layer of the backbone, for one patch."""
    dim = config.global_dim
    return 16.0 * dim * dim if config.ffn == "gelu" else 6.0 * dim * config.backbone_ffn_dim


def _attention(dim: int, heads: int, key_heads: int, positions: float, pairs: float, head_dim: int = 0) -> float:
    width = heads * head_dim or dim
    return positions * 2 * (2 * dim * width + 2 * dim * width * key_heads / heads) + pairs * 4 * width


def _block(dim: int, heads: int, key_heads: int, config: ModelConfig, positions: float, pairs: float) -> float:
    """A Transformer block of the local modules."""
    return _attention(dim, heads, key_heads, positions, pairs) + positions * 6 * dim * config.ffn_dim(dim)
