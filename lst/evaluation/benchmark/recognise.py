"""What a recogniser hears in the clips of a benchmark, and the word errors of each.

Transcripts are kept in the cache by the hash of the audio, so a build that was stopped hears no clip twice. Synthesised
speech is not what recognisers were trained on, and non-words cannot be heard right: their errors say which clips to
listen to and compare voices; they leave no item out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from lst import storage
from lst.data.alignment.words import word_key
from lst.data.audio import read_audio
from lst.data.text import normalise, spaced, word_readings
from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.parallel import ordered_map
from lst.progress import Progress

INSTALL_WHISPER = "pip install 'latent-speech-text[whisper]'"


class Recogniser(Protocol):
    """Hears English speech.

    Attributes:
        name: program, version and model, as a card states them.
    """

    name: str

    def transcribe(self, waveform: np.ndarray) -> str:
        """The words of a waveform, float32 [num_samples] at 16 kHz, mono."""
        ...


class Transcript(TypedDict):
    """A file of the cache: what a recogniser heard."""

    recogniser: str
    heard: str


@dataclass(frozen=True)
class RecogniserChoice:
    """Which recogniser hears the clips; passed to other processes, which load it.

    Attributes:
        kind: of ``benchmark.recognise``, not ``none``.
        weights: folder of a model that is no package's.
    """

    kind: str
    weights: str = ""


class Pocketsphinx:
    """pocketsphinx with the English model and the trigrams of its package (BSD-2)."""

    def __init__(self) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "the recogniser", "pip install pocketsphinx")
        self.name = f"pocketsphinx {_version('pocketsphinx')}, its packaged English model"
        self._decoder = pocketsphinx.Decoder(loglevel="FATAL")

    def transcribe(self, waveform: np.ndarray) -> str:
        """See ``Recogniser``."""
        samples = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype("<i2")
        # Else the mean of the clip before would be taken off this one.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""


class FasterWhisper:
    """A Whisper model in the format of CTranslate2, from a local folder (MIT)."""

    def __init__(self, weights: str) -> None:
        faster_whisper = import_or_explain("faster_whisper", "the recogniser faster-whisper", INSTALL_WHISPER)
        folder = Path(storage.expanded(weights))
        if not (folder / "model.bin").exists():
            raise UserError(
                f"the folder of the recogniser's weights, {weights}, holds no model.bin: give one with a Whisper model "
                "in the format of CTranslate2"
            )
        digest = storage.sha256(folder / "model.bin")[:12]
        self.name = f"faster-whisper {_version('faster-whisper')}, {folder.name} ({digest}…)"
        self._model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def transcribe(self, waveform: np.ndarray) -> str:
        """See ``Recogniser``."""
        segments, _ = self._model.transcribe(waveform, language="en", beam_size=5, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


@cache
def load_recogniser(choice: RecogniserChoice) -> Recogniser:
    """The recogniser, loaded once a process; raises ``UserError`` where its package or its model is missing."""
    return Pocketsphinx() if choice.kind == "pocketsphinx" else FasterWhisper(choice.weights)


def hear(files: Mapping[str, Path], choice: RecogniserChoice, num_workers: int) -> dict[str, str]:
    """What the recogniser hears in files of audio, by the hash of each.

    Args:
        files: by SHA-256 of their content.
        choice: the recogniser.
        num_workers: processes.
    """
    name = load_recogniser(choice).name
    with Progress(len(files), f"hear clips by {choice.kind}", unit="clip") as progress:
        heard: dict[str, str] = {}
        for digest, text in ordered_map(partial(_heard, choice, name), files.items(), num_workers):
            heard[digest] = text
            progress.advance()
    return heard


def _heard(choice: RecogniserChoice, name: str, file: tuple[str, Path]) -> tuple[str, str]:
    digest, path = file
    place = storage.cache_dir().with_name("transcripts") / f"{storage.fingerprint([digest, name])}.json"
    try:
        return digest, storage.read_json(place, Transcript, "the transcript", "It is made again.")["heard"]
    except UserError:
        text = load_recogniser(choice).transcribe(read_audio(path))
        storage.write_json(place, {"recogniser": name, "heard": text})
        return digest, text


def spoken_keys(text: str, language: str = "") -> list[str]:
    """The words of a text as they are compared: read aloud, in lower case, without punctuation.

    Args:
        text: the text.
        language: of it; empty for English. Numbers of others are read as ``foreign_readings`` does.

    >>> spoken_keys("Well-known: 2 hats!")
    ['well', 'known', 'two', 'hats']
    """
    if language:
        pieces = word_readings(spaced(text, language), language=language)
        return [token for piece in pieces for token in next(iter(piece.readings), ())]
    return [key for word in normalise(text).replace("-", " ").split() if (key := word_key(word))]


def word_errors(wanted: Sequence[Any], heard: Sequence[Any]) -> int:
    """Fewest substitutions, deletions and insertions that turn one sequence into the other.

    >>> word_errors(["a", "cat", "sat"], ["the", "cat", "sat", "up"])
    2
    """
    row = list(range(len(heard) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]
