"""``lst train``: trains one model of a run. Stop it at any moment and run it again: it goes on."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict
from pathlib import Path

import torch

from lst.api.voices import fit_voice
from lst.configs.schema import Config, TrainConfig
from lst.configs.trained_models import is_own_model
from lst.data.batches import document_ids
from lst.data.prepared import PreparedData
from lst.errors import StoppedError, UserError
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import is_unseen
from lst.parallel import Ranks, check_one_process, run_ranks
from lst.progress import quiet, say
from lst.recipes.training.batches import (
    build_loader,
    build_stream_plan,
    check_held_out_lengths,
    fresh_speech,
    fresh_stories,
    training_mix,
    validation_batches,
)
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.checkpoints import complete_checkpoints, restoring, step_of
from lst.recipes.training.finite import NonFiniteError, check_finite
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.training.held_out import HeldOut, held_out_items, held_out_prompt
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.parts import parts_of_batches
from lst.recipes.training.sources import held_out_sizes, weighted_corpora
from lst.recipes.training.start import FREE_OPTIONS, Start, machine_now, plan_start
from lst.recipes.training.strategies import prepare_blocks, whole_model
from lst.recipes.training.trainer import TrainerOptions, device_of, fit
from lst.recipes.training.warm_start import adopt_fitted, build_model, check_source, recorded_source
from lst.recipes.training.watch import Watch
from lst.runs import ModelTokenizers, RunFolder, fit_patching, is_trained, open_data, plain_patching, save_trained
from lst.runs.fitted_patching import FITTED_STRATEGIES, FittedPatching, check_patching
from lst.runs.formats import BegunSettings
from lst.storage.locks import folder_lock, reading_lock
from lst.voice.vocoders import VOICE_FILE

# Steps between readings of the loss. A CPU computes as it is told, and waits for nothing.
READ_EVERY_ON_GPU = 10


def train(config: Config) -> Path:
    """Trains the model ``config.name`` of the run, or goes on where an earlier call stopped.

    Returns:
        The folder of the trained model.

    Raises:
        UserError: the data is not prepared or damaged, the model was begun with other settings or is being trained by
            another process, or numbers are not finite.
        StoppedError: a signal stopped the training, and a checkpoint was saved.
    """
    options, run, ranks = config.train, RunFolder.of(config), Ranks.found()
    if ranks.size == 1 and options.num_nodes == 1 and options.devices > 1:
        check_one_process("lst train")
        run_ranks(train, config, options.devices, f"the training {config.name}")
        return run.final(config.name)
    check_processes(options, ranks)
    with ranks.joined(on_gpu(options)), quiet(not ranks.is_first), contextlib.ExitStack() as held:
        with ranks.together():
            held.enter_context(reading_lock(run.data))
            data = open_data(config)
        lock = folder_lock(run.model(config.name), work="trained", remedy="or train under another name=NAME")
        ranks.at_first(lambda: held.enter_context(lock))
        return _train(config, data, run, ranks)


def _train(config: Config, data: PreparedData, run: RunFolder, ranks: Ranks) -> Path:
    options, final = config.train, run.final(config.name)
    folder = TrainingFolder(run.model(config.name))
    with ranks.together():
        start = check_training(config, data)
    if is_trained(final):
        if start.named is not None:
            option = "branch_from" if options.branch_from else "resume_from"
            raise UserError(
                f"{config.name} is trained ({final}): to go on from a checkpoint, train under another name=NAME with "
                f"train.{option}={start.named}"
            )
        say(f"{config.name} is trained: nothing to do ({final})")
        return final
    trainer_options = TrainerOptions(
        options.max_steps,
        options.eval_every,
        folder.path,
        options.clip_norm,
        options.accelerator,
        options.precision,
        options.rounds,
        options.strategy,
        ranks,
    )
    with ranks.together():
        device = device_of(trainer_options)
    start.load(options.verify_checkpoints, ranks, options.reshard)
    start.note_machine(machine_now(options, device.type), config.name)
    ranks.at_first(lambda: _begin(config, data, start))
    patching = fit_patching(config, data, folder.path)
    try:
        callback, model = _fit(config, data, patching, start, trainer_options, device)
        model = whole_model(model, config, patching.vocabulary.size, ranks)
        ranks.at_first(lambda: _save(final, model, patching, data))
    except NonFiniteError as error:
        raise UserError(_advice(config, folder, error)) from None
    if callback.signals.received is not None:
        raise StoppedError(f"{config.name} is trained; the same command goes on from here", callback.signals.received)
    return final


def _begin(config: Config, data: PreparedData, start: Start) -> None:
    """Writes what is there before the first step: settings, and what is fitted for the patching."""
    start.commit()
    start.folder.begin(start.record, config)
    if config.model.init_from is not None and is_own_model(config.model.init_from):
        adopt_fitted(config.model.init_from, start.folder.path)
    fit_patching(config, data, start.folder.path)


def _save(final: Path, model: LatentSpeechTextModel, patching: FittedPatching, data: PreparedData) -> None:
    """Writes the folder of the trained model."""
    check_finite(model.state_dict(), f"the trained model {final}")
    if (voice := fit_voice(data)) is not None:
        voice.save(final / VOICE_FILE)
    save_trained(final, model, patching, ModelTokenizers.of(data))


def _fit(
    config: Config,
    data: PreparedData,
    patching: FittedPatching,
    start: Start,
    trainer_options: TrainerOptions,
    device: torch.device,
) -> tuple[RunCallback, LatentSpeechTextModel]:
    """Trains from ``start`` to the last step."""
    options, checkpoint, ranks = config.train, start.checkpoint, trainer_options.ranks
    with restoring(checkpoint):
        loader_state = checkpoint.state["loader_state"] if checkpoint else None
        loader = build_loader(config, data, start.fingerprint, loader_state, patching, ranks)
    is_cut = ranks.size > 1 and options.strategy in ("fsdp", "hsdp")
    model = build_model(config.model, patching.vocabulary, config.seed, checkpoint is None, is_cut)
    valid_batches, text_bytes, num_units = validation_batches(config, data, patching, model)
    held_out = HeldOut.of(config, data, patching, model)
    module = LanguageModelModule(
        model,
        options,
        config.loss,
        text_bytes,
        data.vocabulary.num_text,
        num_units,
        config.seed,
        functools.partial(document_ids, build_stream_plan(config, data, start.fingerprint, patching)),
        start.saved_rates,
        ranks,
        held_out.accuracies if options.eval_items else None,
        read_every=options.read_every or (READ_EVERY_ON_GPU if device.type == "cuda" else 1),
        sources=held_out_sizes(config, data, patching),
    )
    prepare_blocks(model, options.recompute_every, options.compile and options.compile_by == "block")
    if checkpoint:
        say(f"{config.name}: going on from step {start.step} ({checkpoint.path})")
    say(
        f"{config.name}: {model.num_parameters:,} parameters, {options.max_steps} steps of {options.rows} × "
        f"{options.row_patches} patches{_parts_text(options)}"
    )
    if is_unseen(config.patching, config.model.boundary_head):
        remedy = (
            "; model.boundary_head=true lets it decide where patches end"
            if config.patching.strategy == "aligned"
            else ""
        )
        say(f"{config.name}: it will be scored on static patches, which this training never sees{remedy}")
    watch = Watch(options.watch_every, options.precision, device, ranks)
    callback = RunCallback(
        start.folder.path,
        options,
        start.step,
        f"train {config.name}",
        options.keep_checkpoints,
        options.keep_at,
        has_tensorboard=True,
        ranks=ranks,
        preempt_s=options.preempt_s,
        watch=watch,
        has_wandb=options.logger == "wandb",
        sample=held_out.sample if options.sample_every else None,
    )
    with loader:
        before = loader.state if checkpoint else None
        parts = parts_of_batches(loader, before, options.rounds, ranks, config.loss, options.skip_batches)
        fit(module, watch.timed(parts), valid_batches, trainer_options, callback, checkpoint)
    if module.loader_state is not None:
        say(f"{config.name}: {module.merged_state().describe()}")
    return callback, model


def _parts_text(options: TrainConfig) -> str:
    """How often that is computed for a step, and where; empty for once on one device."""
    if options.num_parts == 1:
        return ""
    many = f" × {options.rounds} rounds" if options.rounds > 1 else ""
    on = f" × {options.num_processes} devices ({options.strategy})" if options.num_processes > 1 else ""
    return f"{on}{many}"


def check_processes(options: TrainConfig, ranks: Ranks) -> None:
    """Raises ``UserError`` unless as many processes were started as the options say."""
    if ranks.size == 1:
        check_one_process("lst train")
    if options.num_processes == ranks.size and options.num_nodes * ranks.local_size == ranks.size:
        return
    told = f"train.devices={options.devices} and train.num_nodes={options.num_nodes}"
    if ranks.size == 1:
        raise UserError(
            f"{told} need {options.num_processes} processes: start lst train on every machine with torchrun or srun"
        )
    raise UserError(
        f"lst train was started as {ranks.size} processes, {ranks.local_size} on each machine, but {told}: make them "
        "agree, or start it once and let it start the processes of one machine itself"
    )


def on_gpu(options: TrainConfig) -> bool:
    """Whether the devices are CUDA GPUs."""
    return options.accelerator in ("gpu", "cuda") or (options.accelerator == "auto" and torch.cuda.is_available())


def _advice(config: Config, folder: TrainingFolder, error: NonFiniteError) -> str:
    """What to do about numbers that are not finite, from the last good checkpoint."""
    options, steps = config.train, [step_of(path) for path in complete_checkpoints(folder.checkpoints)]
    resume = f"train.resume_from={steps[-1]} " if steps else ""
    last = f"The last good checkpoint is that of step {steps[-1]}." if steps else "There is no checkpoint yet."
    ways = [f"lower train.learning_rate (it is {options.learning_rate:g}): {resume}train.learning_rate=RATE"]
    if error.batch_index is not None:
        skipped = ",".join(map(str, sorted({*options.skip_batches, error.batch_index})))
        ways.append(f"leave the batch out: {resume}train.skip_batches=[{skipped}]")
        ways.append("leave such updates out: train.on_nonfinite=skip")
    return f"{config.name}: {error}. {last} Then {'; or '.join(ways)}. Or raise train.warmup_share"


def check_training(config: Config, data: PreparedData, patching: FittedPatching | None = None) -> Start:
    """All that is refused before a training begins: what ``train`` and its plan share. Writes nothing.

    Args:
        config: of the training.
        data: prepared.
        patching: where it is fitted already; a fitted one cannot be checked whole before.

    Returns:
        Where the training starts.

    Raises:
        UserError: the model was begun with other settings, or the data cannot be patched so or has held-out utterances
            that are too long.
    """
    folder = TrainingFolder(RunFolder.of(config).model(config.name))
    if config.model.init_from is not None:
        check_source(config.model.init_from, config.patching, data)
    start = plan_start(folder, training_settings(config, data), config.train.resume_from, config.train.branch_from)
    check_patching(config.patching, data)
    _check_words(config, data)
    fresh_speech(config, data)
    fresh_stories(config, data)
    training_mix(config, data)
    weighted_corpora(config, data)
    held_out_items(config, data)
    held_out_prompt(config, data)
    if not len(data.valid):
        raise UserError(f"no held-out utterance in {data.folder}: prepare with a larger data.valid_share")
    if patching is None and config.patching.strategy not in FITTED_STRATEGIES:
        patching = plain_patching(config.patching, data)
    if patching is not None and not data.is_text_alone:
        check_held_out_lengths(config, data, patching)
    return start


def _check_words(config: Config, data: PreparedData) -> None:
    """Raises ``UserError`` where patches are words and speech has none: each utterance would be one patch."""
    has_none = len(data.speech) or (len(data.train) and not data.is_text_alone and not data.train[0].text)
    is_by_words = config.patching.strategy in ("aligned", "mixed", "curriculum")
    if has_none and is_by_words and config.data.mix.speech and not config.patching.max_patch:
        raise UserError(
            f"patching={config.patching.strategy} makes patches of words, and {data.folder} holds speech without a "
            "transcript: choose patching=static, or limit patches, as with patching.max_patch=16"
        )


def training_settings(config: Config, data: PreparedData) -> BegunSettings:
    """Everything that decides the weights: a training goes on with equal settings only."""
    train_options = asdict(config.train)
    for name in FREE_OPTIONS:
        # In the record since version 0.1, though they decide nothing.
        if name not in ("accelerator", "compile"):
            train_options.pop(name)
    if not config.train.skip_batches:
        train_options.pop("skip_batches")
    # The batch that a step has, however it is divided; of one part, rows and their patches say it.
    train_options.pop("batch_patches")
    if config.train.num_parts > 1:
        train_options["batch_patches"] = config.train.step_patches
    model = config.model.recorded()
    if config.model.init_from is not None:
        model["init_from"] = recorded_source(config.model.init_from)
    settings: BegunSettings = {
        "data": data.fingerprint,
        "seed": config.seed,
        "interleave": config.data.interleave.recorded(),
        "mix": config.data.mix.recorded(),
        "pack_buffer": config.data.pack_buffer,
        "num_streams": config.data.num_streams,
        "shuffle_shards": config.data.shuffle_shards,
        "patching": config.patching.recorded(),
        "model": model,
        "loss": config.loss.recorded(),
        "train": train_options,
    }
    if sources := config.data.sources.recorded():
        settings["sources"] = sources
    return settings
