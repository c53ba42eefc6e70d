"""``lst voice train part=units`` and ``part=vocoder``: sound from units, and better sound from mels, in minutes.

::

    RUN/voice/NAME/units, vocoder    trainings: see ``lst.recipes.training.folder``
    RUN/voice/NAME/style_voice.safetensors    a voice that speaks units and hears nothing: see ``lst.voice.saved``
    RUN/voice/NAME/vocoder.safetensors    see ``lst.voice.vocoders.of_mels``

Neither needs phones. Stop a training at any moment and run it again: it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch

from lst import storage
from lst.configs.voice_schema import VoiceConfig
from lst.data.prepared import PreparedData
from lst.data.shards import INDEX_FILE
from lst.errors import UserError, raise_problems
from lst.lazy import import_or_explain
from lst.parallel import check_one_process
from lst.progress import say
from lst.recipes.training.folder import TrainingFolder
from lst.recipes.voice.corpus import content_frames, training_batches, valid_batches
from lst.recipes.voice.formats import PartSettings
from lst.recipes.voice.part_modules import SpectrumBatch, SpectrumModule, UnitsModule
from lst.recipes.voice.recordings import RecordingCorpus
from lst.recipes.voice.train import (
    FREE,
    STAGES,
    finished_voice,
    fit_part,
    prepared_for,
    train_plan,
    train_voice,
    voice_folder,
)
from lst.runs import RunFolder
from lst.voice.mel import MelScale
from lst.voice.model import VoiceModel
from lst.voice.saved import STYLE_VOICE_FILE
from lst.voice.vocoders.of_mels import VOCODER_FILE, VOCODER_FORMAT, TrainedVocoder
from lst.voice.vocoders.spectral import SpectrumNetwork

FILES = {"units": STYLE_VOICE_FILE, "vocoder": VOCODER_FILE}
# Draws of their own for pieces of recordings.
_SPECTRUM_STREAM, _VALID_STREAM = 0x5BEC, 0x5BED
# A voice that reads no phones knows silence alone.
_NO_PHONES = ["SIL"]


def train_part(config: VoiceConfig) -> Path:
    """Trains ``config.part``, or goes on where an earlier call stopped; the whole voice is that of ``train_voice``.

    Returns:
        The finished file.

    Raises:
        UserError: the data is not prepared, has no audio or no units that can be spoken, or the training was begun
            with other settings.
        StoppedError: a signal stopped the training, and a checkpoint was saved.
    """
    if config.part == "whole":
        return train_voice(config)
    final = voice_folder(config) / FILES[config.part]
    with prepared_for(config, check_part) as data:
        if final.exists():
            say(f"{config.name} has its {config.part}: nothing to do ({final})")
        else:
            train = RecordingCorpus(data, "train", config.model.sample_rate_hz, config.train.utterances)
            valid = RecordingCorpus(data, "valid", config.model.sample_rate_hz, config.train.eval_rows)
            (_train_units if config.part == "units" else _train_vocoder)(config, train, valid, final)
    return final


def part_settings(config: VoiceConfig, data: PreparedData) -> PartSettings:
    """Everything that decides the weights of a part."""
    unused = {*FREE, "teacher_steps", "student_steps"} | ({"reference_s"} if config.part == "vocoder" else set())
    model = config.model.recorded() if config.part == "units" else config.spectrum.recorded()
    return {
        "data": data.fingerprint,
        "part": config.part,
        "seed": config.seed,
        "sample_rate_hz": config.model.sample_rate_hz,
        "model": model,
        "train": {name: value for name, value in asdict(config.train).items() if name not in unused},
    }


def check_part(config: VoiceConfig, data: PreparedData) -> None:
    """What a part's training and its plan refuse before work starts."""
    place = voice_folder(config) / config.part
    if config.part == "units" and any((place.parent / f"stage-{stage}").exists() for stage in STAGES):
        raise UserError(f"{place.parent} holds a whole voice: train part=units under another name=NAME")
    raise_problems(
        f"{place} was begun with other settings",
        TrainingFolder(place).conflicts(part_settings(config, data)),
        f"Use the same settings, train under another name=NAME, or delete {place}.",
    )
    if not data.manifest:
        raise UserError(f"{data.folder} was made of units, without audio: a voice needs recordings")
    if not len(data.valid):
        raise UserError(f"no held-out utterance in {data.folder}: prepare with a larger data.valid_share")
    if config.part == "units":
        if data.codec.units_a_frame > 1:
            raise UserError(
                f"{data.codec.name} has several units a frame and a decoder of its own: part=units has none"
            )
        import_or_explain("pyworld", "pitch", "pip install 'latent-speech-text[voice]'")


