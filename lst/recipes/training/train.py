"""Trains one model of a run: what ``lst train`` runs. Stopped at any moment and run again, it goes on."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lst.configs.compose import to_yaml
from lst.configs.schema import Config
from lst.data.batches import LoaderState
from lst.data.prepared import PreparedData
from lst.errors import raise_problems
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, save_model
from lst.model.lst import LatentSpeechTextModel
from lst.parallel import keep_freed_memory
from lst.progress import say
from lst.recipes.training.batches import build_loader, validation_batches
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.recipes.training.module import LanguageModelModule, frozen_loader, precision_plugins, train_loader
from lst.runs import RunFolder, fit_patching, open_data
from lst.runs.fitted_patching import check_patching
from lst.runs.folder import versions
from lst.storage import differing_settings, fingerprint, read_json, write_json, write_text


def train(config: Config) -> Path:
    """Trains the model ``config.name`` of the run, or goes on where an earlier call stopped.

    Returns:
        The folder of the trained model.

    Raises:
        UserError: the data is not prepared or damaged, or the model was begun with other settings.
    """
    run = RunFolder.of(config)
    folder = run.model(config.name)
    data = open_data(config)
    settings = training_settings(config, data)
    _check_settings(folder, settings)
    if all((run.final(config.name) / name).exists() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        say(f"{config.name} is trained: nothing to do ({run.final(config.name)})")
        return run.final(config.name)
    check_patching(config.patching, data)
    write_json(folder / "settings.json", settings)
    write_text(folder / "config.yaml", to_yaml(config))
    write_json(folder / "versions.json", versions())

    checkpoints = complete_checkpoints(folder / "checkpoints")
    resume = checkpoints[-1] if checkpoints else None
    saved = SafeCheckpointIO().load_checkpoint(resume) if resume else None
    patching = fit_patching(config, data, folder)
    loader = build_loader(config, data, fingerprint(settings), saved["loader_state"] if saved else None, patching)
    valid_batches, text_bytes, num_units = validation_batches(config, data, patching)
    model = LatentSpeechTextModel(config.model, patching.vocabulary.size, config.seed)
    module = LanguageModelModule(
        model, config.train, config.loss, text_bytes, data.vocabulary.num_text, num_units, config.seed
    )
    first_step = saved["global_step"] if saved else 0
    if resume:
        say(f"{config.name}: going on from step {first_step} ({resume})")
    say(
        f"{config.name}: {model.num_parameters:,} parameters, {config.train.max_steps} steps of {config.train.rows} × "
        f"{config.train.row_patches} patches"
    )
    callback = RunCallback(folder, config.train, first_step, f"train {config.name}")
    if config.train.accelerator in ("auto", "cpu"):
        keep_freed_memory()
    with _quiet_lightning(), _interrupts_as_such(), loader:
        trainer = build_trainer(config, folder, callback)
        # Lightning converts after it has read a checkpoint: float64 weights would be rounded on the way.
        trainer.precision_plugin.convert_module(module)
        trainer.fit(
            module, train_loader(loader), frozen_loader(valid_batches), ckpt_path=str(resume) if resume else None
        )
    if trainer.global_step < config.train.max_steps:
        # Lightning returns as if all were well when it is told to terminate.
        raise KeyboardInterrupt
    if isinstance(module.loader_state, LoaderState):
        say(f"{config.name}: {module.loader_state.describe()}")
    patching.save(run.final(config.name))
    save_model(run.final(config.name), model, patching.config, patching.vocabulary.to_dict())
    return run.final(config.name)


def training_settings(config: Config, data: PreparedData) -> dict[str, Any]:
    """All that decides the weights: a training goes on only with the same."""
    train_options = asdict(config.train)
    for later in ("eval_every", "eval_utterances", "checkpoint_every", "keep_checkpoints"):
        train_options.pop(later)
    return {
        "data": data.fingerprint,
        "seed": config.seed,
        "interleave": asdict(config.data.interleave),
        "mix": asdict(config.data.mix),
        "pack_buffer": config.data.pack_buffer,
        "num_streams": config.data.num_streams,
        "shuffle_shards": config.data.shuffle_shards,
        "patching": asdict(config.patching),
        "model": asdict(config.model),
        "loss": asdict(config.loss),
        "train": train_options,
    }


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        return
    before = read_json(
        path, dict[str, Any], "the record of the training's settings", f"Delete {folder} and train again."
    )
    raise_problems(
        f"{folder} was begun with other settings",
        differing_settings(before, settings),
        f"Use the same settings, train under another name=NAME, or delete {folder}.",
    )


def build_trainer(config: Config, folder: Path, callback: RunCallback) -> lightning.Trainer:
    # Determinism is of sums; that fresh memory is filled before it is written would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    plugins = precision_plugins(config.train.precision)
    return lightning.Trainer(
        accelerator=config.train.accelerator,
        devices=1,
        max_steps=config.train.max_steps,
        max_epochs=-1,
        # Sums of gradients are taken in one order, whatever the threads do: resuming is exact only so.
        deterministic=True,
        gradient_clip_val=config.train.clip_norm,
        val_check_interval=config.train.eval_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        logger=TensorBoardLogger(str(folder), name="tensorboard", version=""),
        precision=None if plugins else config.train.precision,  # type: ignore[arg-type]
        plugins=[SafeCheckpointIO(), *plugins],
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


@contextlib.contextmanager
def _interrupts_as_such() -> Iterator[None]:
    """Lightning turns an interrupt into an exit without a word; here it stays an interrupt."""
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps Lightning's advice and device tables out of the user's sight; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
