"""Speech from text by the speech engines (``engines``) in the voices of pseudo-speakers, kept in a cache."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from lst.data.synthesis.engines import AUTO, EngineError, engine_names, engine_of
from lst.errors import UserError, raise_problems
from lst.lazy import import_torchaudio
from lst.progress import Progress
from lst.storage import cache_dir, staged

T = TypeVar("T")
CACHE_VERSION = 1  # Raise it when a key's audio changes.
CACHE_SAMPLE_RATE_HZ = 16000

RATE_RANGE, PITCH_RANGE, GAIN_RANGE = (0.9, 1.15), (0.8, 1.25), (0.5, 0.9)
R3_ROOT = 1.2207440846057596  # The positive root of x⁴ = x + 1.
# Largest magnitude of a speaker that is a voice as it is.
PLAIN_GAIN = 0.7
_ONE_PITCH_VOICES = {"rms"}


@dataclass(frozen=True)
class PseudoSpeaker:
    """A voice of an engine with its settings.

    Attributes:
        name: unique among the speakers made together.
        engine: its name; see ``engines``.
        voice: the engine's own name of the voice.
        rate: speed as a multiple of the voice's own; 1.15 takes about 1/1.15 of the time.
        pitch: fundamental frequency as a multiple of the voice's own; Flite's rms has one pitch and ignores it.
        gain: largest magnitude of the samples of each text, above 0 and at most 1.
    """

    name: str
    engine: str
    voice: str
    rate: float
    pitch: float
    gain: float


def choose_engine(requested: str) -> str:
    """The engine to use: ``requested`` itself or, for ``"auto"``, the first that is installed.

    Raises:
        UserError: ``requested`` is no engine, or it is not installed (for ``"auto"``: no engine is).
    """
    for engine in AUTO if requested == "auto" else [requested]:
        if engine_of(engine).is_installed():
            return engine
    missing = "no speech engine is" if requested == "auto" else f"the speech engine {requested} is not"
    raise UserError(
        f"{missing} installed. Install one of these, or use your own recordings with corpus=PATH:",
        *(
            f"  - {engine}: {engine_of(engine).traits.install}"
            for engine in dict.fromkeys([*AUTO, requested])
            if engine != "auto"
        ),
        f"Allowed as speech engine are {', '.join(['auto', *engine_names()])}.",
    )


def named_speaker(name: str) -> PseudoSpeaker:
    """A voice as it is, from ``ENGINE:VOICE``, or from ``ENGINE`` for its first one.

    Raises:
        UserError: there is no such engine or voice here.
    """
    wanted, _, voice = name.partition(":")
    found = choose_engine(wanted)
    engine = engine_of(found)
    voices = list(engine.traits.voices)
    voice = voice or next(iter(voices), "")
    if not voice or not engine.has_voice(voice):
        known = ", ".join(voices) or "none"
        raise UserError(f"the speech engine {found} has no voice {voice!r} here; it has {known}")
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{found}-{voice}")
    return PseudoSpeaker(slug, found, voice, 1.0, 1.0, PLAIN_GAIN)


def named_speakers(names: Sequence[str], option: str) -> list[PseudoSpeaker]:
    """``named_speaker`` of each name.

    Args:
        names: of an option.
        option: its key, for errors.

    Raises:
        UserError: ``ProblemsError`` lists all voices that are not here, and names that mean one voice.
    """
    found, problems = dict[PseudoSpeaker, str](), list[str]()
    for name in names:
        try:
            speaker = named_speaker(name)
        except UserError as error:
            problems.append(f"{name}: {' '.join(str(error).split())}")
            continue
        if speaker in found:
            problems.append(f"{name}: it is the voice of {found[speaker]}: give each once")
        found.setdefault(speaker, name)
    raise_problems(option, problems)
    return list(found)


def pseudo_speakers(engine: str, num_speakers: int, seed: int) -> list[PseudoSpeaker]:
    """Makes speakers that differ in voice, rate, pitch and gain; with more speakers the first ones stay the same.

    Voices take turns. Within a voice, rate, pitch and gain follow Roberts' R3 sequence (the golden ratio's, in three
    dimensions) from a point that the seed draws. Unlike random draws, its points keep apart.

    Args:
        engine: a name that ``choose_engine`` returns; the engine need not be installed.
        num_speakers: at least 1.
        seed: of the starting points, at least 0.

    Raises:
        UserError: an argument is out of range.
    """
    traits = engine_of(engine).traits
    voices = list(traits.voices)
    if not voices:
        raise UserError(f"the speech engine {engine} has no voice here: {traits.install}")
    if num_speakers < 1 or seed < 0:
        raise UserError(f"num_speakers={num_speakers}, seed={seed}: use at least 1 speaker and a seed of 0 or greater.")
    generator = random.Random(seed)
    starts = [[generator.random() for _ in range(3)] for _ in voices]
    speakers = []
    for index in range(num_speakers):
        turn, voice_index = divmod(index, len(voices))
        voice = voices[voice_index]
        rate, pitch, gain = (
            round(low + (high - low) * ((start + turn / R3_ROOT**power) % 1.0), 2)
            for power, start, (low, high) in zip(
                (1, 2, 3), starts[voice_index], (RATE_RANGE, PITCH_RANGE, GAIN_RANGE), strict=True
            )
        )
        rate = rate if traits.has_rate else 1.0
        pitch = pitch if traits.has_pitch and voice not in _ONE_PITCH_VOICES else 1.0
        speakers.append(PseudoSpeaker(f"{engine}-{index:03d}", engine, voice, rate, pitch, gain))
    return speakers


def spoken_text(text: str) -> str:
    """The text for the engines: one line, without the characters that they read as markup.

    >>> spoken_text("Hello <volume level='0'> you!")
    "Hello volume level='0' you!"
    """
    # Pico reads <…> and eSpeak NG [[…]] as markup; a command's arguments cannot hold control characters.
    return " ".join(re.sub(r"[<>\[\]\x00-\x1f\x7f]", " ", text).split())


def synthesize(text: str, speaker: PseudoSpeaker, sample_rate_hz: int = CACHE_SAMPLE_RATE_HZ) -> np.ndarray:
    """Speaks ``text``.

    Args:
        text: about a minute of speech at most (150 words), which every engine takes.
        speaker: the voice.
        sample_rate_hz: of the result; the engine's rate (Flite and Pico 16000, eSpeak NG 22050) is resampled to it.

    Returns:
        Mono float32 audio [num_samples] from -1 to 1, whose largest magnitude is ``speaker.gain``.

    Raises:
        UserError: the text is empty, the engine is missing or failed, or the speaker's numbers are out of range.
    """
    said = spoken_text(text)
    if not said:
        raise UserError(f"there is nothing to speak in the text {text!r}: remove it, or fill it in.")
    choose_engine(speaker.engine)
    if not (0.2 <= speaker.rate <= 5 and 0.5 <= speaker.pitch <= 2 and 0 < speaker.gain <= 1):
        raise UserError(f"{speaker}: rate must be 0.2 to 5, pitch 0.5 to 2, gain above 0 and at most 1.")
    try:
        audio_L, engine_rate_hz = engine_of(speaker.engine).speak(said, speaker.voice, speaker.rate, speaker.pitch)
    except EngineError as error:
        raise _failure(said, speaker, str(error)) from error
    return finished_sound(audio_L, engine_rate_hz, said, speaker, sample_rate_hz)


def finished_sound(
    audio_L: np.ndarray,
    engine_rate_hz: int,
    text: str,
    speaker: PseudoSpeaker,
    sample_rate_hz: int = CACHE_SAMPLE_RATE_HZ,
) -> np.ndarray:
    """An engine's sound, float32 [num_samples], at another rate and with the speaker's largest magnitude.

    Raises:
        UserError: it is silent.
    """
    if engine_rate_hz != sample_rate_hz:
        audio_L = _resample(audio_L, engine_rate_hz, sample_rate_hz)
    peak = float(np.abs(audio_L).max(initial=0.0))
    if peak < 1e-3:
        raise _failure(text, speaker, "it made no sound; is there a word in the text?")
    return (audio_L * (speaker.gain / peak)).astype(np.float32)


def _failure(text: str, speaker: PseudoSpeaker, reason: str) -> UserError:
    start = text if len(text) <= 60 else text[:60].rstrip() + "…"
    return UserError(f"{speaker.engine} (voice {speaker.voice}) could not speak {start!r}: {reason}")


def _resample(audio_L: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    import torch

    torchaudio = import_torchaudio()
    with torch.inference_mode():
        resampled: np.ndarray = torchaudio.functional.resample(torch.from_numpy(audio_L), from_hz, to_hz).numpy()
    return resampled


def default_cache_dir() -> Path:
    """The folder ``voices`` in ``$LST_CACHE_DIR``, by default in ``~/.cache/lst``."""
    return cache_dir().with_name("voices")


def _cache_path(text: str, speaker: PseudoSpeaker, folder: Path) -> Path:
    key = {
        "cache": CACHE_VERSION,
        "engine_version": engine_of(choose_engine(speaker.engine)).version(speaker.voice),
        "speaker": asdict(speaker),
        "text": text,
    }
    return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}.flac"


def _is_whole(path: Path) -> bool:
    """Whether ``path`` holds audio up to its end. Only the last block is decoded, which is fast."""
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(file.frames - 1)
            return len(file.read(1)) == 1 and file.samplerate == CACHE_SAMPLE_RATE_HZ
    except (OSError, RuntimeError):  # soundfile's own errors are RuntimeErrors.
        return False


def synthesize_cached(text: str, speaker: PseudoSpeaker, folder: Path) -> Path:
    """Speaks ``text`` unless the cache in ``folder`` has it already.

    Returns:
        A FLAC file, 16 kHz, mono, 16 bits, named by a hash of the text, the speaker and the engine's version. A file
        that is empty, cut off or unreadable is made again.

    Raises:
        UserError: as ``synthesize``, or the disk is full.
    """
    path = _cache_path(text, speaker, folder)
    if not _is_whole(path):
        write_cached(path, synthesize(text, speaker, CACHE_SAMPLE_RATE_HZ))
    return path


def write_cached(path: Path, audio_L: np.ndarray) -> None:
    """Writes sound of 16 kHz, float32 [num_samples], to a file of the cache."""
    with staged(path) as temporary:
        soundfile.write(temporary, audio_L, CACHE_SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")


def uncached(jobs: Sequence[tuple[str, PseudoSpeaker]], folder: Path) -> dict[Path, tuple[str, PseudoSpeaker]]:
    """The jobs whose sound is not in the cache, by the file that it belongs into: equal jobs are there once."""
    found = {_cache_path(text, speaker, folder): (text, speaker) for text, speaker in jobs}
    return {path: job for path, job in found.items() if not _is_whole(path)}


def synthesize_many(jobs: Sequence[tuple[str, PseudoSpeaker]], folder: Path, num_workers: int) -> list[Path]:
    """Speaks many texts in parallel, with progress; texts in the cache are not spoken again.

    The engines run in processes of their own, so threads are enough to use every core.

    Args:
        jobs: pairs of text and speaker; repeated pairs are spoken once.
        folder: the cache, as for ``synthesize_cached``.
        num_workers: engines that run at a time, at least 1.

    Returns:
        One file a job, in the order of ``jobs``.

    Raises:
        UserError: before work starts, texts are empty or an engine is missing; later, an engine failed. Then the error
            quotes the start of its text, and texts that were spoken before stay in the cache.
    """
    if num_workers < 1:
        raise UserError(f"num_workers={num_workers}: use at least 1.")
    empty = [f"text {index} is empty" for index, (text, _) in enumerate(jobs) if not text.strip()]
    raise_problems("texts to speak", empty, "Remove them, or fill them in.")
    paths = [_cache_path(text, speaker, folder) for text, speaker in jobs]
    missing = uncached(jobs, folder)
    speak_each(lambda path: synthesize_cached(*missing[path], folder), list(missing), num_workers, "synthesize speech")
    return paths


def speak_each(speak: Callable[[Path], T], paths: Sequence[Path], num_workers: int, label: str) -> list[T]:
    """Calls ``speak`` for each path in threads, with progress; the first exception stops the rest.

    >>> speak_each(lambda path: path.name, [Path("a/b")], 2, "speak")
    ['b']
    """
    if not paths:
        return []
    executor = ThreadPoolExecutor(min(num_workers, len(paths)))
    try:
        with Progress(len(paths), label, "text") as progress:
            futures = [executor.submit(speak, path) for path in paths]
            for future in as_completed(futures):
                future.result()
                progress.advance()
    finally:
        # After a failure or Ctrl-C, only the texts in work are finished.
        executor.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]
