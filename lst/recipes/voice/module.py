"""The Lightning module of both stages of a voice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from lst.configs.voice_schema import VoiceTrainConfig
from lst.recipes.training.module import RateOptions, TrainingModule
from lst.recipes.voice.formats import VoiceStepRow
from lst.voice.config import VoiceLossConfig
from lst.voice.losses import voice_losses
from lst.voice.model import Stage, VoiceBatch, VoiceModel

# Draws of its own for torch's generator.
_STEP_STREAM = 0x501CE


@dataclass(frozen=True)
class StageOptions:
    """What the trainer and its callbacks read of a stage or a part; see ``VoiceTrainConfig``."""

    max_steps: int
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    eval_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, train: VoiceTrainConfig, max_steps: int) -> StageOptions:
        """The options of a training of so many steps."""
        return cls(
            max_steps,
            train.learning_rate,
            train.weight_decay,
            train.beta1,
            train.beta2,
            train.eval_every,
            train.checkpoint_every,
        )


def rate_share(step: int, train: VoiceTrainConfig, max_steps: int) -> float:
    """Share of the peak rate at a step, from 0: a linear warm-up, then half a cosine."""
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    progress = min(1.0, (step - train.warmup_steps) / max(max_steps - train.warmup_steps, 1))
    return train.final_rate_share + (1 - train.final_rate_share) * 0.5 * (1 + math.cos(math.pi * progress))


class VoiceModule(TrainingModule):
    """Trains the parts of a stage; validates by the distance of mels of held-out speakers.

    Args:
        model: all networks.
        train, loss: options.
        stage: 1 or 2.
        seed: of the training.
    """

    model: VoiceModel
    options: StageOptions

    def __init__(
        self, model: VoiceModel, train: VoiceTrainConfig, loss: VoiceLossConfig, stage: Stage, seed: int
    ) -> None:
        options = StageOptions.of(train, train.teacher_steps if stage == 1 else train.student_steps)
        super().__init__(
            model,
            options,
            lambda step: rate_share(step, train, options.max_steps),
            lambda step: int(np.random.default_rng([_STEP_STREAM, seed, stage, step]).integers(2**63)),
            max_skipped_updates=train.max_skipped_updates,
        )
        self.loss_config, self.stage = loss, stage
        model.learn(stage)
        self._terms: dict[str, float] = {}
        self._valid: dict[str, list[float]] = {}

    def build_optimizer(self) -> torch.optim.Optimizer:
        """See ``voice_adamw``."""
        return voice_adamw(self.model, self.options)

    def batch_loss(self, batch: VoiceBatch) -> torch.Tensor:
        """The sum of the stage's terms."""
        terms = voice_losses(self.model, batch, self.loss_config, self.stage)
        self._terms = {name: float(term.detach()) for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum()

    def step_row(self, step: int, loss: float) -> VoiceStepRow:
        """Adds the terms of the loss that are finite."""
        terms = {f"loss_{name}": value for name, value in self._terms.items() if math.isfinite(value)}
        return cast(VoiceStepRow, super().step_row(step, loss) | terms)

    def on_validation_epoch_start(self) -> None:
        """Forgets the validation before."""
        self._valid = {}

    def validation_step(self, batch: VoiceBatch, batch_idx: int) -> None:
        """Keeps the distances of mels, without the weights of the loss, and without a discriminator."""
        model = self.model
        style = model.style(batch.reference)
        taught = model.decoder(model.phones(batch.phones), batch.prosody, style)
        self._keep("valid_teacher_mel", taught - batch.mel)
        if self.stage == 2:
            self._keep("valid_student_mel", model.decoder(model.sound(batch.mel), batch.prosody, style) - batch.mel)
            if self.loss_config.units:
                spoken = model.decoder(model.units(batch.units), batch.prosody, style)
                self._keep("valid_units_mel", spoken - batch.mel)

    def _keep(self, name: str, difference: torch.Tensor) -> None:
        self._valid.setdefault(name, []).append(float(difference.abs().mean()))

    def valid_metrics(self) -> dict[str, float]:
        """Mean distances."""
        return {name: sum(values) / len(values) for name, values in self._valid.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how many updates were left out."""
        checkpoint["num_skipped_updates"] = self.num_skipped_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of ``on_save_checkpoint``."""
        self.num_skipped_updates = int(checkpoint["num_skipped_updates"])


def voice_adamw(model: torch.nn.Module, options: RateOptions) -> torch.optim.Optimizer:
    """AdamW over the parts that learn; biases, norms and embeddings do not decay."""
    groups = dict[bool, list[torch.nn.Parameter]]()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(parameter.ndim >= 2 and "embedding" not in name, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": options.weight_decay if decays else 0.0}
            for decays, group in groups.items()
        ],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
    )
