"""Speech from text by the installed speech engines, kept in a cache.

There are three engines, in the order in which ``auto`` looks for them: Flite (system package), eSpeak NG (system
package) and SVOX Pico (Python package ``py-nanotts``). Each text is spoken by a process of its own. Pico needs that: it
reads uninitialised memory, so its pauses depend on what its process spoke before, and a single word of a few thousand
letters keeps it busy for ever. A fresh process gives repeatable results and can be stopped.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from lst.data.synthesis.engine_times import TEXT_FILE, WAV_FILE
from lst.errors import UserError, raise_problems
from lst.lazy import import_torchaudio
from lst.progress import Progress
from lst.storage import cache_dir, staged

T = TypeVar("T")
CACHE_VERSION = 1  # Raise it when a key's audio changes.
CACHE_SAMPLE_RATE_HZ = 16000

RATE_RANGE, PITCH_RANGE, GAIN_RANGE = (0.9, 1.15), (0.8, 1.25), (0.5, 0.9)
R3_ROOT = 1.2207440846057596  # The positive root of x⁴ = x + 1.

# Time limits of an engine: over ten times what the slowest one needs, because machines may be busy.
START_LIMIT_S, LIMIT_S_PER_CHARACTER = 60.0, 0.02

ESPEAK_WORDS_PER_MINUTE = 175  # eSpeak NG's default, our rate 1.0.
# Pico clips peaks: often at its own volume of 1.0, and at 0.6 still with a raised pitch.
PICO_VOLUME = 0.4


@dataclass(frozen=True)
class PseudoSpeaker:
    """A voice of an engine with its settings.

    Attributes:
        name: unique among the speakers made together.
        engine: ``"flite"``, ``"espeak-ng"`` or ``"pico"``.
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


class EngineError(ValueError):
    """Why a speech engine could not speak a text."""


def engine_settings(speaker: PseudoSpeaker) -> tuple[str, str]:
    """Rate and pitch of a speaker as the command and the library of its engine take them."""
    if speaker.engine == "flite":
        return f"{1 / speaker.rate:.4f}", str(speaker.pitch)
    if speaker.engine == "espeak-ng":
        # 0 to 99; near 50 a step changes the frequency by about one per cent.
        pitch = min(max(round(50 + 100 * (speaker.pitch - 1)), 0), 99)
        return str(round(ESPEAK_WORDS_PER_MINUTE * speaker.rate)), str(pitch)
    return str(speaker.rate), str(speaker.pitch)


def _command(speaker: PseudoSpeaker, text: str) -> list[str]:
    """The command that speaks ``TEXT_FILE`` (Pico: ``text``) of its folder into ``WAV_FILE``."""
    rate, pitch = engine_settings(speaker)
    if speaker.engine == "flite":
        settings = ["--setf", f"duration_stretch={rate}", "--setf", f"f0_shift={pitch}"]
        return ["flite", "-voice", speaker.voice, *settings, "-f", TEXT_FILE, "-o", WAV_FILE]
    if speaker.engine == "espeak-ng":
        return ["espeak-ng", "-v", speaker.voice, "-s", rate, "-p", pitch, "-f", TEXT_FILE, "-w", WAV_FILE]
    settings = ["--speed", rate, "--pitch", pitch, "--volume", str(PICO_VOLUME)]
    return [sys.executable, "-m", "py_nanotts", "-v", speaker.voice, *settings, "-o", WAV_FILE, "--", text]


# In the order of "auto". Flite's kal and kal16 are left out: their reported times drift from their sound.
_VOICES = {
    "flite": ("slt", "rms", "awb"),
    "espeak-ng": ("en-us+m3", "en-us+f2", "en-gb+m7", "en-gb+f3", "en-us+m1", "en-us+f1"),
    "pico": ("en-US", "en-GB"),
}
_INSTALL = {
    "flite": "apt-get install flite",
    "espeak-ng": "apt-get install espeak-ng",
    "pico": "pip install py-nanotts (Linux on x86-64)",
}
_ONE_PITCH_VOICES = {"rms"}


