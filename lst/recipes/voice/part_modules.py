"""The Lightning modules of a voice's parts: units to mels, and mels to spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lst.configs.voice_schema import VoiceTrainConfig
from lst.recipes.training.module import TrainingModule
from lst.recipes.voice.module import StageOptions, rate_share, voice_adamw
from lst.voice.losses import prosody_losses
from lst.voice.model import VoiceBatch, VoiceModel
from lst.voice.vocoders.spectral import SILENT_POWER, SpectrumNetwork

# What learns where units alone are spoken.
SPEAKING = ("units", "style", "decoder")
_STEP_STREAM = 0x501CF


@dataclass(frozen=True)
class SpectrumBatch:
    """Pieces of recordings: mels, float32 [B, 80, T], and the power that they are of, float32 [B, T, F]."""

    mel: torch.Tensor
    power: torch.Tensor

    def to(self, device: torch.device) -> SpectrumBatch:
        """The same on another device."""
        return SpectrumBatch(self.mel.to(device), self.power.to(device))


class PartModule(TrainingModule):
    """Trains a part of a voice; subclasses give the loss and a distance to held-out speech.

    Args:
        model: what is trained; parameters without gradients stay as they are.
        train: options.
        seed: of the training.
    """

    model: Any
    options: StageOptions
    # Of the distance in ``metrics.jsonl``.
    metric: str

    def __init__(self, model: torch.nn.Module, train: VoiceTrainConfig, seed: int) -> None:
        super().__init__(
            model,
            StageOptions.of(train, train.steps),
            lambda step: rate_share(step, train, train.steps),
            lambda step: int(np.random.default_rng([_STEP_STREAM, seed, step]).integers(2**63)),
            max_skipped_updates=train.max_skipped_updates,
        )
        self._valid: list[float] = []

    def distance(self, batch: Any) -> torch.Tensor:
        """Mean distance to the speech of a batch, a scalar."""
        raise NotImplementedError

    def build_optimizer(self) -> torch.optim.Optimizer:
        """That of a whole voice."""
        return voice_adamw(self.model, self.options)

    def on_validation_epoch_start(self) -> None:
        """Forgets the validation before."""
        self._valid = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Keeps the distance."""
        self._valid.append(float(self.distance(batch)))

    def valid_metrics(self) -> dict[str, float]:
        """The mean distance."""
        return {self.metric: sum(self._valid) / len(self._valid)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how many updates were left out."""
        checkpoint["num_skipped_updates"] = self.num_skipped_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of ``on_save_checkpoint``."""
        self.num_skipped_updates = int(checkpoint["num_skipped_updates"])


class UnitsModule(PartModule):
    """Units, in the style of another utterance of the speaker, to the mel of the recording.

    The decoder is told the true pitch and the loudness that is predicted: it must not rely on loudness that units do
    not give.
    """

    model: VoiceModel
    metric = "valid_units_mel"

    def __init__(self, model: VoiceModel, train: VoiceTrainConfig, seed: int) -> None:
        super().__init__(model, train, seed)
        for name, part in model.named_children():
            part.requires_grad_(name in SPEAKING)

    def batch_loss(self, batch: VoiceBatch) -> torch.Tensor:
        """Distance of mels, and of what is predicted."""
        model, content = self.model, self.model.units(batch.units)
        said = model.units.predict(content)
        prosody = torch.cat([batch.prosody[:, :2], said.energy.unsqueeze(1)], dim=1)
        made = model.decoder(content, prosody, model.style(batch.reference))
        return 5 * functional.l1_loss(made, batch.mel) + sum(prosody_losses(model, batch, said))

    def distance(self, batch: VoiceBatch) -> torch.Tensor:
        """Of mels, with all prosody predicted."""
        model, content = self.model, self.model.units(batch.units)
        made = model.decoder(content, model.units.predict(content).prosody(), model.style(batch.reference))
        return functional.l1_loss(made, batch.mel)


class SpectrumModule(PartModule):
    """Mels to the spectra that they are of."""

    model: SpectrumNetwork
    metric = "valid_log_power"

    def batch_loss(self, batch: SpectrumBatch) -> torch.Tensor:
        """The distance."""
        return self.distance(batch)

    def distance(self, batch: SpectrumBatch) -> torch.Tensor:
        """Mean magnitude of the difference of log power."""
        return functional.l1_loss(self.model(batch.mel), (batch.power + SILENT_POWER).log())
