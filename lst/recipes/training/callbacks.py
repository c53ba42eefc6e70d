"""Files and progress of a training: metrics as JSON lines and for TensorBoard, and checkpoints."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

import lightning

from lst.errors import StoppedError, UserError
from lst.parallel import ALONE, Ranks
from lst.progress import Progress
from lst.recipes.training.checkpoints import checkpoint_folder, complete_checkpoints, step_of
from lst.recipes.training.event_file import TensorboardFile
from lst.recipes.training.folder import METRICS_FILE, TENSORBOARD_FOLDER
from lst.recipes.training.held_out import SAMPLES_FILE, SampleRow
from lst.recipes.training.signals import StopSignals
from lst.recipes.training.wandb_log import WandbLog
from lst.recipes.training.watch import SPEED_FILE, SpeedRow, Watch, speed_text
from lst.storage import Count, append_bytes, read_jsonl, write_jsonl

RowT = TypeVar("RowT", SpeedRow, SampleRow)

_LOSSES = {"loss": "loss", "speech_loss": "speech", "text_loss": "text"}


class AnyRow(TypedDict):
    """Any row of ``metrics.jsonl``; the other keys are those of its kind."""

    step: Count


class StepOptions(Protocol):
    """When a training ends, validates and saves."""

    @property
    def max_steps(self) -> int | None:
        """The last step."""

    @property
    def eval_every(self) -> int:
        """Steps between validations."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""


def loss_text(row: Mapping[str, Any]) -> str:
    """The losses of a step, in nats a target, for the progress bar."""
    parts = [f"{name} {row[key]:.3f}" for key, name in _LOSSES.items() if row.get(key) is not None]
    return ", ".join(parts) or "update left out"