def choose_engine(requested: str) -> str:
    """The engine to use: ``requested`` itself or, for ``"auto"``, the first that is installed.

    Raises:
        UserError: ``requested`` is no engine, or it is not installed (for ``"auto"``: no engine is).
    """
    allowed = ", ".join(["auto", *_VOICES])
    if requested != "auto" and requested not in _VOICES:
        raise UserError(f"there is no speech engine {requested!r}; allowed are {allowed}.")
    for engine in _VOICES if requested == "auto" else [requested]:
        if _is_installed(engine):
            return engine
    missing = "no speech engine is" if requested == "auto" else f"the speech engine {requested} is not"
    raise UserError(
        f"{missing} installed. Install one of these, or use your own recordings with corpus=PATH:",
        *(f"  - {engine}: {install}" for engine, install in _INSTALL.items()),
        f"Allowed as speech engine are {allowed}.",
    )


def _is_installed(engine: str) -> bool:
    if engine != "pico":
        return shutil.which(engine) is not None
    try:
        # A real import, since the package's compiled part may not fit this machine.
        importlib.import_module("py_nanotts")
    except ImportError:
        return False
    return True


@cache
def _engine_version(engine: str) -> str:
    """The engine's version. It is part of the cache's keys, because versions may sound different."""
    if engine == "pico":
        try:
            return version("py-nanotts")
        except PackageNotFoundError:  # A copy on the path, without its metadata.
            return "unknown"
    answer = subprocess.run([engine, "--version"], capture_output=True, text=True, errors="replace", timeout=30)
    found = re.search(r"\d+\.\d+[\w.+-]*", answer.stdout + answer.stderr)
    return found.group() if found else "unknown"


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
    if engine not in _VOICES:
        raise UserError(f"there is no speech engine {engine!r}; allowed are {', '.join(_VOICES)}.")
    if num_speakers < 1 or seed < 0:
        raise UserError(f"num_speakers={num_speakers}, seed={seed}: use at least 1 speaker and a seed of 0 or greater.")
    voices = _VOICES[engine]
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
        pitch = 1.0 if voice in _ONE_PITCH_VOICES else pitch
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
        with tempfile.TemporaryDirectory(prefix="lst-voice-") as folder:
            audio_L, engine_rate_hz = run_engine(_command(speaker, said), said, Path(folder))
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


def run_engine(command: Sequence[str], text: str, folder: Path) -> tuple[np.ndarray, int]:
    """Runs a command that speaks ``TEXT_FILE`` into ``WAV_FILE``, both in its working folder.

    Args:
        command: the command and its arguments.
        text: the content of ``TEXT_FILE``.
        folder: an empty folder, so that no file of the user's can replace a module of Pico's.

    Returns:
        The engine's audio, float32 [num_samples], and its sample rate in Hz.

    Raises:
        EngineError: the command does not start, fails, takes too long, or writes no audio.
    """
    (folder / TEXT_FILE).write_text(text + "\n", encoding="utf-8")
    limit_s = START_LIMIT_S + LIMIT_S_PER_CHARACTER * len(text)
    try:
        answer = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        message = f"it was still busy after {limit_s:.0f} s. Split the text, or remove very long words."
        raise EngineError(message) from None
    except OSError as error:
        raise EngineError(f"{error}. Is the text too long?") from error
    message = " ".join((answer.stderr or answer.stdout).split())[-300:]
    if answer.returncode != 0:
        raise EngineError(message or f"it ended with status {answer.returncode}.")
    try:
        audio_L, rate_hz = soundfile.read(folder / WAV_FILE, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise EngineError(message or str(error)) from error
    return audio_L, rate_hz


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
        "engine_version": _engine_version(choose_engine(speaker.engine)),
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
