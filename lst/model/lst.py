"""The Latent Speech-Text Transformer, and its token-level baseline, as one class."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lst.errors import UserError
from lst.kernels.cross_entropy import linear_cross_entropy
from lst.model.backbone import Backbone
from lst.model.batch import IGNORE_ID, SPEECH, PackedBatch
from lst.model.config import LossConfig, ModelConfig
from lst.model.decoder import PatchDecoder
from lst.model.encoder import PatchEncoder, max_pool_patches
from lst.model.initialise import initialise
from lst.model.layers import Recorder
from lst.model.pointwise import Linear, RMSNorm
from lst.model.pretrained import PretrainedModel
from lst.model.ranges import attention_ranges


class LatentSpeechTextModel(nn.Module, PretrainedModel):
    """``PatchEncoder → Backbone → PatchDecoder`` with one embedding and one head over the joint vocabulary.

    With no encoder and decoder layers it is the baseline: embeddings go straight into the backbone, and the head reads
    the backbone's outputs. ``from_pretrained`` and ``save_pretrained`` read and write model folders.

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
            raise UserError("; ".join(problems))
        if vocab_size < 1:
            raise UserError(f"vocab_size={vocab_size}: must be 1 or more")
        self.config, self.vocab_size = config, vocab_size
        width = config.local_dim if config.has_local_modules else config.global_dim
        self.embedding = nn.Embedding(vocab_size, width)
        self.encoder = PatchEncoder(config) if config.has_local_modules else None
        self.backbone = Backbone(config)
        self.decoder = PatchDecoder(config) if config.has_local_modules else None
        self.norm = RMSNorm(width) if config.has_local_modules else nn.Identity()
        self.head = TiedHead(self.embedding) if config.tied_head else Linear(width, vocab_size)
        initialise(self, config, seed)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Logits [N, V] of the token after each token."""
        return self.head(self.hidden(batch))

    def hidden(self, batch: PackedBatch, recorder: Recorder | None = None) -> torch.Tensor:
        """States [N, D] that the head reads.

        Raises:
            ValueError: an id is outside the vocabulary, or a document longer than the model's context.
        """
        if not torch.compiler.is_compiling():
            self.check_batch(batch)
        ranges = attention_ranges(batch, self.config)
        positions_M = batch.patch_position_ids.flatten()[batch.patch_slots]
        tokens_ND = self.embedding(batch.token_ids)
        if self.training and self.config.embedding_dropout:
            tokens_ND = functional.dropout(tokens_ND, self.config.embedding_dropout)
        if self.encoder is None or self.decoder is None:
            patches_MD = max_pool_patches(tokens_ND, batch.patch_ids, batch.num_patches)
            patches_MD = self.backbone(patches_MD, positions_M, ranges.patches, batch.patch_starts, recorder)
            return patches_MD[batch.context_patch_ids]
        tokens_ND, patches_MD = self.encoder(tokens_ND, batch, ranges, recorder)
        patches_MD = self.backbone(patches_MD, positions_M, ranges.patches, batch.patch_starts, recorder)
        return self.norm(self.decoder(tokens_ND, patches_MD, batch, ranges, recorder))

    def check_batch(self, batch: PackedBatch) -> None:
        """Raises ``ValueError`` for ids outside the vocabulary and documents longer than the context.

        What it reads is known on the host: no device is waited for.
        """
        if batch.min_id < 0 or batch.max_id >= self.vocab_size:
            raise UserError(
                f"token ids reach from {batch.min_id} to {batch.max_id}, but this model's vocabulary is 0 to "
                f"{self.vocab_size - 1}: use the tokenizer and units that it was trained with"
            )
        if batch.longest_document > self.config.max_patches:
            raise UserError(
                f"a document has {batch.longest_document} patches, but the model's context is "
                f"{self.config.max_patches}: cut the document, use larger patches, or raise model.max_patches"
            )

    @torch.no_grad()
    def losses(self, batch: PackedBatch) -> torch.Tensor:
        """Cross-entropy in nats, float32 (or wider) [N], of each target; zero where there is none. No gradients: train
        on ``loss``."""
        hidden_ND = self.hidden(batch)
        return linear_cross_entropy(
            hidden_ND, self.head.weight, batch.target_ids, hidden_ND.new_ones(len(hidden_ND), dtype=torch.float32)
        )[1]

    def loss(self, batch: PackedBatch, options: LossConfig | None = None) -> torch.Tensor:
        """Mean cross-entropy in nats over all targets, text and speech alike (LST paper, section 3).

        With ``options`` the mean is weighted by the target's modality, and the z-loss is added.
        """
        options = options or LossConfig()
        hidden_ND = self.hidden(batch)
        wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
        weights_N = torch.where(batch.target_modalities == SPEECH, options.speech_weight, options.text_weight).to(wide)
        weights_N = torch.where(batch.target_ids != IGNORE_ID, weights_N, 0.0)
        # Without a target there is no loss: zero over the least positive number.
        weights_N = weights_N / weights_N.sum().clamp(min=torch.finfo(wide).tiny)
        return linear_cross_entropy(hidden_ND, self.head.weight, batch.target_ids, weights_N, options.z_weight)[0]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


class TiedHead(nn.Module):
    """A head whose weights are the embedding's, and are kept there alone."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        # In a tuple, the embedding does not become a part of this module too.
        self._embedding = (embedding,)

    @property
    def weight(self) -> torch.Tensor:
        return self._embedding[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., V]."""
        return functional.linear(x, self.weight)
