"""Analytic cost of the model: multiply-adds count as two operations; norms, softmax and gates are left out.

Attention is counted over what a query can see when the context is full (half of it for the causal backbone), as is
usual; the head is counted for every token.
"""

from __future__ import annotations

from dataclasses import dataclass

from lst.model.config import ModelConfig


@dataclass(frozen=True)
class Flops:
    """Forward operations of one batch, by module."""

    encoder: float
    backbone: float
    decoder: float
    head: float

    @property
    def forward(self) -> float:
        return self.encoder + self.backbone + self.decoder + self.head

    @property
    def training(self) -> float:
        """Forward and backward: the backward pass costs twice the forward."""
        return 3 * self.forward


def _layer(dim: int, ffn_dim: int, seen: float) -> float:
    """A Transformer layer, for one position that sees ``seen`` others."""
    return 2 * (4 * dim * dim + 3 * dim * ffn_dim) + 4 * dim * seen


def batch_flops(
    config: ModelConfig, vocab_size: int, num_tokens: float, num_patches: float, mean_document_patches: float
) -> Flops:
    """Operations for a batch of real tokens and patches.

    Args:
        config: the shape.
        vocab_size: of the joint vocabulary.
        num_tokens: real tokens.
        num_patches: patches; equals the tokens for the baseline.
        mean_document_patches: patches of the document that a patch lies in, the mean over patches; attention stops at
            a document's boundary.
    """
    dim_g, dim_l = config.global_dim, config.local_dim
    backbone = num_patches * config.global_layers * _layer(dim_g, config.ffn_dim(dim_g), mean_document_patches / 2)
    if not config.has_local_modules:
        return Flops(0.0, backbone, 0.0, 2.0 * num_tokens * dim_g * vocab_size)
    mean_document_tokens = mean_document_patches * num_tokens / max(num_patches, 1)
    seen_tokens = min(config.window_tokens, mean_document_tokens / 2)
    seen_patches = min(config.window_patches, mean_document_patches / 2)
    k = config.sub_queries
    local_layer = _layer(dim_l, config.ffn_dim(dim_l), seen_tokens)
    read_patch_tokens = num_tokens * (4 * dim_l * dim_l + 4 * k * dim_l) + num_patches * k * 4 * dim_l * dim_l
    encoder = config.encoder_layers * (num_tokens * local_layer + read_patch_tokens)
    encoder += num_patches * 2 * k * dim_l * (dim_l + dim_g)
    read_patches = num_tokens * (4 * dim_l * dim_l + 4 * dim_l * seen_patches) + num_patches * 4 * dim_g * dim_l
    decoder = config.decoder_layers * (num_tokens * local_layer + read_patches)
    return Flops(encoder, backbone, decoder, 2.0 * num_tokens * dim_l * vocab_size)
