"""The Lightning module of the synthetic tasks: a small model on sequences without patches.

Each step depends on the weights, the seed and its own number only: order and dropout are drawn anew from those. A
training resumed from a checkpoint therefore ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lst.configs.synthetic_schema import SyntheticConfig, SyntheticTrainConfig
from lst.errors import UserError
from lst.model.batch import PackedBatch
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.synthetic.batches import ScoredBatch, training_batches
from lst.recipes.synthetic.tasks import TaskData
from lst.recipes.training.module import TrainingModule
from lst.recipes.training.trainer import TrainerOptions, fit

# A draw of its own, so that dropout is not correlated with other draws of the seed.
_DROPOUT_STREAM = 0xD20


def seed_of_step(seed: int, step: int) -> int:
    """Seed of torch's generator for a step."""
    return int(np.random.SeedSequence([_DROPOUT_STREAM, seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate_share(step: int, config: SyntheticTrainConfig) -> float:
    """Share of the rate at a step (from 0): a linear warm-up, constant after it, and at the end a linear decay."""
    assert config.max_steps is not None
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay_steps = config.decay_share * config.max_steps
    return warm * (min(1.0, (config.max_steps - step) / decay_steps) if decay_steps else 1.0)


class SyntheticModule(TrainingModule):
    """Trains on all targets of the sequences; validates by the answers of the test split.

    Args:
        model: the model.
        config: options of the training.
        seed: of dropout.

    Attributes:
        step_s: seconds of each step: forward pass, backward pass and update.
    """

    model: LatentSpeechTextModel

    def __init__(self, model: LatentSpeechTextModel, config: SyntheticTrainConfig, seed: int) -> None:
        super().__init__(
            model,
            config,
            lambda step: learning_rate_share(step, config),
            lambda step: seed_of_step(seed, step),
            fused=True,
        )
        self.stop_at = config.stop_at
        self.step_s: list[float] = []
        self._num_right, self._num_answers, self._nats = 0, 0, 0.0

    def batch_loss(self, batch: PackedBatch) -> torch.Tensor:
        """Mean cross-entropy, in nats a target."""
        return self.model.loss(batch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step as Lightning takes it, timed."""
        started_s = time.perf_counter()
        super().optimizer_step(*args, **kwargs)
        self.step_s.append(time.perf_counter() - started_s)

    def on_validation_epoch_start(self) -> None:
        """Sets the sums to zero."""
        self._num_right, self._num_answers, self._nats = 0, 0, 0.0

    def validation_step(self, batch: ScoredBatch, batch_idx: int) -> None:
        """Counts right answers and sums their nats."""
        logits_SV = self.model.head(self.model.hidden(batch.packed)[batch.positions]).float()
        self._num_right += int((logits_SV.argmax(dim=-1) == batch.answers).sum())
        self._num_answers += len(batch.answers)
        self._nats += float(functional.cross_entropy(logits_SV, batch.answers, reduction="sum"))

    def valid_metrics(self) -> dict[str, float]:
        """Accuracy of the answers, and their mean cross-entropy in nats."""
        return {"test_accuracy": self._num_right / self._num_answers, "test_loss": self._nats / self._num_answers}

    def on_validation_epoch_end(self) -> None:
        """Ends the training at the accuracy ``stop_at``."""
        if self.stop_at and self.valid_metrics()["test_accuracy"] >= self.stop_at:
            self.stopped_early = self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the seconds of the steps, and whether the training stopped early."""
        checkpoint |= {"stopped_early": self.stopped_early, "step_s": torch.tensor(self.step_s)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of ``on_save_checkpoint``."""
        if "state_dict" not in checkpoint:
            raise UserError(
                "this training was begun with version 0.1, whose checkpoints of lst synthetic cannot be resumed: "
                "delete its folder and train again, or finish it with version 0.1"
            )
        self.stopped_early, self.step_s = checkpoint["stopped_early"], checkpoint["step_s"].tolist()


def build_module(config: SyntheticConfig, data: TaskData, seed: int) -> SyntheticModule:
    """The model of a task in training. Its context, and so a table of positions, is as long as the sequences."""
    with torch.random.fork_rng(devices=[]):
        model = LatentSpeechTextModel(replace(config.model, max_patches=data.num_tokens), data.vocab_size, seed)
    return SyntheticModule(model, config.train, seed)


def seconds_a_step(config: SyntheticConfig, data: TaskData, repeats: int = 2) -> float:
    """The shortest of some real steps, after one that is not counted; nothing is written."""
    module, num_steps = build_module(config, data, 0), 1 + repeats
    batches = training_batches(data, config.train.batch_sequences, 0, 0)
    with convolution_path(config), tempfile.TemporaryDirectory() as folder:
        fit(module, batches, [], TrainerOptions(num_steps, num_steps + 1, Path(folder)), None)
    return min(module.step_s[1:])


@contextlib.contextmanager
def convolution_path(config: SyntheticConfig) -> Iterator[None]:
    """Context manager: state-space models convolve as ``convolution=`` asks."""
    if config.convolution != "plain":
        yield
        return
    from lst.kernels.ssm import forced_path

    with forced_path("convolution"):
        yield
