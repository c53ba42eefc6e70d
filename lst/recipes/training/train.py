"""``lst train``: trains one model of a run. Stop it at any moment and run it again: it goes on."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.errors import raise_problems
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from lst.model.lst import LatentSpeechTextModel
from lst.parallel import check_one_process
from lst.progress import say
from lst.recipes.training.batches import build_loader, validation_batches
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.trainer import TrainerOptions, fit
from lst.runs import RunFolder, fit_patching, open_data, save_trained
from lst.runs.fitted_patching import check_patching
from lst.runs.formats import TrainingSettings
from lst.storage import fingerprint


def train(config: Config) -> Path:
    """Trains the model ``config.name`` of the run, or goes on where an earlier call stopped.

    Returns:
        The folder of the trained model.

    Raises:
        UserError: the data is not prepared or damaged, or the model was begun with other settings.
    """
    check_one_process("lst train")
    run, options = RunFolder.of(config), config.train
    final, folder = run.final(config.name), TrainingFolder(run.model(config.name))
    data = open_data(config)
    settings = training_settings(config, data)
    raise_problems(
        f"{folder.path} was begun with other settings",
        folder.conflicts(settings),
        f"Use the same settings, train under another name=NAME, or delete {folder.path}.",
    )
    if all((final / name).exists() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        say(f"{config.name} is trained: nothing to do ({final})")
        return final
    check_patching(config.patching, data)
    folder.begin(settings, config)
    resume, saved = folder.load_newest()
    patching = fit_patching(config, data, folder.path)
    loader = build_loader(config, data, fingerprint(settings), saved.get("loader_state"), patching)
    valid_batches, text_bytes, num_units = validation_batches(config, data, patching)
    model = LatentSpeechTextModel(config.model, patching.vocabulary.size, config.seed)
    module = LanguageModelModule(
        model, options, config.loss, text_bytes, data.vocabulary.num_text, num_units, config.seed
    )
    if resume:
        say(f"{config.name}: going on from step {folder.steps_done} ({resume})")
    say(
        f"{config.name}: {model.num_parameters:,} parameters, {options.max_steps} steps of {options.rows} × "
        f"{options.row_patches} patches"
    )
    trainer_options = TrainerOptions(
        options.max_steps,
        options.eval_every,
        folder.path,
        options.clip_norm,
        options.accelerator,
        options.precision,
        TensorBoardLogger(str(folder.path), name="tensorboard", version=""),
    )
    callback = RunCallback(folder.path, options, folder.steps_done, f"train {config.name}", options.keep_checkpoints)
    with loader:
        fit(module, loader, valid_batches, trainer_options, [callback], resume)
    if module.loader_state is not None:
        say(f"{config.name}: {module.loader_state.describe()}")
    save_trained(final, model, patching)
    return final


def training_settings(config: Config, data: PreparedData) -> TrainingSettings:
    """Everything that decides the weights: a training goes on with equal settings only."""
    train_options = config.train.recorded()
    for later in ("eval_every", "eval_utterances", "checkpoint_every", "keep_checkpoints"):
        train_options.pop(later)
    return {
        "data": data.fingerprint,
        "seed": config.seed,
        "interleave": config.data.interleave.recorded(),
        "mix": config.data.mix.recorded(),
        "pack_buffer": config.data.pack_buffer,
        "num_streams": config.data.num_streams,
        "shuffle_shards": config.data.shuffle_shards,
        "patching": config.patching.recorded(),
        "model": config.model.recorded(),
        "loss": config.loss.recorded(),
        "train": train_options,
    }