class RunCallback(lightning.Callback):
    """Writes metrics and checkpoints, shows progress, and stops at the end of a step when a signal asks for it.

    A checkpoint is written after the validation of its step, so that a resumed training misses no row.

    Args:
        folder: of the training.
        options: of the training.
        first_step: steps done by an earlier, stopped run; rows after them are dropped.
        description: for the progress bar.
        keep_checkpoints: how many of the latest checkpoints stay.
        keep_at: steps whose checkpoints are written and stay, too.
        validates_last: whether the last step is validated even if ``eval_every`` leaves it out. A longer training drops
            that row.
        has_tensorboard: whether the metrics are written for TensorBoard, too.
        ranks: processes that train together: the first one writes, and all save checkpoints at the same step.
        preempt_s: seconds from a signal until the checkpoint must be written; None sets no limit.
        watch: measures the training for ``speed.jsonl`` and the progress bar.
        has_wandb: whether the numbers go to Weights & Biases, too.
        sample: draws the text that is due after a step for ``samples.jsonl``; the first rank does.

    Attributes:
        signals: that stop the training.
        has_stepped: whether a step was done.
    """

    def __init__(
        self,
        folder: Path,
        options: StepOptions,
        first_step: int,
        description: str,
        keep_checkpoints: int = 1,
        keep_at: Collection[int] = (),
        validates_last: bool = False,
        has_tensorboard: bool = False,
        ranks: Ranks = ALONE,
        preempt_s: float | None = None,
        watch: Watch | None = None,
        has_wandb: bool = False,
        sample: Callable[[int], SampleRow | None] | None = None,
    ) -> None:
        self.folder, self.ranks = folder, ranks
        self.metrics_path, self.checkpoints = folder / METRICS_FILE, folder / "checkpoints"
        self.options, self.first_step, self.description = options, first_step, description
        self.keep_checkpoints, self.keep_at = keep_checkpoints, keep_at
        self.validates_last, self.has_tensorboard = validates_last, has_tensorboard
        self.signals = StopSignals(preempt_s, is_handed_on=ranks.is_supervised)
        self.progress: Progress | None = None
        self._tensorboard: TensorboardFile | None = None
        self.has_stepped = False
        self._last_step = first_step
        self.watch, self.has_wandb = watch, has_wandb
        self._wandb: WandbLog | None = None
        self._speed_text, self.sample = "", sample

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Drops the rows that this training writes again, and starts the progress."""
        with self.ranks.together():
            if self.ranks.is_first:
                self._begin_files(trainer)

    def _begin_files(self, trainer: lightning.Trainer) -> None:
        rows = [row for row in read_jsonl(self.metrics_path, AnyRow) if row["step"] <= self.first_step]
        if self.validates_last:
            rows = [row for row in rows if "loss" in row or self._validates(row["step"])]
        write_jsonl(self.metrics_path, rows)
        speeds = [] if self.watch is None else self._kept(SPEED_FILE, SpeedRow)
        samples = [] if self.sample is None else self._kept(SAMPLES_FILE, SampleRow)
        if self.has_tensorboard:
            self._tensorboard = TensorboardFile(self.folder / TENSORBOARD_FOLDER, [*rows, *speeds, *samples])
        if self.has_wandb:
            self._wandb = WandbLog(self.folder, self.description, {"first_step": self.first_step})
        # The process may have been killed between a checkpoint and this.
        self._remove_old(trainer, self.first_step)
        self.progress = Progress(self.options.max_steps, self.description, "step", initial=self.first_step)

    def _kept(self, file: str, kind: type[RowT]) -> list[RowT]:
        """The rows of a file up to the first step; the others are dropped."""
        rows = [row for row in read_jsonl(self.folder / file, kind) if row["step"] <= self.first_step]
        write_jsonl(self.folder / file, rows)
        return rows

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Raises ``UserError`` if Lightning begins at another step than the checkpoint that was meant."""
        if trainer.global_step != self.first_step:
            raise UserError(
                f"{self.description} would begin at step {trainer.global_step}, not at step {self.first_step}: another "
                f"checkpoint was loaded. Remove what does not belong to {self.checkpoints.parent} and start again."
            )
        # After Lightning has installed its own handlers.
        self.signals.install()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes the step's row, once all its rounds are done."""
        if trainer.global_step == self._last_step:
            return
        is_first, step = not self.has_stepped, trainer.global_step
        self.has_stepped, self._last_step = True, step
        pl_module.end_step()
        is_watched = self.watch is not None and step % self.watch.every == 0
        # The watch begins with the first row.
        if is_first or is_watched or step % pl_module.read_every == 0 or self._validates(step):
            self._write_steps(pl_module)
        if self.sample is not None and self.ranks.is_first and (sample := self.sample(step)) is not None:
            self._append(sample, SAMPLES_FILE)
        # Lightning validates once more when it is asked to stop.
        if self.validates_last and step == self.options.max_steps:
            trainer.should_stop = True
        if not self._validates(step):
            self._save_if_due(trainer, step, pl_module)

    def _write_steps(self, pl_module: Any) -> None:
        """Writes the rows of the steps since the last call."""
        for row in pl_module.read_steps():
            self._append(row)
            if self.watch is not None and (speed := self.watch.row(row)) is not None:
                self._append(speed, SPEED_FILE)
                self._speed_text = f", {speed_text(speed)}"
            if self.progress is not None:
                self.progress.advance(note=f"{loss_text(row)}{self._speed_text}")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Writes the row of a validation, then the checkpoint of its step."""
        metrics = pl_module.valid_metrics()
        self._append({"step": trainer.global_step, **metrics})
        if self.progress is not None:
            shown = {name.replace("_", " "): value for name, value in metrics.items() if not isinstance(value, dict)}
            self.progress.note += "".join(f", {name} {value:.3f}" for name, value in shown.items())
        self._save_if_due(trainer, trainer.global_step, pl_module)

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Ends the progress."""
        self._close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Ends the progress."""
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.close()
            self.progress = None
        if self._wandb is not None:
            self._wandb.close()
            self._wandb = None

    def _validates(self, step: int) -> bool:
        return step % self.options.eval_every == 0 or (self.validates_last and step == self.options.max_steps)

    def _append(self, row: Mapping[str, Any], file: str = METRICS_FILE) -> None:
        if not self.ranks.is_first:
            return
        append_bytes(self.folder / file, f"{json.dumps(row)}\n".encode())
        for log in (self._tensorboard, self._wandb):
            if log is not None:
                log.add(row)

    def _save_if_due(self, trainer: lightning.Trainer, step: int, pl_module: Any) -> None:
        received = self.ranks.largest(self.signals.received or 0)
        stopped_by = signal.Signals(received) if received and step != self.options.max_steps else None
        is_last = step == self.options.max_steps or trainer.should_stop or stopped_by is not None
        if is_last or step % self.options.checkpoint_every == 0 or step in self.keep_at:
            # What is not finite ends the training before it is saved.
            self._write_steps(pl_module)
            self._save(trainer, step)
        if stopped_by is not None:
            raise StoppedError(
                f"{self.description} has saved step {step:,} of {self.options.max_steps:,}, and the same command goes "
                "on from here",
                stopped_by,
            )

    def _save(self, trainer: lightning.Trainer, step: int) -> None:
        # Before the checkpoint: a resumed training does not write the rows before it again.
        if self.ranks.is_first:
            with open(self.metrics_path, "rb") as file:
                os.fsync(file.fileno())
            # Damaged ones: they were passed over at the start.
            for later in complete_checkpoints(self.checkpoints):
                if step_of(later) > step:
                    trainer.strategy.remove_checkpoint(later)
        trainer.save_checkpoint(checkpoint_folder(self.checkpoints, step))
        if self.ranks.is_first:
            self._remove_old(trainer, step)

    def _remove_old(self, trainer: lightning.Trainer, step: int) -> None:
        """Removes all checkpoints up to ``step`` but the latest and those of ``keep_at``."""
        found = [path for path in complete_checkpoints(self.checkpoints) if step_of(path) <= step]
        for old in found[: -self.keep_checkpoints]:
            if step_of(old) not in self.keep_at:
                trainer.strategy.remove_checkpoint(old)
