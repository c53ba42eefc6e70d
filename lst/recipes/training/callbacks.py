"""What happens beside the steps of a training: metrics, checkpoints and progress."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning

from lst.configs.schema import TrainConfig
from lst.errors import UserError
from lst.progress import Progress
from lst.recipes.training.checkpoints import checkpoint_folder, complete_checkpoints
from lst.recipes.training.module import learning_rate_share
from lst.storage import read_jsonl, write_jsonl


class RunCallback(lightning.Callback):
    """Progress, metrics as JSON lines, checkpoints, and an end to a training whose loss is no number.

    Args:
        folder: of the model in the run.
        config: options of the training.
        first_step: steps done by an earlier, stopped run; metrics written after them are dropped.
        description: for the progress bar.
    """

    def __init__(self, folder: Path, config: TrainConfig, first_step: int, description: str) -> None:
        self.metrics_path, self.checkpoints = folder / "metrics.jsonl", folder / "checkpoints"
        self.config, self.first_step, self.description = config, first_step, description
        self.rows = [row for row in read_jsonl(self.metrics_path, dict[str, Any]) if row["step"] <= first_step]
        self.progress: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        write_jsonl(self.metrics_path, self.rows)
        self.progress = Progress(self.config.max_steps, self.description, "step", initial=self.first_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, state = trainer.global_step, batch[1]
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise UserError(
                f"the training loss is {loss} at step {step}: lower train.learning_rate (it is "
                f"{self.config.learning_rate}) or raise train.warmup_steps; the last checkpoint is kept"
            )
        row = {
            "step": step,
            "loss": loss,
            "learning_rate": self.config.learning_rate * learning_rate_share(step - 1, self.config),
            "tokens": state.num_tokens,
            "patches": state.num_patches,
            "slots": state.num_slots,
            "packing_waste": state.waste,
            "speech_tokens": state.num_speech_tokens,
            "cut_documents": state.num_cut,
            "training_flops": pl_module.training_flops,
        }
        self._append(row)
        pl_module.log("train_loss", loss)
        assert self.progress is not None
        self.progress.advance(note=f"loss {loss:.3f}")
        if step % self.config.checkpoint_every == 0 or step == self.config.max_steps:
            self._save(trainer, step)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._append({"step": trainer.global_step, **pl_module.valid_metrics()})

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None

    def _append(self, row: dict[str, Any]) -> None:
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self, trainer: lightning.Trainer, step: int) -> None:
        trainer.save_checkpoint(checkpoint_folder(self.checkpoints, step))
        for old in complete_checkpoints(self.checkpoints)[: -self.config.keep_checkpoints]:
            trainer.strategy.remove_checkpoint(old)
