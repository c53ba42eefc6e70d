"""What Lightning's Trainer is given: the module, the data, and the callbacks of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from torch.utils.data import DataLoader, IterableDataset

from lst.configs.schema import TrainConfig
from lst.data.batches import BatchLoader, LoaderState
from lst.model.batch import IGNORE_ID, SPEECH, PackedBatch
from lst.model.config import LossConfig
from lst.model.flops import model_flops, workload_of_batch
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw


class LoaderDataset(IterableDataset[Any]):
    """Gives out a loader's batches; a loader is endless, so steps alone end a training."""

    def __init__(self, loader: BatchLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[PackedBatch, LoaderState]]:
        return self.loader


def train_loader(loader: BatchLoader) -> DataLoader[Any]:
    # Its workers are the loader's own: PyTorch's would each have to be told where the others are.
    return DataLoader(LoaderDataset(loader), batch_size=None, num_workers=0)


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Share of the peak rate: linear warm-up, then a cosine to ``final_rate_share`` at the last step."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.max_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.final_rate_share + (1 - config.final_rate_share) * cosine


class LanguageModelModule(lightning.LightningModule):
    """Trains a model on the mean cross-entropy; keeps the loader's state of the last batch that was used.

    Args:
        model: the model.
        config: options of the training.
        loss_config: weights of the loss.
        text_bytes: bytes of the text in the validation batches, for bits a byte.
        num_text: text pieces of the vocabulary; ids from here on are no text.
        num_valid_units: units of the speech in the validation batches, for bits a unit (a token may hold several).
        seed: of what a step draws: dropout.
    """

    def __init__(
        self,
        model: LatentSpeechTextModel,
        config: TrainConfig,
        loss_config: LossConfig,
        text_bytes: int,
        num_text: int,
        num_valid_units: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.config, self.loss_config = model, config, loss_config
        self.text_bytes, self.num_text, self.num_valid_units = text_bytes, num_text, num_valid_units
        self.seed = seed
        # Shapes differ from batch to batch: without dynamic ones each would be compiled anew.
        self._loss = torch.compile(model.loss, dynamic=True) if config.compile else model.loss
        self.loader_state: LoaderState | dict[str, Any] | None = None
        self.training_flops = 0.0
        self._valid_nats: dict[str, float] = {}

    def configure_optimizers(self) -> Any:
        """AdamW over the model's groups of parameters, and a rate that is a function of the step."""
        config = self.config
        optimizer = build_adamw(self.model, config.learning_rate, config.weight_decay, (config.beta1, config.beta2))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_share(step, config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, PackedBatch):
            return batch.to(device)
        packed, state = batch
        # Counted before the batch leaves the host, so that no step waits for the device.
        work = workload_of_batch(packed, self.model.config)
        return packed.to(device), state, model_flops(self.model.config, self.model.vocab_size, work).training

    def training_step(self, batch: tuple[PackedBatch, LoaderState, float], batch_idx: int) -> torch.Tensor:
        packed, state, flops = batch
        self.loader_state = state
        self.training_flops += flops
        if self.model.config.embedding_dropout:
            # A function of the seed and the step alone, so that a resumed training draws the same.
            torch.manual_seed(int(np.random.default_rng([self.seed, self.global_step]).integers(2**63)))
        # Here, since a compiled loss leaves it out.
        self.model.check_batch(packed)
        return self._loss(packed, self.loss_config)

    def on_validation_epoch_start(self) -> None:
        self._valid_nats = {"speech": 0.0, "text": 0.0}

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        nats = self.model.losses(batch)
        has_target = batch.target_ids != IGNORE_ID
        to_unit = has_target & (batch.target_modalities == SPEECH)
        to_text = has_target & ~to_unit & (batch.target_ids < self.num_text)
        self._valid_nats["speech"] += float(nats[to_unit].sum())
        self._valid_nats["text"] += float(nats[to_text].sum())

    def valid_metrics(self) -> dict[str, float]:
        """Bits a speech unit and bits a text byte over the validation batches."""
        return {
            "valid_bits_per_unit": self._valid_nats["speech"] / math.log(2) / max(self.num_valid_units, 1),
            "valid_bits_per_byte": self._valid_nats["text"] / math.log(2) / max(self.text_bytes, 1),
        }

    def on_validation_epoch_end(self) -> None:
        for name, value in self.valid_metrics().items():
            self.log(name, value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self.loader_state
        checkpoint["loader_state"] = state.to_json() if isinstance(state, LoaderState) else state
        checkpoint["training_flops"] = self.training_flops

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.loader_state = checkpoint["loader_state"]
        self.training_flops = checkpoint["training_flops"]


class _Half(HalfPrecision):
    """``bf16-true`` for batches of ids, which no type converts: Lightning looks for real numbers within them and
    refuses the dataclass that they are."""

    def convert_input(self, data: Any) -> Any:
        return data


class _Double(DoublePrecision):
    """``64-true``, likewise."""

    def convert_input(self, data: Any) -> Any:
        return data


def precision_plugins(precision: str) -> list[Precision]:
    """What Lightning's Trainer is given in place of some ``train.precision``; empty where it needs nothing else."""
    if precision == "64-true":
        return [_Double()]
    return [_Half("bf16-true")] if precision == "bf16-true" else []


def frozen_loader(batches: Sequence[PackedBatch]) -> DataLoader[Any]:
    """The same batches every time, in order."""
    return DataLoader(list(batches), batch_size=None, num_workers=0)  # type: ignore[arg-type]
