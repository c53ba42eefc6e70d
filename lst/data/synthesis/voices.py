"""Speech from text with a voice that a package or the system carries, kept in a cache.

Three engines, in the order in which ``auto`` looks for them: Flite (system package), eSpeak NG (system package) and
SVOX Pico (Python package ``py-nanotts``). Each runs as a command of its own, once for each text. For Pico that is a
must: it reads memory that it never set, so in a process which has spoken before, its pauses depend on what lay there,
and a single word of a few thousand letters keeps it busy for ever. A fresh process is repeatable and can be stopped.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
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

import numpy as np
import soundfile

from lst.errors import UserError, raise_problems
from lst.lazy import import_torchaudio
from lst.progress import Progress
from lst.storage import staged

CACHE_VERSION = 1  # Raise it when the same key would stand for different audio.
CACHE_SAMPLE_RATE_HZ = 16000

RATE_RANGE = (0.9, 1.15)
PITCH_RANGE = (0.8, 1.25)
GAIN_RANGE = (0.5, 0.9)
R3_ROOT = 1.2207440846057596  # The positive root of x⁴ = x + 1.

# An engine that takes longer is stopped; both are over ten times what the slowest needs, for the sake of busy machines.
START_LIMIT_S = 60.0
LIMIT_S_PER_CHARACTER = 0.02

ESPEAK_WORDS_PER_MINUTE = 175  # Its default, our rate 1.0.
# Pico cuts peaks off, at its own volume 1.0 often and at 0.6 still where the pitch is raised.
PICO_VOLUME = 0.4


@dataclass(frozen=True)
class PseudoSpeaker:
    """One way for an engine to sound.

    Args:
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


@dataclass(frozen=True)
class _Engine:
    """What has to be known of an engine; ``command`` makes argv from (speaker, text, text file, WAV file)."""

    voices: tuple[str, ...]
    install: str
    command: Callable[[PseudoSpeaker, str, Path, Path], list[str]]


def _flite_command(speaker: PseudoSpeaker, text: str, text_path: Path, wav_path: Path) -> list[str]:
    stretch, shift = f"duration_stretch={1 / speaker.rate:.4f}", f"f0_shift={speaker.pitch}"
    settings = ["--setf", stretch, "--setf", shift]
    return ["flite", "-voice", speaker.voice, *settings, "-f", str(text_path), "-o", str(wav_path)]


def espeak_pitch(speaker: PseudoSpeaker) -> int:
    """The pitch as eSpeak NG takes it: 0 to 99 around 50; near 50 a step is about one per cent of the frequency."""
    return min(max(round(50 + 100 * (speaker.pitch - 1)), 0), 99)


def _espeak_command(speaker: PseudoSpeaker, text: str, text_path: Path, wav_path: Path) -> list[str]:
    words_per_minute = round(ESPEAK_WORDS_PER_MINUTE * speaker.rate)
    settings = ["-s", str(words_per_minute), "-p", str(espeak_pitch(speaker))]
    return ["espeak-ng", "-v", speaker.voice, *settings, "-f", str(text_path), "-w", str(wav_path)]


def _pico_command(speaker: PseudoSpeaker, text: str, text_path: Path, wav_path: Path) -> list[str]:
    settings = ["--speed", str(speaker.rate), "--pitch", str(speaker.pitch), "--volume", str(PICO_VOLUME)]
    return [sys.executable, "-m", "py_nanotts", "-v", speaker.voice, *settings, "-o", str(wav_path), "--", text]


# The order is that of "auto". Left out: Flite's kal and kal16, whose reported times drift from their sound.
_ENGINES = {
    "flite": _Engine(("slt", "rms", "awb"), "apt-get install flite", _flite_command),
    "espeak-ng": _Engine(
        ("en-us+m3", "en-us+f2", "en-gb+m7", "en-gb+f3", "en-us+m1", "en-us+f1"),
        "apt-get install espeak-ng",
        _espeak_command,
    ),
    "pico": _Engine(("en-US", "en-GB"), "pip install py-nanotts (Linux on x86-64)", _pico_command),
}
_ONE_PITCH_VOICES = {"rms"}


