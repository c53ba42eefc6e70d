"""Speech engines behind one interface, which says what each can do and speaks with it.

=============  ==================================  =================================================================
engine         where it comes from                 how it runs
=============  ==================================  =================================================================
``flite``      system package                      a process a text
``espeak-ng``  system package                      a process a text (a GPL program: it is never loaded)
``pico``       Python package ``py-nanotts``       a process a text, forked of one that has loaded it
``piper``      package ``piper-tts``, local files  a process a text (a GPL program: it is never loaded)
``kokoro``     package ``onnxruntime``, local files  in this process; eSpeak NG gives the phonemes
others         packages with an entry point        as they like; the group is ``lst.voices``
=============  ==================================  =================================================================

Each text is spoken by a process of its own. Pico needs that: it reads uninitialised memory, so its pauses depend on
what its process spoke before, and a single word of a few thousand letters keeps it busy for ever. A fresh process gives
repeatable results and can be stopped.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from lst.data.config import VOICE_GROUP
from lst.data.synthesis.engine_times import TEXT_FILE, WAV_FILE
from lst.data.synthesis.forked import call_program
from lst.errors import UserError
from lst.storage import cache_dir, sha256

# Engines that ``auto`` looks for, in order.
AUTO = ("flite", "espeak-ng", "pico")

# Time limits of an engine: over ten times what the slowest one needs, because machines may be busy.
START_LIMIT_S, LIMIT_S_PER_CHARACTER = 60.0, 0.02

ESPEAK_WORDS_PER_MINUTE = 175  # eSpeak NG's default, our rate 1.0.
# Pico clips peaks: often at its own volume of 1.0, and at 0.6 still with a raised pitch.
PICO_VOLUME = 0.4
Spoken = tuple[np.ndarray, int]


class EngineError(ValueError):
    """Why a speech engine could not speak a text."""


@dataclass(frozen=True)
class Traits:
    """What a speech engine can do.

    Attributes:
        voices: its voices in the order in which speakers take them; the value is ``f``, ``m`` or, unknown, empty.
        sample_rate_hz: of its sound.
        licence: of the program and its voices.
        install: how to get it.
        has_word_times: its library reports the times of words.
        has_rate: it can speak faster and slower.
        has_pitch: it can speak higher and lower.
    """

    voices: Mapping[str, str]
    sample_rate_hz: int
    licence: str
    install: str
    has_word_times: bool = False
    has_rate: bool = True
    has_pitch: bool = True


class Engine(Protocol):
    """A speech engine. A package adds one by an entry point of the group ``lst.voices`` that gives such an object."""

    @property
    def traits(self) -> Traits:
        """What it can do; it need not be installed."""
        ...

    def is_installed(self) -> bool:
        """Whether it can speak on this machine."""
        ...

    def has_voice(self, voice: str) -> bool:
        """Whether it has a voice, those that ``traits`` leaves out included; only called where it is installed."""
        ...

    def version(self, voice: str) -> str:
        """Names all that decides the sound beside text and settings: what was spoken by another version is not used."""
        ...

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """Speaks a text; called from several threads at a time.

        Args:
            text: one line, without marks that an engine may read as markup.
            voice: that it has.
            rate: speed as a multiple of the voice's own.
            pitch: fundamental frequency as a multiple of the voice's own.

        Returns:
            Mono float32 audio [num_samples] from -1 to 1, and its sample rate in Hz.

        Raises:
            EngineError: it cannot speak the text, and why.
        """
        ...


class Flite:
    """CMU Flite."""

    # Its kal and kal16 take no turns: their reported times drift from their sound.
    traits = Traits(
        {"slt": "f", "rms": "m", "awb": "m"}, 16_000, "BSD-like", "apt-get install flite", has_word_times=True
    )

    def is_installed(self) -> bool:
        """See ``Engine``."""
        return shutil.which("flite") is not None

    def has_voice(self, voice: str) -> bool:
        """See ``Engine``."""
        return voice in self.traits.voices or voice in answer_of("flite", "-lv").stdout.partition(":")[2].split()

    def version(self, voice: str) -> str:
        """See ``Engine``."""
        return _program_version("flite")

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """See ``Engine``."""
        stretch, shift = engine_settings("flite", rate, pitch)
        settings = ["--setf", f"duration_stretch={stretch}", "--setf", f"f0_shift={shift}"]
        return _by_process(["flite", "-voice", voice, *settings, "-f", TEXT_FILE, "-o", WAV_FILE], text)


class EspeakNg:
    """eSpeak NG."""

    traits = Traits(
        {
            "en-us+m3": "m",
            "en-us+f2": "f",
            "en-gb+m7": "m",
            "en-gb+f3": "f",
            "en-us+m1": "m",
            "en-us+f1": "f",
        },
        22_050,
        "GPL-3.0 (its audio is free)",
        "apt-get install espeak-ng",
        has_word_times=True,
    )

    def is_installed(self) -> bool:
        """See ``Engine``."""
        return shutil.which("espeak-ng") is not None

    def has_voice(self, voice: str) -> bool:
        """See ``Engine``."""
        return voice in self.traits.voices or answer_of("espeak-ng", "-q", "-v", voice, "a").returncode == 0

    def version(self, voice: str) -> str:
        """See ``Engine``."""
        return _program_version("espeak-ng")

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """See ``Engine``."""
        speed, height = engine_settings("espeak-ng", rate, pitch)
        return _by_process(["espeak-ng", "-v", voice, "-s", speed, "-p", height, "-f", TEXT_FILE, "-w", WAV_FILE], text)


class Pico:
    """SVOX Pico."""

    traits = Traits({"en-US": "f", "en-GB": "f"}, 16_000, "Apache-2.0", "pip install py-nanotts (Linux on x86-64)")

    def is_installed(self) -> bool:
        """See ``Engine``. A real import, since the package's compiled part may not fit this machine."""
        return _imports("py_nanotts")

    def has_voice(self, voice: str) -> bool:
        """See ``Engine``."""
        return voice in self.traits.voices

    def version(self, voice: str) -> str:
        """See ``Engine``."""
        return _package_version("py-nanotts")

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """See ``Engine``."""
        speed, height = engine_settings("pico", rate, pitch)
        settings = ["--speed", speed, "--pitch", height, "--volume", str(PICO_VOLUME)]
        with tempfile.TemporaryDirectory(prefix="lst-voice-") as folder:
            arguments = ["-v", voice, *settings, "-o", WAV_FILE, "--", text]
            return run_program("py_nanotts.__main__", arguments, text, Path(folder))


