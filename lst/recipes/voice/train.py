"""``lst voice train``: a voice in two stages, of prepared speech. Stop it at any moment and run it again: it goes on.

Stage 1 trains the teacher, which speaks phones in the style of a reference. Stage 2 teaches a student to hear the same
content in any mel, from the teacher's speech, and a front of units to stand for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lst import storage
from lst.configs.voice_schema import VoiceConfig
from lst.data.alignment.hmm import PHONES
from lst.data.prepared import PreparedData
from lst.data.shards import INDEX_FILE
from lst.errors import StoppedError, UserError, raise_problems
from lst.parallel import check_one_process
from lst.progress import duration_text, say
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.finite import NonFiniteError
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.training.trainer import TrainerOptions, fit
from lst.recipes.voice.corpus import VoiceCorpus, content_frames, training_batches, valid_batches
from lst.recipes.voice.features import make_features
from lst.recipes.voice.formats import VoiceSettings
from lst.recipes.voice.module import VoiceModule
from lst.recipes.voice.part_modules import PartModule
from lst.runs import RunFolder
from lst.storage.locks import folder_lock, reading_lock
from lst.voice.model import Stage, VoiceModel
from lst.voice.saved import STYLE_VOICE_FILE, STYLE_VOICE_FORMAT, SavedVoice, sizes_of

STAGES: tuple[Stage, ...] = (1, 2)
# Options of the training that change no weight.
FREE = ("eval_every", "eval_rows", "checkpoint_every", "accelerator", "max_skipped_updates")
# Options that other parts than the whole voice have.
_OF_PARTS = ("steps", "utterances")
# Utterances that the default style is the mean of.
_STYLE_UTTERANCES = 20


def train_voice(config: VoiceConfig) -> Path:
    """Trains both stages of the voice ``config.name``, or goes on where an earlier call stopped.

    Returns:
        The file of the finished voice.

    Raises:
        UserError: the data is not prepared or has no audio, a stage was begun with other settings, or numbers are not
            finite.
        StoppedError: a signal stopped the training, and a checkpoint was saved.
    """
    with prepared_for(config, check_voice) as data:
        make_features(data, config.num_workers, config.texts_are_right)
        return _train(config, data, voice_folder(config))


@contextlib.contextmanager
def prepared_for(config: VoiceConfig, check: Callable[[VoiceConfig, PreparedData], None]) -> Iterator[PreparedData]:
    """Context manager: the run's prepared data, while nobody else changes it or trains a voice of this name.

    Args:
        config: of the training.
        check: raises ``UserError`` for what is refused before work starts.
    """
    check_one_process("lst voice train")
    run = RunFolder(Path(config.run_dir), config.data_dir)
    with reading_lock(run.data):
        data = PreparedData(run.data)
        check(config, data)
        with folder_lock(voice_folder(config), work="trained", remedy="or train under another name=NAME"):
            yield data


def voice_folder(config: VoiceConfig) -> Path:
    """Folder of a voice."""
    return Path(config.run_dir) / "voice" / config.name


def stage_settings(config: VoiceConfig, data: PreparedData, stage: Stage) -> VoiceSettings:
    """Everything that decides the weights of a stage: the first one does not know how long the second is."""
    unused = (*FREE, *_OF_PARTS, "student_steps") if stage == 1 else (*FREE, *_OF_PARTS)
    train = {name: value for name, value in asdict(config.train).items() if name not in unused}
    return {
        "data": data.fingerprint,
        "stage": stage,
        "seed": config.seed,
        "model": config.model.recorded(),
        "loss": config.loss.recorded(),
        "train": train,
    }


def check_voice(config: VoiceConfig, data: PreparedData) -> None:
    """What the command and its plan refuse before work starts."""
    folder = voice_folder(config)
    if (folder / "units").exists():
        raise UserError(f"{folder} holds a voice of part=units: train the whole voice under another name=NAME")
    conflicts = [
        f"stage {stage}: {difference}"
        for stage in STAGES
        for difference in TrainingFolder(_stage_folder(folder, stage)).conflicts(stage_settings(config, data, stage))
    ]
    raise_problems(
        f"{folder} was begun with other settings",
        conflicts,
        f"Use the same settings, train under another name=NAME, or delete {folder}.",
    )
    if data.codec.units_a_frame > 1 and config.loss.units:
        raise UserError(f"{data.codec.name} has several units a frame and a decoder of its own: set loss.units=0")
    if not len(data.valid):
        raise UserError(f"no held-out utterance in {data.folder}: prepare with a larger data.valid_share")


def _stage_folder(folder: Path, stage: Stage) -> Path:
    return folder / f"stage-{stage}"


def _train(config: VoiceConfig, data: PreparedData, folder: Path) -> Path:
    final = folder / STYLE_VOICE_FILE
    if final.exists():
        say(f"{config.name} is trained: nothing to do ({final})")
        return final
    rate_hz = config.model.sample_rate_hz
    train, valid = VoiceCorpus(data, "train", rate_hz), VoiceCorpus(data, "valid", rate_hz)
    model = VoiceModel(config.model, len(PHONES), data.codec.num_units, train.num_speakers, config.seed)
    say(f"{config.name}: {len(train):,} utterances of {train.num_speakers:,} speakers, {len(valid):,} held out")
    for stage in STAGES:
        _train_stage(config, data, model, (train, valid), _stage_folder(folder, stage), stage)
    saved = finished_voice(config, data, model, train)
    saved.save(final)
    return final


def _train_stage(
    config: VoiceConfig,
    data: PreparedData,
    model: VoiceModel,
    corpora: tuple[VoiceCorpus, VoiceCorpus],
    path: Path,
    stage: Stage,
) -> None:
    """Trains one stage, or goes on with it; the model then has the weights of its end."""
    options = config.train
    sizes = (content_frames(options.piece_s), content_frames(options.reference_s))
    fit_part(
        config,
        path,
        f"{config.name}, stage {stage}",
        stage_settings(config, data, stage),
        VoiceModule(model, options, config.loss, stage, config.seed),
        lambda first: training_batches(corpora[0], options.rows, *sizes, (config.seed, stage), first),
        lambda: valid_batches(corpora[1], options.rows, options.eval_rows, *sizes, config.seed),
    )


def fit_part(
    config: VoiceConfig,
    path: Path,
    description: str,
    settings: Mapping[str, Any],
    module: VoiceModule | PartModule,
    batches: Callable[[int], Iterator[Any]],
    checked: Callable[[], list[Any]],
) -> None:
    """Trains a stage or a part of a voice, or goes on with it; the module's model then has the weights of its end.

    Args:
        config: of the training.
        path: its folder.
        description: what is trained, for people.
        settings: all that decides its weights.
        module: what is trained.
        batches: those of the training from a step on, without end.
        checked: makes those of the validation.
    """
    folder, options = TrainingFolder(path), module.options
    folder.begin(settings, config)
    resume = folder.load_newest()
    first_step = resume.step if resume else 0
    if resume is not None and first_step == options.max_steps:
        module.load_state_dict(resume.take()["state_dict"])
        say(f"{description} is trained")
        return
    if resume:
        say(f"{description}: going on from step {first_step:,}")
    num_learning = sum(one.numel() for one in module.parameters() if one.requires_grad)
    say(
        f"{description}: {num_learning:,} parameters, {options.max_steps:,} steps of {config.train.rows} × "
        f"{config.train.piece_s:g} s"
    )
    callback = RunCallback(path, options, first_step, description, has_tensorboard=True)
    trainer = TrainerOptions(
        options.max_steps, options.eval_every, path, config.train.clip_norm, config.train.accelerator
    )
    try:
        fit(module, batches(first_step), checked(), trainer, callback, resume)
    except NonFiniteError as error:
        also = " or loss.adversarial" if config.part == "whole" else ""
        raise UserError(
            f"{description}: {error}. Lower train.learning_rate (it is {config.train.learning_rate:g}){also} under "
            "another name=NAME; the last checkpoint is kept"
        ) from None
    if callback.signals.received is not None:
        raise StoppedError(f"{description} is trained; the same command goes on from here", callback.signals.received)


def finished_voice(config: VoiceConfig, data: PreparedData, model: VoiceModel, train: VoiceCorpus) -> SavedVoice:
    """The voice with the style of the training speaker who has most utterances."""
    model = model.cpu().eval()
    own = max(train.of_speaker, key=len)[:_STYLE_UTTERANCES]
    with torch.inference_mode():
        styles = [model.style(torch.from_numpy(train.piece(int(index)).mel)[None])[0] for index in own]
    finished = VoiceModel(config.model, model.num_phones, model.num_units)
    finished.load_state_dict(model.kept())
    rows = [train.reader[number].duration_s for number in train.numbers]
    return SavedVoice(
        finished.eval().requires_grad_(False),
        {
            "format": STYLE_VOICE_FORMAT,
            "name": config.name,
            "model": sizes_of(config.model),
            "phones": list(PHONES),
            "num_units": data.codec.num_units,
            "unit_rate_hz": data.codec.frame_rate_hz,
            "units_sha256": data.codec.sha256,
            "has_student": True,
            "has_units": config.loss.units > 0,
            "num_speakers": train.num_speakers,
            "duration_s": float(sum(rows)),
        },
        torch.stack(styles).mean(dim=0),
    )


def train_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice train`` would do, as lines of text; raises ``UserError`` for what it would refuse."""
    check_one_process("lst voice train")
    run = RunFolder(Path(config.run_dir), config.data_dir)
    with torch.device("meta"):
        model = VoiceModel(config.model, len(PHONES), 1, 1)
    train = config.train
    heard_s = (train.teacher_steps + train.student_steps) * train.rows * train.piece_s
    lines = [
        f"voice {config.name}: about {model.num_parameters:,} parameters, without units and speakers",
        f"  stage 1: {train.teacher_steps:,} steps, stage 2: {train.student_steps:,} steps, of {train.rows} × "
        f"{train.piece_s:g} s ({duration_text(heard_s)} of speech in all)",
        f"  into {voice_folder(config)}",
    ]
    if not storage.exists(run.data / INDEX_FILE):
        return [*lines, f"  it waits for prepared data in {run.data}: run lst prepare"]
    check_voice(config, PreparedData(run.data))
    return lines
