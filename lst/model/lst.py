"""The Latent Speech-Text Transformer, and its token-level baseline, as one class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from lst.errors import UserError
from lst.kernels.cross_entropy import linear_cross_entropy
from lst.model.backbone import Backbone
from lst.model.batch import IGNORE_ID, SPEECH, PackedBatch
from lst.model.boundary import BoundaryHead
from lst.model.config import ModelConfig
from lst.model.decoder import PatchDecoder
from lst.model.encoder import PatchEncoder, max_pool_patches
from lst.model.initialise import initialise
from lst.model.layers import Recorder
from lst.model.loss_config import LossConfig
from lst.model.pointwise import Linear, RMSNorm
from lst.model.pretrained import PretrainedModel
from lst.model.ranges import AttentionRanges, attention_ranges


class LossTotals(NamedTuple):
    """Sums over a batch of which the model sees a part at a time.

    Attributes:
        weight: float64 [], of the weights of all targets.
        num_units: float64 [], speech units among the tokens.
    """

    weight: torch.Tensor
    num_units: torch.Tensor

    def to(self, device: torch.device) -> LossTotals:
        """The same sums on another device."""
        return LossTotals(*(total.to(device, non_blocking=True) for total in self))


class TrainingLoss(NamedTuple):
    """The loss of a batch, and what a person watches of it.

    Attributes:
        loss: a scalar with a gradient.
        nats: cross-entropy without gradient, summed over the targets in speech and those in text of each source in
            turn, float32 or wider [2 · sources].
        num_targets: their numbers, int64 [2 · sources].
    """

    loss: torch.Tensor
    nats: torch.Tensor
    num_targets: torch.Tensor


class LatentSpeechTextModel(nn.Module, PretrainedModel):
    """``PatchEncoder → Backbone → PatchDecoder`` with one embedding and one head over the joint vocabulary.

    Without encoder and decoder layers it is the token-level baseline: embedding → backbone → head. ``from_pretrained``
    and ``save_pretrained`` read and write model folders.

    Args:
        config: the shape of the model.
        vocab_size: size of the joint vocabulary, V.
        seed: of the initial weights.

    Raises:
        UserError: the shape or the size is not allowed.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        if problems := config.problems():
            raise UserError("; ".join(problems))
        if vocab_size < 1:
            raise UserError(f"vocab_size={vocab_size}: must be 1 or more")
        self.config, self.vocab_size, self.seed = config, vocab_size, seed
        width = config.local_dim if config.has_local_modules else config.global_dim
        self.embedding = nn.Embedding(vocab_size, width)
        self.encoder = PatchEncoder(config) if config.has_local_modules else None
        self.backbone = Backbone(config)
        self.decoder = PatchDecoder(config) if config.has_local_modules else None
        self.norm = RMSNorm(width) if config.has_local_modules else nn.Identity()
        self.head = TiedHead(self.embedding) if config.tied_head else Linear(width, vocab_size)
        # Last, so that all other weights are drawn as without it.
        self.boundary_head = BoundaryHead(width) if config.boundary_head else None
        initialise(self, config, seed)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Logits [N, V] of the next token."""
        return self.head(self.hidden(batch))

    def hidden(
        self, batch: PackedBatch, recorder: Recorder | None = None, ranges: AttentionRanges | None = None
    ) -> torch.Tensor:
        """The states [N, D] before the head.

        Args:
            batch: the documents.
            recorder: keeps keys, values and states for generation, or gives those of tokens that are not in the batch.
            ranges: the keys of each query; None takes those of the batch.

        Raises:
            UserError: an id is outside the vocabulary, or a document is longer than the model's context.
        """
        return self._states(batch, recorder, ranges)[0]

    def _states(
        self, batch: PackedBatch, recorder: Recorder | None = None, ranges: AttentionRanges | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``hidden``, and the token states [N, D] before any patch is read: those of the encoder, or the embeddings."""
        if not torch.compiler.is_compiling():
            self.check_batch(batch)
        if ranges is None:
            ranges = attention_ranges(batch, self.config)
        positions_M = batch.patch_position_ids.flatten()[batch.patch_slots]
        tokens_ND = self.embedding(batch.token_ids)
        if self.training and self.config.embedding_dropout:
            tokens_ND = functional.dropout(tokens_ND, self.config.embedding_dropout)
        if self.encoder is None or self.decoder is None:
            patches_MD = max_pool_patches(tokens_ND, batch.patch_ids, batch.num_patches)
            patches_MD = self.backbone(patches_MD, positions_M, ranges.patches, batch.patch_starts, recorder)
            return patches_MD[batch.context_patch_ids], tokens_ND
        tokens_ND, patches_MD = self.encoder(tokens_ND, batch, ranges, recorder)
        patches_MD = self.backbone(patches_MD, positions_M, ranges.patches, batch.patch_starts, recorder)
        return self.norm(self.decoder(tokens_ND, patches_MD, batch, ranges, recorder)), tokens_ND

    @torch.no_grad()
    def boundary_logits(self, batch: PackedBatch) -> torch.Tensor:
        """Logits [N] of "the patch ends with this token", from the tokens so far. They ignore the batch's patches.

        Raises:
            ValueError: the model has no boundary head.
            UserError: an id is outside the vocabulary.
        """
        if self.encoder is None or self.boundary_head is None:
            raise ValueError("the model has no boundary head (model.boundary_head=false)")
        self.check_ids(batch)
        ranges = attention_ranges(batch, self.config)
        return self.boundary_head(self.encoder.token_states(self.embedding(batch.token_ids), batch, ranges.tokens))

    def check_batch(self, batch: PackedBatch) -> None:
        """Raises ``UserError`` for an id outside the vocabulary or a document longer than the context.

        The host knows all that is checked, so it does not wait for a device.
        """
        self.check_ids(batch)
        if batch.longest_document > self.config.max_patches:
            raise UserError(
                f"a document has {batch.longest_document} patches, but the model's context is "
                f"{self.config.max_patches} (model.max_patches of its training): cut the document"
            )

    def check_ids(self, batch: PackedBatch) -> None:
        """Raises ``UserError`` for an id outside the vocabulary."""
        if batch.min_id < 0 or batch.max_id >= self.vocab_size:
            raise UserError(
                f"token ids reach from {batch.min_id} to {batch.max_id}, but this model's vocabulary is 0 to "
                f"{self.vocab_size - 1}: use the tokenizer and units that it was trained with"
            )

    @torch.no_grad()
    def losses(self, batch: PackedBatch) -> torch.Tensor:
        """Cross-entropy in nats, float32 or wider [N], of each target; zero without a target.

        It has no gradient: ``loss`` is for training.
        """
        hidden_ND = self.hidden(batch)
        return linear_cross_entropy(
            hidden_ND, self.head.weight, batch.target_ids, hidden_ND.new_ones(len(hidden_ND), dtype=torch.float32)
        )[1]

    def loss(
        self, batch: PackedBatch, options: LossConfig | None = None, totals: LossTotals | None = None
    ) -> torch.Tensor:
        """The loss of ``training_loss`` alone."""
        return self.training_loss(batch, options, totals).loss

    def training_loss(
        self,
        batch: PackedBatch,
        options: LossConfig | None = None,
        totals: LossTotals | None = None,
        num_sources: int = 1,
    ) -> TrainingLoss:
        """Mean cross-entropy in nats over all targets, text and speech (LST paper, section 3).

        ``options`` sets the weight of each modality in the mean, and of the z-loss. With a boundary head, its mean
        cross-entropy over all units is added, with a weight. With ``totals``, the batch is a part of a larger one, and
        the losses of its parts add up to its mean. ``num_sources`` is the number of those that the batch may name.
        """
        options = options or LossConfig()
        hidden_ND, tokens_ND = self._states(batch)
        wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
        is_speech_N, has_target_N = batch.target_modalities == SPEECH, batch.target_ids != IGNORE_ID
        weights_N = torch.where(is_speech_N, options.speech_weight, options.text_weight).to(wide)
        weights_N = torch.where(has_target_N, weights_N, 0.0)
        # A batch without a target has a loss of zero, not of 0 / 0.
        total = weights_N.sum() if totals is None else totals.weight.to(wide)
        weights_N = weights_N / total.clamp(min=torch.finfo(wide).tiny)
        loss, nats_N = linear_cross_entropy(hidden_ND, self.head.weight, batch.target_ids, weights_N, options.z_weight)
        groups_GN = batch.target_groups(num_sources)
        nats, num_targets = torch.where(groups_GN, nats_N, 0.0).sum(1), groups_GN.sum(1)
        if self.boundary_head is None:
            return TrainingLoss(loss, nats, num_targets)
        states_ND = tokens_ND if options.boundary_gradient else tokens_ND.detach()
        num_units = None if totals is None else totals.num_units.to(wide)
        loss = loss + options.boundary_weight * self.boundary_head.loss(states_ND, batch, num_units)
        return TrainingLoss(loss, nats, num_targets)

    @property
    def num_parameters(self) -> int:
        """Number of parameters; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def num_non_embedding_parameters(self) -> int:
        """Number of parameters without embeddings, of tokens and of learned positions, and without head."""
        tables = ("embedding.", "head.", "backbone.positions.")
        return sum(parameter.numel() for name, parameter in self.named_parameters() if not name.startswith(tables))


class TiedHead(nn.Module):
    """A head with the embedding's weights.

    Args:
        embedding: owns the weights.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        # In a tuple, so that the embedding does not become a submodule.
        self._embedding = (embedding,)

    @property
    def weight(self) -> torch.Tensor:
        """The embedding's weights [V, D]."""
        return self._embedding[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] → [..., V]."""
        return functional.linear(x, self.weight)
