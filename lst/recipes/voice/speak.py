"""``lst voice convert`` and ``lst voice speak``: sound in the voice of a reference.

What is written says in its comment that it was made by conversion, and of what.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lst.api import SpeechTextModel
from lst.configs.voice_schema import VoiceConfig
from lst.data.audio import AUDIO_SUFFIXES, probe_audio, read_audio
from lst.errors import LstError, UserError, raise_problems
from lst.parallel import check_one_process
from lst.progress import Progress
from lst.recipes.voice.train import voice_folder
from lst.runs import RunFolder, open_whole
from lst.storage import read_text, write_bytes
from lst.voice.converter import LEAST_REFERENCE_S, MOST_SOURCE_S, StyleVoice, tagged_wav
from lst.voice.saved import STYLE_VOICE_FILE, SavedVoice
from lst.voice.vocoders.of_mels import GriffinLim, MelVocoder, vocoder_beside
from lst.voice.vocoders.vocos import VocosVocoder

_NUMBERS = re.compile(r"[\s\d,\[\]]+")


@dataclass(frozen=True)
class Conversion:
    """What ``lst voice convert`` reads and writes.

    Attributes:
        voice: the file of the voice.
        reference: the speech of the wanted voice.
        files: each source and the file that is written of it.
    """

    voice: Path
    reference: str
    files: list[tuple[str, Path]]

    @cached_property
    def duration_s(self) -> float:
        """Length of all sources."""
        return sum(probe_audio(source).duration_s for source, _ in self.files)


def convert(config: VoiceConfig) -> str:
    """Converts a file, or every audio file of a folder.

    Returns:
        What was written.

    Raises:
        UserError: an option is missing, or a file cannot be read or is unfit; all of them are named before work starts.
    """
    check_one_process("lst voice convert")
    work = plan_conversion(config)
    voice = _opened(config, work.voice)
    voice.check_converts()
    rate_hz = voice.sample_rate_hz
    style = voice.style_of(read_audio(work.reference, rate_hz), f"reference={work.reference}")
    with Progress(len(work.files), "convert", "file") as progress:
        for source, target in work.files:
            samples = voice.convert(read_audio(source, rate_hz), style, source)
            comment = f"converted by LST: words of {Path(source).name}, voice of {Path(work.reference).name}"
            write_bytes(target, tagged_wav(samples, rate_hz, comment))
            progress.advance()
    if len(work.files) == 1:
        return f"{work.files[0][1]}: {work.duration_s:.2f} s"
    return f"{config.out}: {len(work.files):,} files, {work.duration_s:,.1f} s"


def convert_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice convert`` would do; raises ``UserError`` for what it would refuse."""
    work = plan_conversion(config)
    _opened(config, work.voice).check_converts()
    return [f"convert {len(work.files):,} files, {work.duration_s:,.1f} s, into {config.out}"]


def plan_conversion(config: VoiceConfig) -> Conversion:
    """The files of a conversion; everything that is missing or unfit is named at once."""
    given = {"source": config.source, "reference": config.reference, "out": config.out}
    if missing := [f"{key}=" for key, value in given.items() if not value]:
        raise UserError(f"lst voice convert needs {', '.join(missing)}: write source=A.wav reference=B.wav out=C.wav")
    assert config.source is not None
    assert config.reference is not None
    assert config.out is not None
    source, out = Path(config.source).expanduser(), Path(config.out).expanduser()
    problems = _reference_problems(config.reference)
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
        files = [(str(path), out / path.relative_to(source).with_suffix(".wav")) for path in found]
        if not files:
            problems.append(f"source={source} holds no audio file ({', '.join(AUDIO_SUFFIXES)})")
        if out.suffix.lower() == ".wav":
            problems.append(f"out={out}: source= is a folder, so name a folder")
        targets = [target for _, target in files]
        problems += [
            f"{path}: another source becomes {target} too" for path, target in files if targets.count(target) > 1
        ]
    else:
        files = [(str(source), out)]
        if out.suffix.lower() != ".wav" or out.is_dir():
            problems.append(f"out={out}: sound is written as WAV: name a file that ends with .wav")
    resolved = {Path(path).resolve() for path in [config.reference, *(path for path, _ in files)]}
    problems += [f"{target} would overwrite what is read" for _, target in files if target.resolve() in resolved]
    for path, _ in files:
        problems += _audio_problems(path, most_s=MOST_SOURCE_S)
    raise_problems("source= and reference=", problems)
    return Conversion(voice_file(config), config.reference, files)


def speak(config: VoiceConfig) -> str:
    """Speaks units, or the units that a language model makes of a text.

    Returns:
        What was written.

    Raises:
        UserError: an option is missing or unfit, or the voice reads other units.
    """
    check_one_process("lst voice speak")
    voice = _opened(config, plan_speech(config))
    spoken_by = "the voice's own style"
    if config.reference is not None:
        samples = read_audio(config.reference, voice.sample_rate_hz)
        voice = replace(voice, style=voice.style_of(samples, f"reference={config.reference}"))
        spoken_by = f"voice of {Path(config.reference).name}"
    units, is_deduplicated, what = _units(config, voice.saved)
    assert config.out is not None
    sound = voice.sound(units, is_deduplicated)
    write_bytes(
        Path(config.out).expanduser(),
        tagged_wav(sound, voice.sample_rate_hz, f"synthesised by LST: {what}, {spoken_by}"),
    )
    return f"{config.out}: {len(sound) / voice.sample_rate_hz:.2f} s of {len(units):,} units"