def choose_engine(requested: str) -> str:
    """Returns the engine to use: ``requested`` itself or, for ``"auto"``, the first that is installed.

    Raises:
        UserError: ``requested`` is no engine, or it (for ``"auto"``: every engine) is not installed.
    """
    if requested != "auto" and requested not in _ENGINES:
        raise UserError(f"there is no speech engine {requested!r}; allowed are auto, {', '.join(_ENGINES)}.")
    candidates = list(_ENGINES) if requested == "auto" else [requested]
    for engine in candidates:
        if _is_installed(engine):
            return engine
    ways = "".join(f"\n  - {engine}: {_ENGINES[engine].install}" for engine in _ENGINES)
    missing = (
        "no speech engine is installed" if requested == "auto" else f"the speech engine {requested} is not installed"
    )
    raise UserError(
        f"{missing}. Install one of these, or use your own recordings with corpus=PATH:{ways}\n"
        f"Allowed as speech engine are auto, {', '.join(_ENGINES)}."
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
    """The engine's version; a part of the cache's keys, for another version may sound different."""
    if engine == "pico":
        try:
            return version("py-nanotts")
        except PackageNotFoundError:  # A copy on the path, without its metadata.
            return "unknown"
    answer = subprocess.run([engine, "--version"], capture_output=True, text=True, errors="replace", timeout=30)
    found = re.search(r"\d+\.\d+[\w.+-]*", answer.stdout + answer.stderr)
    return found.group() if found else "unknown"


def pseudo_speakers(engine: str, num_speakers: int, seed: int) -> list[PseudoSpeaker]:
    """Makes speakers that differ in voice, rate, pitch and gain; the first ones stay the same when more are asked for.

    Voices take turns. Within a voice, the other three follow Roberts' R3 sequence (the golden ratio's, in three
    dimensions) from a point that the seed draws: unlike random draws, its points keep apart.

    Args:
        engine: as ``choose_engine`` returns it; it need not be installed.
        num_speakers: at least 1.
        seed: of the starting points, 0 or greater.

    Raises:
        UserError: an argument is out of range.
    """
    if engine not in _ENGINES:
        raise UserError(f"there is no speech engine {engine!r}; allowed are {', '.join(_ENGINES)}.")
    if num_speakers < 1 or seed < 0:
        raise UserError(f"num_speakers={num_speakers}, seed={seed}: use at least 1 speaker and a seed of 0 or greater.")
    voices = _ENGINES[engine].voices
    generator = random.Random(seed)
    starts = [[generator.random() for _ in range(3)] for _ in voices]
    speakers = []
    for index in range(num_speakers):
        turn, voice_index = divmod(index, len(voices))
        rate, pitch, gain = (
            round(low + (high - low) * ((start + turn / R3_ROOT**power) % 1.0), 2)
            for power, start, (low, high) in zip(
                (1, 2, 3), starts[voice_index], (RATE_RANGE, PITCH_RANGE, GAIN_RANGE), strict=True
            )
        )
        voice = voices[voice_index]
        pitch = 1.0 if voice in _ONE_PITCH_VOICES else pitch
        speakers.append(PseudoSpeaker(f"{engine}-{index:03d}", engine, voice, rate, pitch, gain))
    return speakers


def spoken_text(text: str) -> str:
    """What the engines are given: one line, without the characters that they take as commands."""
    # Pico takes <…> and eSpeak NG [[…]] as commands; control characters cannot be in a command's arguments.
    return " ".join(re.sub(r"[<>\[\]\x00-\x1f\x7f]", " ", text).split())


def synthesize(text: str, speaker: PseudoSpeaker, sample_rate_hz: int = CACHE_SAMPLE_RATE_HZ) -> np.ndarray:
    """Speaks ``text``.

    Args:
        text: of any length an engine takes; a minute of speech, say, about 150 words, is safe.
        speaker: who speaks.
        sample_rate_hz: of the result; an engine's own rate (Flite and Pico 16000, eSpeak NG 22050) is resampled to it.

    Returns:
        Mono float32 audio [samples] in -1 to 1, whose largest magnitude is ``speaker.gain``.

    Raises:
        UserError: the text is empty, the engine is missing or failed, or the speaker's numbers are out of range.
    """
    said = spoken_text(text)
    if not said:
        raise UserError(f"there is nothing to speak in the text {text!r}: remove it, or fill it in.")
    choose_engine(speaker.engine)
    if not (0.2 <= speaker.rate <= 5 and 0.5 <= speaker.pitch <= 2 and 0 < speaker.gain <= 1):
        raise UserError(f"{speaker}: rate must be 0.2 to 5, pitch 0.5 to 2, gain above 0 and at most 1.")
    audio_L, engine_rate_hz = _run_engine(said, speaker)
    if engine_rate_hz != sample_rate_hz:
        audio_L = _resample(audio_L, engine_rate_hz, sample_rate_hz)
    peak = float(np.abs(audio_L).max(initial=0.0))
    if peak < 1e-3:
        raise _failure(said, speaker, "it made no sound; is there a word in the text?")
    return (audio_L * (speaker.gain / peak)).astype(np.float32)


def _failure(text: str, speaker: PseudoSpeaker, reason: str) -> UserError:
    start = text if len(text) <= 60 else text[:60].rstrip() + "…"
    return UserError(f"{speaker.engine} (voice {speaker.voice}) could not speak {start!r}: {reason}")


def _run_engine(text: str, speaker: PseudoSpeaker) -> tuple[np.ndarray, int]:
    """The engine's audio, float32 [samples], and its sample rate in Hz."""
    limit_s = START_LIMIT_S + LIMIT_S_PER_CHARACTER * len(text)
    with tempfile.TemporaryDirectory(prefix="lst-voice-") as folder:
        text_path, wav_path = Path(folder, "text.txt"), Path(folder, "speech.wav")
        text_path.write_text(text + "\n", encoding="utf-8")
        command = _ENGINES[speaker.engine].command(speaker, text, text_path, wav_path)
        try:
            # In the empty folder no file of the user's can stand in for a module of Pico's.
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
            reason = f"it was still busy after {limit_s:.0f} s. Split the text, or remove very long words."
            raise _failure(text, speaker, reason) from None
        except OSError as error:
            raise _failure(text, speaker, f"{error}. Is the text too long?") from error
        message = " ".join((answer.stderr or answer.stdout).split())[-300:]
        if answer.returncode != 0:
            raise _failure(text, speaker, message or f"it ended with status {answer.returncode}.")
        try:
            audio_L, rate_hz = soundfile.read(wav_path, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise _failure(text, speaker, message or str(error)) from error
    return audio_L, rate_hz


def _resample(audio_L: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    import torch

    torchaudio = import_torchaudio()
    with torch.inference_mode():
        resampled: np.ndarray = torchaudio.functional.resample(torch.from_numpy(audio_L), from_hz, to_hz).numpy()
    return resampled


def default_cache_dir() -> Path:
    """The folder ``voices`` in ``$LST_CACHE_DIR`` or, where that is not set, in ``~/.cache/lst``."""
    root = os.environ.get("LST_CACHE_DIR")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "lst") / "voices"


def _cache_path(text: str, speaker: PseudoSpeaker, cache_dir: Path) -> Path:
    key = {
        "cache": CACHE_VERSION,
        "engine_version": _engine_version(choose_engine(speaker.engine)),
        "speaker": asdict(speaker),
        "text": text,
    }
    return cache_dir / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()}.flac"


def _is_whole(path: Path) -> bool:
    """Whether ``path`` holds audio up to its end; only its last block is decoded, so thousands are checked fast."""
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(file.frames - 1)
            return len(file.read(1)) == 1 and file.samplerate == CACHE_SAMPLE_RATE_HZ
    except (OSError, RuntimeError):  # soundfile's own errors are RuntimeErrors.
        return False


def synthesize_cached(text: str, speaker: PseudoSpeaker, cache_dir: Path) -> Path:
    """Speaks ``text`` unless ``cache_dir`` has it already.

    Returns:
        A FLAC file, 16 kHz, mono, 16 bits, named by a hash of the text, the speaker and the engine's version. One that
        is empty, cut off or unreadable is made again.

    Raises:
        UserError: as ``synthesize``, or the disk is full.
    """
    path = _cache_path(text, speaker, cache_dir)
    if not _is_whole(path):
        audio_L = synthesize(text, speaker, CACHE_SAMPLE_RATE_HZ)
        with staged(path) as temporary:
            soundfile.write(temporary, audio_L, CACHE_SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return path


def synthesize_many(jobs: Sequence[tuple[str, PseudoSpeaker]], cache_dir: Path, num_workers: int) -> list[Path]:
    """Speaks many texts at once, with progress; what the cache has is not spoken again.

    The work is done in the engines' own processes, so threads are enough to use every core, and no caller needs the
    guard around its main module that a pool of processes asks for.

    Args:
        jobs: pairs of text and speaker; a pair may come more than once and is then spoken once.
        cache_dir: as for ``synthesize_cached``.
        num_workers: how many engines run at a time, at least 1.

    Returns:
        One file a job, in the order of ``jobs``.

    Raises:
        UserError: texts are empty, an engine is missing (both before work starts), or one failed, naming its text's
            start; what was spoken until then stays in the cache.
    """
    if num_workers < 1:
        raise UserError(f"num_workers={num_workers}: use at least 1.")
    empty = [f"text {index} is empty" for index, (text, _) in enumerate(jobs) if not text.strip()]
    raise_problems("texts to speak", empty, "Remove them, or fill them in.")
    paths = [_cache_path(text, speaker, cache_dir) for text, speaker in jobs]
    # By path, since two workers must not write one file.
    missing = {path: job for path, job in zip(paths, jobs, strict=True) if not _is_whole(path)}
    if not missing:
        return paths
    executor = ThreadPoolExecutor(min(num_workers, len(missing)))
    try:
        with Progress(len(missing), "synthesize speech", "text") as progress:
            futures = [executor.submit(synthesize_cached, *job, cache_dir) for job in missing.values()]
            for future in as_completed(futures):
                future.result()
                progress.advance()
    finally:
        # After a failure or Ctrl-C only the texts being spoken are finished.
        executor.shutdown(wait=True, cancel_futures=True)
    return paths
