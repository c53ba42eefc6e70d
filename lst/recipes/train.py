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
from lst.data.interleave import DocumentBuilder
from lst.data.loader import BatchLoader, LoaderState
from lst.data.mixing import mix_sources
from lst.data.stream import StreamPlan
from lst.data.utterance import Utterance
from lst.errors import UserError, raise_problems
from lst.model.batch import Document, PackedBatch, pack_documents
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, save_model
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, patch_documents
from lst.progress import say
from lst.recipes.cpu_memory import keep_freed_memory
from lst.recipes.fitted_patching import FittedPatching, check_patching, fit_patching, plain_patching
from lst.recipes.lightning_parts import (
    LanguageModelModule,
    RunCallback,
    frozen_loader,
    precision_plugins,
    train_loader,
)
from lst.recipes.run import PreparedData, RunFolder, open_data, versions
from lst.recipes.training_state import SafeCheckpointIO, complete_checkpoints
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
    say(f"{config.name}: {model.num_parameters:,} parameters, {config.train.max_steps} steps of {config.train.rows} × "
        f"{config.train.row_patches} patches")  # fmt: skip
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
    before = read_json(path, "the record of the training's settings", f"Delete {folder} and train again.")
    raise_problems(
        f"{folder} was begun with other settings",
        differing_settings(before, settings),
        f"Use the same settings, train under another name=NAME, or delete {folder}.",
    )


def build_loader(
    config: Config,
    data: PreparedData,
    stream_fingerprint: str,
    state: dict[str, Any] | None = None,
    patching: FittedPatching | None = None,
) -> BatchLoader:
    """The training batches of a configuration; a strategy that fits something needs ``patching``."""
    patching = patching or plain_patching(config.patching, data)
    plan = StreamPlan(
        mix_sources(data.train, data.text, config.data.mix),
        patching.builder(config, data),
        patching.config,
        num_rows=config.train.rows,
        row_patches=config.train.row_patches,
        num_batches=config.train.max_steps,
        pack_buffer=config.data.pack_buffer,
        seed=config.seed,
        fingerprint=stream_fingerprint,
        mix_by=config.data.mix.by,
        shuffle_shards=config.data.shuffle_shards,
        num_streams=config.data.num_streams,
    )
    return BatchLoader(plan, LoaderState.from_json(state) if state else None, config.data.num_loader_workers)


def validation_batches(
    config: Config, data: PreparedData, patching: FittedPatching
) -> tuple[list[PackedBatch], int, int]:
    """Held-out utterances as documents of speech and of text, patched as at inference.

    Returns:
        The batches, the bytes of the texts and the units of the speech.
    """
    utterances = [data.valid[index] for index in range(min(len(data.valid), config.train.eval_utterances))]
    if not utterances:
        raise UserError(f"no held-out utterance in {data.folder}: prepare with a larger data.valid_share")
    builder = patching.builder(config, data)
    documents = [document for utterance in utterances for document in held_out_documents(builder, utterance)]
    strategy = inference_strategy(patching.config)
    cuts = patch_documents(documents, strategy, patching.config)
    if (longest := max(map(len, cuts))) > config.model.max_patches:
        raise UserError(
            f"a held-out document has {longest} patches, but model.max_patches={config.model.max_patches}: raise that, "
            "or prepare with a smaller data.max_duration_s"
        )
    batches = []
    for start in range(0, len(documents), 2 * config.train.rows):
        chosen = slice(start, start + 2 * config.train.rows)
        rows = [[item] for item in zip(documents[chosen], cuts[chosen], strict=True)]
        batches.append(pack_documents(rows, max(map(len, cuts[chosen]))))
    text_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    return batches, text_bytes, sum(map(builder.num_units, utterances))


def held_out_documents(builder: DocumentBuilder, utterance: Utterance) -> tuple[Document, Document]:
    """An utterance as a document of speech and as one of text."""
    return builder.speech(utterance), builder.text(utterance)


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