def speak_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice speak`` would do; raises ``UserError`` for what it would refuse."""
    path = plan_speech(config)
    voice = _opened(config, path)
    if config.units is not None:
        _units(config, voice.saved)
    return [f"speak {'units' if config.units else 'a text'} with {path}, into {config.out}"]


def plan_speech(config: VoiceConfig) -> Path:
    """The file of the voice; everything that is missing or unfit is named at once."""
    problems = []
    if (config.units is None) == (config.text is None):
        problems.append("give either units= or text=")
    if config.text is not None and not config.text.strip():
        problems.append("text= is empty: give a few words")
    if config.text is not None and config.lm is None:
        problems.append("text= needs lm=NAME, a language model of the run that was adapted to reading aloud")
    if config.out is None or not config.out.lower().endswith(".wav"):
        problems.append(f"out={config.out}: sound is written as WAV: write out=FILE.wav")
    if config.reference is not None:
        problems += _reference_problems(config.reference)
    raise_problems("options", problems)
    return voice_file(config)


def _units(config: VoiceConfig, saved: SavedVoice) -> tuple[np.ndarray, bool, str]:
    """The units to speak, whether runs of them are one each, and what they are."""
    if config.text is not None:
        return _units_of_text(config, saved)
    assert config.units is not None
    text = config.units
    if not _NUMBERS.fullmatch(text):
        # isfile says no to a name that is too long for one, where Path.is_file would raise.
        text = read_text(Path(text).expanduser()) if os.path.isfile(Path(text).expanduser()) else ""
    if not _NUMBERS.fullmatch(text) or not re.search(r"\d", text):
        raise UserError(f"units={config.units[:80]}: give numbers such as '12 12 7', or a file of them")
    units = np.array([int(one) for one in re.findall(r"\d+", text)], np.int64)
    if units.max() >= saved.description["num_units"]:
        raise UserError(
            f"units= holds {units.max()}; this voice knows units from 0 to {saved.description['num_units'] - 1}"
        )
    return units, False, f"{len(units)} units"


def _units_of_text(config: VoiceConfig, saved: SavedVoice) -> tuple[np.ndarray, bool, str]:
    assert config.text is not None
    assert config.lm is not None
    run = RunFolder(Path(config.run_dir), config.data_dir)
    if config.lm not in (names := run.trained_models()):
        raise UserError(f"lm={config.lm}: no such trained model in {run.root}; there are {', '.join(names) or 'none'}")
    model = SpeechTextModel(open_whole(run.final(config.lm), data=run.data))
    if model.whole.tokenizers.codec.sha256 != saved.description["units_sha256"]:
        raise UserError(f"lm={config.lm} makes other units than the voice reads: train a voice on the model's data")
    continued = model.read_aloud(config.text, seed=config.seed)
    if not len(continued.units):
        raise UserError(f"lm={config.lm} says nothing for this text: take another seed=")
    return continued.units, continued.is_deduplicated, f"units that {config.lm} made of a text"


def voice_file(config: VoiceConfig) -> Path:
    """The file of the voice that is meant; raises ``UserError`` where there is none."""
    path = Path(config.voice).expanduser() if config.voice else voice_folder(config) / STYLE_VOICE_FILE
    if not path.is_file():
        raise UserError(f"there is no voice {path}: run lst voice train run_dir={config.run_dir}, or give voice=FILE")
    return path


def _opened(config: VoiceConfig, path: Path) -> StyleVoice:
    """The voice of a file, with its vocoder; raises ``UserError`` where one of them is missing or damaged."""
    return StyleVoice(SavedVoice.load(path), vocoder=chosen_vocoder(config, path))


def chosen_vocoder(config: VoiceConfig, voice: Path) -> MelVocoder:
    """What makes sound of the mels of a voice, whose file is given; raises ``UserError`` where it is missing."""
    if config.vocoder == "trained":
        return vocoder_beside(voice)
    if config.vocoder == "griffin_lim":
        return GriffinLim()
    if config.vocoder_weights is None:
        raise UserError("vocoder=vocos needs vocoder_weights=FOLDER, the published config.yaml and model.safetensors")
    return VocosVocoder.load(Path(config.vocoder_weights).expanduser())


def _reference_problems(path: str) -> list[str]:
    return _audio_problems(path, LEAST_REFERENCE_S)


def _audio_problems(path: str, least_s: float = 0.0, most_s: float = float("inf")) -> list[str]:
    """What is wrong with an audio file, by its header."""
    try:
        header = probe_audio(path)
    except LstError as error:
        return [str(error)]
    if header.num_frames == 0:
        return [f"{path} is empty: its header says 0 samples. Record or export it again."]
    if not least_s <= header.duration_s <= most_s:
        allowed = f"{least_s:g} s or more" if least_s else f"{most_s:g} s or less: cut it into parts"
        return [f"{path} lasts {header.duration_s:.2f} s: give {allowed}"]
    return []
