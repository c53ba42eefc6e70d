"""The one trainer: Lightning on one device or several, with sums in one order, quiet, and stopped by signals."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, IterableDataset

from lst.errors import UserError
from lst.parallel import ALONE, Ranks, keep_freed_memory
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.checkpoints import Checkpoint, SafeCheckpointIO, restoring
from lst.recipes.training.module import TrainingModule
from lst.recipes.training.strategies import RanksEnvironment, Replicated, Sharded, rank_mesh, shard_model


@dataclass(frozen=True)
class TrainerOptions:
    """What Lightning's Trainer is built from.

    Attributes:
        max_steps: optimiser steps.
        eval_every: steps between validations.
        clip_norm: gradients are scaled down to this norm; None leaves them.
        folder: of the training; Lightning looks nowhere else for checkpoints of its own.
        accelerator, precision: Lightning's.
        rounds: training batches of a step, on each device.
        strategy: ``ddp``, ``fsdp`` or ``hsdp``, of several ranks.
        ranks: processes that train together; they are joined.
    """

    max_steps: int
    eval_every: int
    folder: Path
    clip_norm: float | None = None
    accelerator: str = "cpu"
    precision: str = "32-true"
    rounds: int = 1
    strategy: str = "ddp"
    ranks: Ranks = ALONE


def build_trainer(
    options: TrainerOptions, callbacks: list[lightning.Callback], resume: Checkpoint | None = None
) -> lightning.Trainer:
    """A Lightning Trainer with safe checkpoints, which only ``callbacks`` write.

    Raises:
        UserError: this machine has no such accelerator, or it has not the precision.
    """
    try:
        return _build_trainer(options, callbacks, resume)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(
            f"train.accelerator={options.accelerator} train.precision={options.precision} cannot be used here: {error}"
        ) from None


def device_of(options: TrainerOptions) -> torch.device:
    """The device that the training will use in this process; raises as ``build_trainer`` does."""
    with _contained():
        return build_trainer(options, []).strategy.root_device


def _build_trainer(
    options: TrainerOptions, callbacks: list[lightning.Callback], resume: Checkpoint | None
) -> lightning.Trainer:
    strategy, plugins, ranks = _strategy(options), _precision_plugins(options.precision), options.ranks
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=ranks.local_size,
        num_nodes=ranks.size // ranks.local_size,
        strategy=strategy,
        accumulate_grad_batches=options.rounds,
        use_distributed_sampler=False,
        max_steps=options.max_steps,
        max_epochs=-1,
        # Sums of gradients are taken in one order, whatever the threads do: resuming is exact only so.
        deterministic=True,
        gradient_clip_val=options.clip_norm,
        # In training batches.
        val_check_interval=options.eval_every * options.rounds,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        precision=None if plugins else options.precision,  # type: ignore[arg-type]
        # Without one named, Lightning finds SLURM's by itself: it would handle signals and write checkpoints of its own
        # into the working directory, which the next training started there would load.
        plugins=[
            SafeCheckpointIO(resume, ranks, takes_cut=isinstance(strategy, Sharded)),
            LightningEnvironment() if ranks.size == 1 else RanksEnvironment(ranks),
            *plugins,
        ],
        default_root_dir=options.folder,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def _strategy(options: TrainerOptions) -> Any:
    if options.ranks.size == 1:
        return "auto"
    return Sharded(options.ranks) if options.strategy in ("fsdp", "hsdp") else Replicated()


def fit(
    module: TrainingModule,
    train_batches: Iterable[Any],
    valid_batches: Sequence[Any],
    options: TrainerOptions,
    callback: RunCallback | None,
    resume: Checkpoint | None = None,
) -> None:
    """Trains to the last step, or until the module has stopped early.

    Args:
        module: the model, its loss and its metrics.
        train_batches: endless.
        valid_batches: read anew at every validation.
        options: of the trainer.
        callback: writes files; without it, nothing is written.
        resume: the checkpoint to go on from; it is taken over.

    Raises:
        StoppedError: a signal stopped the training, and a checkpoint was saved.
        KeyboardInterrupt: the process was interrupted before the first step.
        DamagedCheckpointError: the checkpoint does not fit the module.
    """
    if options.accelerator in ("auto", "cpu"):
        keep_freed_memory()
    with _contained(), callback.signals if callback else contextlib.nullcontext():
        trainer = build_trainer(options, [callback] if callback else [], resume)
        # Lightning converts after it has read a checkpoint: float64 weights would be rounded on the way.
        trainer.precision_plugin.convert_module(module)
        if isinstance(trainer.strategy, Sharded):
            device = trainer.strategy.root_device.type
            mesh = rank_mesh(options.ranks, device, options.strategy)
            module.shard = functools.partial(shard_model, mesh=mesh, precision=options.precision)
        own_valid_batches = _RankShare(valid_batches, options.ranks)
        module.num_own_valid_batches = own_valid_batches.num_own
        # Batches are made elsewhere: the workers of a DataLoader would have to be told where the others are.
        with restoring(resume, lambda: callback is not None and callback.has_stepped):
            if resume is not None:
                _check_states(resume)
            trainer.fit(
                module,
                DataLoader(_Endless(train_batches), batch_size=None, num_workers=0),
                DataLoader(own_valid_batches, batch_size=None, num_workers=0),  # type: ignore[arg-type]
                ckpt_path=str(resume.path) if resume else None,
            )
    if trainer.global_step < options.max_steps and not module.stopped_early:
        # Lightning returns as if all were well when it is told to terminate.
        raise KeyboardInterrupt


def _check_states(resume: Checkpoint) -> None:
    """Raises ``ValueError`` unless optimiser and schedule are there: Lightning begins them anew without a word."""
    state = resume.state
    for name in ("optimizer_states", "lr_schedulers"):
        if len(state[name]) != 1:
            raise ValueError(f"it has {len(state[name])} {name}, 1 is needed")
    has_stepped = resume.step > int(state.get("num_skipped_updates", 0))
    if has_stepped and not state["optimizer_states"][0]["state"]:
        raise ValueError("the state of its optimiser is empty")


class _RankShare(Sequence[Any]):
    """Every rank's validation batches: as many for each, because all compute together. The last may repeat."""

    def __init__(self, batches: Sequence[Any], ranks: Ranks) -> None:
        self.batches, self.ranks = batches, ranks
        self.num_own = len(range(ranks.rank, len(batches), ranks.size))

    def __len__(self) -> int:
        return -(-len(self.batches) // self.ranks.size)

    def __getitem__(self, index: Any) -> Any:
        return self.batches[min(index * self.ranks.size + self.ranks.rank, len(self.batches) - 1)]


class _Endless(IterableDataset[Any]):
    """Batches without a length: only the number of steps ends a training."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Context manager around Lightning.

    It hides advice and device tables (errors stay), raises ``KeyboardInterrupt`` where Lightning exits, and puts
    torch's generator and its settings of determinism back at the end.
    """
    loggers = {logging.getLogger(name): 0 for name in ("lightning.pytorch", "lightning.fabric", "lightning")}
    for logger in loggers:
        loggers[logger] = logger.level
        logger.setLevel(logging.ERROR)
    deterministic = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    # Determinism is of sums; filling fresh memory before it is written would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        for logger, level in loggers.items():
            logger.setLevel(level)


class _Half(HalfPrecision):
    """``bf16-true`` for batches of ids. Lightning's own refuses dataclasses without real numbers."""

    def convert_input(self, data: Any) -> Any:
        return data


class _Double(DoublePrecision):
    """``64-true``, likewise."""

    def convert_input(self, data: Any) -> Any:
        return data


def _precision_plugins(precision: str) -> list[Precision]:
    """Plugins in place of the Trainer's ``precision``; empty if Lightning's own will do."""
    if precision == "64-true":
        return [_Double()]
    return [_Half("bf16-true")] if precision == "bf16-true" else []