def _train_units(config: VoiceConfig, train: RecordingCorpus, valid: RecordingCorpus, final: Path) -> None:
    options, data = config.train, train.data
    model = VoiceModel(config.model, len(_NO_PHONES), data.codec.num_units, seed=config.seed)
    sizes = (content_frames(options.piece_s), content_frames(options.reference_s))
    fit_part(
        *_place_of(config, data),
        UnitsModule(model, options, config.seed),
        lambda first: training_batches(train, options.rows, *sizes, (config.seed, 0), first),
        lambda: valid_batches(valid, options.rows, options.eval_rows, *sizes, config.seed),
    )
    whole = finished_voice(config, data, model, train)
    described = {**whole.description, "phones": _NO_PHONES, "has_student": False, "has_units": True}
    replace(whole, description=described).save(final)  # type: ignore[arg-type]


def _train_vocoder(config: VoiceConfig, train: RecordingCorpus, valid: RecordingCorpus, final: Path) -> None:
    options, rate_hz = config.train, config.model.sample_rate_hz
    network = SpectrumNetwork(config.spectrum, MelScale(rate_hz), config.seed)
    num_frames = 2 * content_frames(options.piece_s)
    num_checked = -(-options.eval_rows // options.rows)
    fit_part(
        *_place_of(config, train.data),
        SpectrumModule(network, options, config.seed),
        lambda first: spectrum_batches(train, options.rows, num_frames, (_SPECTRUM_STREAM, config.seed), count(first)),
        lambda: list(
            spectrum_batches(valid, options.rows, num_frames, (_VALID_STREAM, config.seed), range(num_checked))
        ),
    )
    finished = network.cpu().eval().requires_grad_(False)
    TrainedVocoder(
        finished,
        {
            "format": VOCODER_FORMAT,
            "name": config.name,
            "dim": config.spectrum.dim,
            "layers": config.spectrum.layers,
            "sample_rate_hz": rate_hz,
            "duration_s": train.duration_s,
        },
    ).save(final)


def spectrum_batches(
    corpus: RecordingCorpus, rows: int, num_frames: int, seed: Sequence[int], steps: Iterable[int]
) -> Iterator[SpectrumBatch]:
    """Pieces of recordings, a batch a step; a batch depends on seed and step alone."""
    for step in steps:
        rng = np.random.default_rng([*seed, step])
        powers = []
        for index in rng.integers(len(corpus), size=rows):
            # Repeated, where it is shorter than a piece.
            waveform, num_samples = corpus.speech(int(index)), num_frames * corpus.scale.hop_samples
            start = int(rng.integers(max(1, len(waveform) - num_samples + 1)))
            powers.append(corpus.scale.power(np.resize(waveform[start:], num_samples)))
        power_BTF = torch.stack(powers)
        yield SpectrumBatch(torch.stack([corpus.scale.mel_of(power) for power in powers]), power_BTF)


def _place_of(config: VoiceConfig, data: PreparedData) -> tuple[VoiceConfig, Path, str, PartSettings]:
    """What ``fit_part`` takes first."""
    place = voice_folder(config) / config.part
    return config, place, f"{config.name}, {config.part}", part_settings(config, data)


def part_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice train`` would do, as lines of text; raises ``UserError`` for what it would refuse."""
    if config.part == "whole":
        return train_plan(config)
    check_one_process("lst voice train")
    data_folder, train = RunFolder(Path(config.run_dir), config.data_dir).data, config.train
    heard_s = train.steps * train.rows * train.piece_s
    lines = [
        f"{config.part} of voice {config.name}: {train.steps:,} steps of {train.rows} × {train.piece_s:g} s "
        f"({heard_s / 60:,.0f} minutes of speech in all)",
        f"  into {voice_folder(config) / FILES[config.part]}",
    ]
    if not storage.exists(data_folder / INDEX_FILE):
        return [*lines, f"  it waits for prepared data in {data_folder}: run lst prepare"]
    check_part(config, PreparedData(data_folder))
    return lines