class Piper:
    """Piper's VITS voices: files ``NAME.onnx`` and ``NAME.onnx.json`` in the folder ``piper`` of ``voice_folder``."""

    @property
    def traits(self) -> Traits:
        """See ``Engine``."""
        return Traits(
            {path.stem: "" for path in sorted((voice_folder() / "piper").glob("*.onnx"))},
            22_050,
            "GPL-3.0 (program), each voice has its own",
            f"pip install piper-tts, and put NAME.onnx and NAME.onnx.json into {voice_folder() / 'piper'}",
            has_pitch=False,
        )

    def is_installed(self) -> bool:
        """See ``Engine``. The package is looked for, not loaded."""
        return importlib.util.find_spec("piper") is not None and bool(self.traits.voices)

    def has_voice(self, voice: str) -> bool:
        """See ``Engine``."""
        return voice in self.traits.voices

    def version(self, voice: str) -> str:
        """See ``Engine``."""
        return f"{_package_version('piper-tts')} {file_hash(self._file(voice))}"

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """See ``Engine``. Without noise, so that equal texts sound alike."""
        settings = ["--length-scale", f"{1 / rate:.4f}", "--noise-scale", "0", "--noise-w-scale", "0"]
        command = ["-m", "piper", "-m", str(self._file(voice)), *settings, "-i", TEXT_FILE, "-f", WAV_FILE]
        return _by_process([sys.executable, *command], text)

    def _file(self, voice: str) -> Path:
        return voice_folder() / "piper" / f"{voice}.onnx"


def engine_settings(engine: str, rate: float, pitch: float) -> tuple[str, str]:
    """Rate and pitch as the command and the library of a packaged engine take them."""
    if engine == "flite":
        return f"{1 / rate:.4f}", str(pitch)
    if engine == "espeak-ng":
        # 0 to 99; near 50 a step changes the frequency by about one per cent.
        return str(round(ESPEAK_WORDS_PER_MINUTE * rate)), str(min(max(round(50 + 100 * (pitch - 1)), 0), 99))
    return str(rate), str(pitch)


def voice_folder() -> Path:
    """Where files of voices lie that no package brings: ``$LST_VOICE_DIR``, by default in ``~/.cache/lst``."""
    given = os.environ.get("LST_VOICE_DIR")
    return Path(given).expanduser() if given else cache_dir().with_name("voice_files")


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@cache
def _program_version(program: str) -> str:
    answer = answer_of(program, "--version")
    found = re.search(r"\d+\.\d+[\w.+-]*", answer.stdout + answer.stderr)
    return found.group() if found else "unknown"


