"""Recognisers of speech: what is said in a waveform, and how sure that is.

Packages bring further ones by the entry point ``lst.recognisers``: a function that takes the folder of weights (empty
where none is given) and returns a ``Recogniser``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lst import storage
from lst.data.config import RECOGNISER_GROUP
from lst.data.languages import ENGLISH, language_name
from lst.errors import UserError
from lst.lazy import import_or_explain

INSTALL_WHISPER = "pip install 'latent-speech-text[whisper]'"
# Languages that Whisper calls otherwise.
_WHISPER_CODES = {"nb": "no", "jv": "jw"}


class Hearing(NamedTuple):
    """What was heard, and how sure that is, from 0 to 1."""

    text: str
    confidence: float


class Recogniser(Protocol):
    """Hears speech.

    Attributes:
        name: program, version and model, as a card states them. What is heard depends on nothing else.
    """

    name: str

    def transcribe(self, waveform: np.ndarray) -> str:
        """The words of a waveform, float32 [num_samples] at 16 kHz, mono."""
        ...

    def hear(self, waveform: np.ndarray) -> Hearing:
        """The words of a waveform with their confidence; comparable within one recogniser only."""
        ...


@dataclass(frozen=True)
class RecogniserChoice:
    """Which recogniser hears; passed to other processes, which load it.

    Attributes:
        kind: ``pocketsphinx``, ``faster-whisper``, or the name of a package's.
        weights: folder of a model that is no package's.
        language: code of the speech's language; empty for English.
    """

    kind: str
    weights: str = ""
    language: str = ""


class Pocketsphinx:
    """pocketsphinx with the English model, the dictionary and the trigrams of its package (BSD-2).

    Args:
        files: in place of the package's: ``dict``, ``lm``.
    """

    def __init__(self, **files: str) -> None:
        pocketsphinx = import_or_explain("pocketsphinx", "the recogniser", "pip install pocketsphinx")
        self.name = f"pocketsphinx {version('pocketsphinx')}, its packaged English model"
        self._decoder = pocketsphinx.Decoder(loglevel="FATAL", **files)

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

    def hear(self, waveform: np.ndarray) -> Hearing:
        """See ``Recogniser``: the mean posterior probability of the words, each counted by its length."""
        text = self.transcribe(waveform)
        words = [segment for segment in self._decoder.seg() or () if segment.word[0] not in "<[+("]
        lengths = [segment.end_frame - segment.start_frame + 1 for segment in words]
        total = sum(min(segment.prob, 1.0) * length for segment, length in zip(words, lengths, strict=True))
        return Hearing(text, total / max(sum(lengths), 1))


class FasterWhisper:
    """A Whisper model in the format of CTranslate2, from a local folder (MIT).

    Args:
        weights: the folder.
        language: code of the speech's language; empty for English.

    Raises:
        UserError: the package or the model is missing, or the model does not know the language.
    """

    def __init__(self, weights: str, language: str = "") -> None:
        faster_whisper = import_or_explain("faster_whisper", "the recogniser faster-whisper", INSTALL_WHISPER)
        folder = Path(storage.expanded(weights))
        if not (folder / "model.bin").exists():
            raise UserError(
                f"the folder of the recogniser's weights, {weights}, holds no model.bin: give one with a Whisper model "
                "in the format of CTranslate2"
            )
        digest = storage.sha256(folder / "model.bin")[:12]
        spoken = f", hears {language_name(language)}" if language else ""
        self.name = f"faster-whisper {version('faster-whisper')}, {folder.name} ({digest}…){spoken}"
        self._model = _whisper_model(faster_whisper.WhisperModel, str(folder))
        self._code = _WHISPER_CODES.get(language, language or ENGLISH)
        if language and self._code not in self._model.supported_languages:
            raise UserError(f"the Whisper model {weights} does not hear {language_name(language)}: give one that does")

    def transcribe(self, waveform: np.ndarray) -> str:
        """See ``Recogniser``."""
        return self.hear(waveform).text

    def hear(self, waveform: np.ndarray) -> Hearing:
        """See ``Recogniser``: the geometric mean of the tokens' probabilities."""
        found, _ = self._model.transcribe(waveform, language=self._code, beam_size=5, temperature=0.0)
        segments = list(found)
        lengths = [segment.end - segment.start for segment in segments]
        total = sum(segment.avg_logprob * length for segment, length in zip(segments, lengths, strict=True))
        confidence = float(np.exp(total / sum(lengths))) if sum(lengths) else 0.0
        return Hearing(" ".join(segment.text.strip() for segment in segments), confidence)


@cache
def _whisper_model(build: Callable[..., Any], folder: str) -> Any:
    """Loaded once a process for all languages."""
    return build(folder, device="cpu", compute_type="int8", cpu_threads=1)


@cache
def load_recogniser(choice: RecogniserChoice) -> Recogniser:
    """The recogniser, loaded once a process.

    Raises:
        UserError: its package or its model is missing, or it does not hear the language. What languages a plug-in's
            recogniser hears is not known: it is asked to hear all.
    """
    if choice.kind == "pocketsphinx":
        if choice.language:
            raise UserError(
                f"the recogniser pocketsphinx hears English alone, and recordings are in "
                f"{language_name(choice.language)}: use faster-whisper, or a plug-in's recogniser"
            )
        return Pocketsphinx()
    if choice.kind == "faster-whisper":
        return FasterWhisper(choice.weights, choice.language)
    return _plug_in(choice) if not choice.language else load_recogniser(replace(choice, language=""))


def _plug_in(choice: RecogniserChoice) -> Recogniser:
    points = {point.name: point for point in entry_points(group=RECOGNISER_GROUP)}
    if choice.kind not in points:
        raise UserError(
            f"there is no recogniser {choice.kind}: {', '.join(['pocketsphinx', 'faster-whisper', *points])}"
        )
    point = points[choice.kind]
    try:
        recogniser: Recogniser = point.load()(choice.weights)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"the recogniser {point.name} ({point.value}) cannot be loaded: {error}") from error
    if missing := [name for name in ("name", "transcribe", "hear") if not hasattr(recogniser, name)]:
        raise UserError(f"the recogniser {point.name} ({point.value}) lacks {', '.join(missing)}: see Recogniser")
    return recogniser
