"""The Lightning module of every training: AdamW, a schedule of the rate, clipping, reproducible steps."""

from __future__ import annotations

from typing import Any, Protocol

import lightning
import torch

from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.runs.formats import StepRow


class OptimiserOptions(Protocol):
    """Options of AdamW, as in ``train=`` of every command that trains."""

    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float


class TrainingModule(lightning.LightningModule):
    """A model in training. Subclasses give the loss, the schedule, the seed of a step and the metrics.

    Args:
        model: the model.
        config: options of the optimiser.
        fused: whether AdamW updates all parameters in one call; results differ in rounding.

    Attributes:
        gradient_norm: of the last step, before clipping.
        stopped_early: whether the training reached its goal before its last step.
    """

    def __init__(self, model: LatentSpeechTextModel, config: OptimiserOptions, fused: bool | None = None) -> None:
        super().__init__()
        self.model, self.options, self.fused = model, config, fused
        self.gradient_norm = torch.tensor(0.0)
        self.stopped_early = False

    def rate_share(self, step: int) -> float:
        """Share of the peak learning rate at a step, from 0."""
        raise NotImplementedError

    def seed_of_step(self, step: int) -> int:
        """Seed of torch's generator for a step, from 0."""
        raise NotImplementedError

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