def answer_of(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that answers at once; its status is not looked at."""
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # A copy on the path, without its metadata.
        return "unknown"


@cache
def file_hash(path: Path) -> str:
    """The start of a file's SHA-256, computed once a process."""
    return sha256(path)[:16]


def _by_process(command: Sequence[str], text: str) -> Spoken:
    with tempfile.TemporaryDirectory(prefix="lst-voice-") as folder:
        return run_engine(command, text, Path(folder))


def run_engine(command: Sequence[str], text: str, folder: Path) -> Spoken:
    """Runs a command that speaks ``TEXT_FILE`` into ``WAV_FILE``, both in its working folder.

    Args:
        command: the command and its arguments.
        text: the content of ``TEXT_FILE``.
        folder: an empty folder, so that no file of the user's can replace a module of Piper's.

    Returns:
        The engine's audio, float32 [num_samples], and its sample rate in Hz.

    Raises:
        EngineError: the command does not start, fails, takes too long, or writes no audio.
    """
    limit_s = _text_and_limit(text, folder)
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
        raise _too_slow(limit_s) from None
    except OSError as error:
        raise EngineError(f"{error}. Is the text too long?") from error
    return _spoken(folder, answer.returncode, answer.stderr or answer.stdout)


def run_program(program: str, arguments: Sequence[str], text: str, folder: Path) -> Spoken:
    """``run_engine`` of a Python program, which is loaded once for many texts; see ``call_program``."""
    limit_s = _text_and_limit(text, folder)
    try:
        status, output = call_program(program, arguments, folder, limit_s)
    except TimeoutError:
        raise _too_slow(limit_s) from None
    except OSError as error:
        raise EngineError(str(error)) from error
    return _spoken(folder, status, output)


def _text_and_limit(text: str, folder: Path) -> float:
    """Writes the text of an engine; returns how many seconds it may take."""
    (folder / TEXT_FILE).write_text(text + "\n", encoding="utf-8")
    return START_LIMIT_S + LIMIT_S_PER_CHARACTER * len(text)


def _too_slow(limit_s: float) -> EngineError:
    return EngineError(f"it was still busy after {limit_s:.0f} s. Split the text, or remove very long words.")


def _spoken(folder: Path, status: int, output: str) -> Spoken:
    """The sound of an engine that ended with ``status``."""
    message = " ".join(output.split())[-300:]
    if status != 0:
        raise EngineError(message or f"it ended with status {status}.")
    try:
        audio_L, rate_hz = soundfile.read(folder / WAV_FILE, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise EngineError(message or str(error)) from error
    return audio_L, rate_hz


def engine_names() -> list[str]:
    """Names of all engines, installed or not: the project's own, then those of plug-ins."""
    return [*_OWN, *sorted(_plug_ins().keys() - _OWN.keys())]


def engine_of(name: str) -> Engine:
    """The engine of a name.

    Raises:
        UserError: there is none, or the plug-in cannot be loaded.
    """
    if name in _OWN:
        return _own(name)
    plug_in = _plug_ins().get(name)
    if plug_in is None:
        raise UserError(f"there is no speech engine {name!r}; allowed are {', '.join(['auto', *engine_names()])}.")
    return _loaded(plug_in)


@cache
def _own(name: str) -> Engine:
    module, _, kind = _OWN[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), kind)()
    return engine


@cache
def _loaded(plug_in: EntryPoint) -> Engine:
    try:
        found = plug_in.load()
        engine: Engine = found() if isinstance(found, type) else found
    except Exception as error:  # Whatever a foreign package raises, it is named.
        raise UserError(
            f"the speech engine {plug_in.name} of the package {plug_in.dist.name if plug_in.dist else plug_in.value} "
            f"cannot be loaded ({type(error).__name__}: {error}): update or remove the package"
        ) from error
    missing = [
        name for name in ("traits", "is_installed", "has_voice", "version", "speak") if not hasattr(engine, name)
    ]
    if missing:
        raise UserError(f"the speech engine {plug_in.name} ({plug_in.value}) lacks {', '.join(missing)}: see Engine")
    return engine


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=VOICE_GROUP)}


_HERE = "lst.data.synthesis.engines"
_OWN = {
    "flite": f"{_HERE}:Flite",
    "espeak-ng": f"{_HERE}:EspeakNg",
    "pico": f"{_HERE}:Pico",
    "piper": f"{_HERE}:Piper",
    "kokoro": "lst.data.synthesis.kokoro:Kokoro",
}
