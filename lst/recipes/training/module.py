"""The Lightning module of every training: AdamW, a schedule of the rate, clipping, reproducible steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch

from lst.configs.schema import TrainConfig
from lst.configs.synthetic_schema import SyntheticTrainConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.runs.formats import StepRow


class TrainingModule(lightning.LightningModule):
    """A model in training. Subclasses give the loss, the validation and its metrics.

    Args:
        model: the model.
        options: of the training.
        rate_share: share of the peak learning rate at a step, from 0.
        seed_of_step: seed of torch's generator for a step.
        fused: whether AdamW updates all parameters in one call; results differ in rounding.

    Attributes:
        gradient_norm: of the last step, before clipping.
        stopped_early: whether the training reached its goal before its last step.
    """

    def __init__(
        self,
        model: LatentSpeechTextModel,
        options: TrainConfig | SyntheticTrainConfig,
        rate_share: Callable[[int], float],
        seed_of_step: Callable[[int], int],
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        self.model, self.options, self.fused = model, options, fused
        self.rate_share, self.seed_of_step = rate_share, seed_of_step
        self.gradient_norm = torch.tensor(0.0)
        self.stopped_early = False

    def batch_loss(self, batch: Any) -> torch.Tensor:
        """Loss of a training batch, a scalar."""
        raise NotImplementedError

    def valid_metrics(self) -> dict[str, float]:
        """Metrics of the validation batches seen since ``on_validation_epoch_start``."""
        raise NotImplementedError

    def step_row(self, step: int, loss: float) -> StepRow:
        """The row of ``metrics.jsonl`` after a step, from 1."""
        rate = self.options.learning_rate * self.rate_share(step - 1)
        return {"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": float(self.gradient_norm)}

    def configure_optimizers(self) -> Any:
        """AdamW over the model's groups of parameters, and a rate that is a function of the step."""
        options = self.options
        betas = (options.beta1, options.beta2)
        optimizer = build_adamw(self.model, options.learning_rate, options.weight_decay, betas, self.fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips to a norm as Lightning does, and keeps the norm; without ``gradient_clip_val``, only measures it."""
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.gradient_norm = torch.nn.utils.get_total_norm(gradients)
        if gradient_clip_val:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches move themselves."""
        return batch.to(device)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Loss of a batch. Dropout depends on the seed and the step only, so that a resumed training draws the same."""
        torch.manual_seed(self.seed_of_step(self.global_step))
        return self.batch_loss(batch)

    def on_validation_epoch_end(self) -> None:
        """Hands the metrics to the loggers, if there are any."""
        if self.trainer.loggers:
            self.log_dict(self.valid_metrics())
