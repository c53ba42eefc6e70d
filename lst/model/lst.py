"""The Latent Speech-Text Transformer, and its token-level baseline, as one class."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from lst.model.backbone import Backbone
from lst.model.batch import IGNORE_ID, PackedBatch
from lst.model.config import ModelConfig
from lst.model.decoder import PatchDecoder
from lst.model.encoder import PatchEncoder, max_pool_patches
from lst.model.layers import NORM_EPS

INIT_STD = 0.02


class LatentSpeechTextModel(nn.Module):
    """``PatchEncoder → Backbone → PatchDecoder`` with one embedding and one head over the joint vocabulary.

    With no encoder and decoder layers it is the baseline: embeddings go straight into the backbone, and the head reads
    the backbone's outputs.

    Args:
        config: the shape.
        vocab_size: size of the joint vocabulary.
        seed: of the initial weights.

    Raises:
        ValueError: the shape is impossible.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        if problems := config.problems():
            raise ValueError("; ".join(problems))
        self.config, self.vocab_size = config, vocab_size
        width = config.local_dim if config.has_local_modules else config.global_dim
        self.embedding = nn.Embedding(vocab_size, width)
        self.encoder = PatchEncoder(config) if config.has_local_modules else None
        self.backbone = Backbone(config)
        self.decoder = PatchDecoder(config) if config.has_local_modules else None
        self.norm = nn.RMSNorm(width, eps=NORM_EPS) if config.has_local_modules else nn.Identity()
        self.head = nn.Linear(width, vocab_size, bias=False)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Normal weights; what writes into a residual stream is scaled down by the number of writers."""
        generator = torch.Generator().manual_seed(seed)
        stacks = {
            "encoder": max(self.config.encoder_layers, 1),
            "backbone": self.config.global_layers,
            "decoder": max(self.config.decoder_layers, 1),
        }
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            std = INIT_STD
            if name.endswith("output.weight"):
                std /= math.sqrt(2 * stacks[name.split(".")[0]])
            elif name.startswith("encoder.to_"):
                # These carry the only path into the backbone: keep the scale of what they read.
                std = parameter.shape[1] ** -0.5
            nn.init.normal_(parameter, std=std, generator=generator)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Logits [N, V] of the token after each token."""
        return self.head(self.hidden(batch))

    def hidden(self, batch: PackedBatch) -> torch.Tensor:
        """States [N, D] that the head reads."""
        tokens_ND = self.embedding(batch.token_ids)
        if self.encoder is None or self.decoder is None:
            patches_MD = max_pool_patches(tokens_ND, batch.patch_ids, batch.num_patches)
            return self._run_backbone(patches_MD, batch)[batch.context_patch_ids]
        tokens_ND, patches_MD = self.encoder(tokens_ND, batch)
        return self.norm(self.decoder(tokens_ND, self._run_backbone(patches_MD, batch), batch))

    def _run_backbone(self, patches_MD: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """Lays the real patches [M, D] out in rows, runs the backbone, and takes them back."""
        num_rows, num_slots = batch.patch_doc_ids.shape
        grid = patches_MD.new_zeros(num_rows * num_slots, patches_MD.shape[1])
        rows_BPD = grid.index_copy(0, batch.patch_slots, patches_MD).view(num_rows, num_slots, -1)
        out_BPD = self.backbone(rows_BPD, batch.patch_doc_ids, batch.patch_position_ids)
        return out_BPD.flatten(0, 1)[batch.patch_slots]

    def losses(self, batch: PackedBatch) -> torch.Tensor:
        """Cross-entropy in nats, float32 (or wider) [N], of each target; zero where there is none."""
        return self._cross_entropy(batch, "none")

    def loss(self, batch: PackedBatch) -> torch.Tensor:
        """Mean cross-entropy in nats over all targets, text and speech alike (LST paper, section 3)."""
        return self._cross_entropy(batch, "mean")

    def _cross_entropy(self, batch: PackedBatch, reduction: str) -> torch.Tensor:
        logits_NV = self.forward(batch)
        if logits_NV.dtype in (torch.bfloat16, torch.float16):
            logits_NV = logits_NV.float()
        return functional.cross_entropy(logits_NV, batch.target_ids, ignore_index=IGNORE_ID, reduction=reduction)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
