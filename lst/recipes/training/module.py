"""The Lightning module of every training: AdamW, a schedule of the rate, clipping, reproducible steps."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import torch
from torch.distributed.tensor import DTensor

from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.parallel import ALONE, Ranks
from lst.progress import say
from lst.recipes.training.finite import NonFiniteError
from lst.runs.formats import StepRow


class RateOptions(Protocol):
    """What the optimiser is built from."""

    @property
    def learning_rate(self) -> float:
        """Peak rate."""

    @property
    def weight_decay(self) -> float:
        """AdamW's weight decay."""

    @property
    def beta1(self) -> float:
        """AdamW's first decay."""

    @property
    def beta2(self) -> float:
        """AdamW's second decay."""


@dataclass
class TakenStep:
    """A step whose numbers the host has not read yet.

    Attributes:
        number: of the step, from 1.
        batch_index: of its batch.
        loss, gradient_norm: on the device.
        kept: what else its row and an error need; see ``TrainingModule.kept_of_step``.
        is_skipped: whether its update was left out and told; None where only the device knows.
    """

    number: int
    batch_index: int
    loss: torch.Tensor
    gradient_norm: torch.Tensor
    kept: Any
    is_skipped: bool | None


class TrainingModule(lightning.LightningModule):
    """A model in training. Subclasses give the loss, the validation and its metrics.

    Args:
        model: the model.
        options: of the training.
        rate_share: share of the peak learning rate at a step, from 0.
        seed_of_step: seed of torch's generator for a step.
        fused: whether AdamW updates all parameters in one call; results differ in rounding.
        max_skipped_updates: how many updates may be left out because loss or gradient are not finite.
        num_parts: parts of a step's batch, of which each call of ``training_step`` takes one.
        ranks: processes that train the model together.
        read_every: steps between readings of the loss. Above 1, the device itself leaves out what is not finite.

    Attributes:
        num_own_valid_batches: validation batches of this rank that count; more only keep it in step with the others.
        shard: divides the model among the ranks before its optimiser is made; None leaves it whole.
        step_loss: of the last step's batch.
        gradient_norm: of the last step, before clipping.
        stopped_early: whether the training reached its goal before its last step.
        num_skipped_updates: updates that were left out so far.
        is_skipped: whether the last step's update was left out, as far as the host knows.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        options: RateOptions,
        rate_share: Callable[[int], float],
        seed_of_step: Callable[[int], int],
        fused: bool | None = None,
        max_skipped_updates: int = 0,
        num_parts: int = 1,
        ranks: Ranks = ALONE,
        read_every: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.options, self.fused = model, options, fused
        self.num_parts, self.ranks = num_parts, ranks
        self.shard: Callable[[Any], None] | None = None
        self.num_own_valid_batches = sys.maxsize
        self._begun_step = -1
        self.rate_share, self.seed_of_step = rate_share, seed_of_step
        self.gradient_norm, self.step_loss = torch.tensor(0.0), torch.tensor(0.0)
        self.stopped_early = self.is_skipped = False
        self.max_skipped_updates, self.num_skipped_updates = max_skipped_updates, 0
        self.read_every = read_every
        self._unread: list[TakenStep] = []
        # On the device: whether this training is to end, so that later updates are left out, too.
        self._is_ended: torch.Tensor | None = None

    def batch_loss(self, batch: Any) -> torch.Tensor:
        """Loss of a training batch, a scalar."""
        raise NotImplementedError

    def valid_metrics(self) -> dict[str, Any]:
        """Metrics of the validation batches seen since ``on_validation_epoch_start``."""
        raise NotImplementedError

    @property
    def batch_index(self) -> int:
        """Number of the last training batch, from 1."""
        return self.global_step + 1

    def describe_batch(self) -> str:
        """What the last training batch holds, for errors; may be empty."""
        return ""

    def kept_of_step(self) -> Any:
        """What a row and an error need of the last step, besides loss and gradient norm."""
        return None

    def recall(self, kept: Any) -> None:
        """Inverse of ``kept_of_step``."""

    def end_step(self) -> None:
        """Notes the step that was taken, for ``read_steps``."""
        is_skipped = None if self._waits_for_nothing else self.is_skipped
        numbers = self.step_loss, self.gradient_norm
        self._unread.append(TakenStep(self.global_step, self.batch_index, *numbers, self.kept_of_step(), is_skipped))

    def read_steps(self) -> Iterator[dict[str, Any]]:
        """The rows of ``metrics.jsonl`` of the steps since the last call. The host waits for the device here.

        Raises:
            NonFiniteError: a loss or norm was not finite, and that was one too many. The update of that step was not
                made; where none may be left out, neither were those after it.
        """
        while self._unread:
            step = self._unread.pop(0)
            self.step_loss, self.gradient_norm = step.loss, step.gradient_norm
            self.recall(step.kept)
            loss, is_skipped = float(step.loss), step.is_skipped
            if is_skipped is None and (is_skipped := not math.isfinite(loss + float(step.gradient_norm))):
                self._tell_skipped(step.number, step.batch_index)
            row: dict[str, Any] = {**self.step_row(step.number, loss)}
            if is_skipped:
                del row["loss"]
                row["skipped_batch"] = step.batch_index
            yield row

    def step_row(self, step: int, loss: float) -> StepRow:
        """The row of ``metrics.jsonl`` after a step, from 1."""
        rate, norm = self.options.learning_rate * self.rate_share(step - 1), float(self.gradient_norm)
        return {
            "step": step,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm if math.isfinite(norm) else None,
        }

    def configure_model(self) -> None:
        """Divides the model among the ranks, once."""
        if self.shard is not None:
            self.shard(self.model)
            self.shard = None

    def configure_optimizers(self) -> Any:
        """The optimiser, and a rate that is a function of the step."""
        optimizer = self.build_optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def build_optimizer(self) -> torch.optim.Optimizer:
        """AdamW over the language model's groups of parameters; other models have their own."""
        assert isinstance(self.model, LatentSpeechTextModel)
        options = self.options
        betas = (options.beta1, options.beta2)
        return build_adamw(self.model, options.learning_rate, options.weight_decay, betas, self.fused)

    def on_train_start(self) -> None:
        """Takes rates and decays from the options, not from the checkpoint: they may have changed since."""
        fresh = self.configure_optimizers()
        optimizer, schedule = self.trainer.optimizers[0], self.trainer.lr_scheduler_configs[0].scheduler
        schedule.base_lrs = fresh["lr_scheduler"]["scheduler"].base_lrs
        for group, new, base_rate in zip(
            optimizer.param_groups, fresh["optimizer"].param_groups, schedule.base_lrs, strict=True
        ):
            rate = base_rate * self.rate_share(schedule.last_epoch)
            group.update({key: value for key, value in new.items() if key != "params"}, lr=rate)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips to a norm as Lightning does, and keeps the norm; without ``gradient_clip_val``, only measures it.

        Raises:
            NonFiniteError: the loss or the norm is not finite, and no update may be left out (any more). With
                ``read_every`` above 1 that is found by ``read_steps``.
        """
        parameters = list(self.trainer.precision_plugin.main_params(optimizer))
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.gradient_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.step_loss = self.ranks.total(self.step_loss)
        is_wrong = ~(self.gradient_norm + self.step_loss.to(self.gradient_norm.device)).isfinite()
        if self._waits_for_nothing:
            if self.max_skipped_updates == 0:
                is_wrong = self._is_ended = is_wrong if self._is_ended is None else is_wrong | self._is_ended
            # A fused update reads it on the device.
            optimizer.found_inf = is_wrong.float()  # type: ignore[attr-defined]
        else:
            self.is_skipped = bool(is_wrong)
        if self.is_skipped:
            # float16's scaler leaves the update out itself, and lowers its scale.
            if getattr(self.trainer.precision_plugin, "scaler", None) is None or not bool(self.step_loss.isfinite()):
                self._skip_update(parameters)
            else:
                self.is_skipped = False
        elif gradient_clip_val:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)

    @property
    def _waits_for_nothing(self) -> bool:
        """Whether the device leaves out updates by itself: fused ones can, but for those of float16's scaler."""
        return self.read_every > 1 and bool(self.fused)

    def _skip_update(self, parameters: list[torch.nn.Parameter]) -> None:
        """Leaves the update of this step out: without gradients, AdamW changes neither weights nor its own state."""
        self._tell_skipped(self.global_step + 1, self.batch_index)
        for parameter in parameters:
            parameter.grad = None

    def _tell_skipped(self, step: int, batch_index: int) -> None:
        """Says that an update is left out; raises ``NonFiniteError`` where that is one too many."""
        what = (
            f"step {step}: loss {float(self.step_loss):g}, gradient norm {float(self.gradient_norm):g} "
            f"on batch {batch_index}{self.describe_batch()}"
        )
        if self.num_skipped_updates >= self.max_skipped_updates:
            raise NonFiniteError(what, batch_index)
        self.num_skipped_updates += 1
        say(f"{what}: update left out, {self.num_skipped_updates} of at most {self.max_skipped_updates}")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches move themselves."""
        return batch.to(device)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Loss of a batch. Dropout depends on the seed and the step only, so that a resumed training draws the same."""
        torch.manual_seed(self.seed_of(batch))
        loss = self.batch_loss(batch)
        is_first_part = self._begun_step != self.global_step
        self.step_loss = loss.detach() if is_first_part else self.step_loss + loss.detach()
        self._begun_step = self.global_step
        # Lightning divides by the rounds, and the strategy takes the mean over the ranks: the parts are to be added up.
        return loss if self.num_parts == 1 else loss * self.num_parts

    def seed_of(self, batch: Any) -> int:
        """Seed of torch's generator for a training batch."""
        return self.seed_of_step(self.global_step)
