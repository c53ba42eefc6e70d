"""Kokoro-82M, the voice of the LST paper: its ONNX model and its voices' files, with phonemes by eSpeak NG's command.

The folder ``kokoro`` of ``voice_folder`` holds ``model.onnx`` and ``voices/NAME.bin``: float32 [lengths, 256], the
style of a text by its number of phonemes. A name starts with the accent (``a`` American, ``b`` British) and the gender.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lst.data.synthesis.engines import EngineError, Spoken, Traits, answer_of, file_hash, voice_folder
from lst.lazy import import_or_explain

RATE_HZ, STYLE_DIM = 24_000, 256
# The model's context, without the padding at both ends.
MAX_PHONEMES = 510
# Ids of the model's symbols, by the first id of each run of consecutive ones.
_RUNS = {
    1: ";:,.!?",
    9: '—…"()“” \u0303ʣʥʦʨᵝ\uab67AI',
    31: "O",
    33: "Q",
    35: "ST",
    39: "W",
    41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ",
    75: "βɔɕç",
    80: "ɖðʤə",
    85: "ɚɛɜ",
    90: "ɟ",
    92: "ɡ",
    99: "ɥ",
    101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø",
    118: "ɸθœ",
    123: "ɹ",
    125: "ɾɻ",
    128: "ʁɽʂʃʈ",
    133: "ʧ",
    135: "ʊʋ",
    138: "ʌɣɤ",
    142: "χʎ",
    147: "ʒʔ",
    156: "ˈˌː",
    162: "ʰ",
    164: "ʲ",
    169: "↓",
    171: "→↗↘",
    177: "ᵻ",
}
SYMBOLS = {symbol: first + place for first, run in _RUNS.items() for place, symbol in enumerate(run)}
# eSpeak NG's symbols as the model was trained on them: diphthongs and affricates are one letter.
_AS_TRAINED = {
    "eɪ": "A",
    "aɪ": "I",
    "ɔɪ": "Y",
    "aʊ": "W",
    "oʊ": "O",
    "əʊ": "Q",
    "tʃ": "ʧ",
    "dʒ": "ʤ",
    "ɜːɹ": "ɜɹ",
    "ɜː": "ɜɹ",
    "ɐ": "ə",
    "ɚ": "əɹ",
    "ʲ": "",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɬ": "l",
    "e": "A",
}


class Kokoro:
    """Kokoro-82M by ONNX Runtime."""

    @property
    def traits(self) -> Traits:
        """See ``Engine``."""
        return Traits(
            {path.stem: path.stem[1:2] for path in sorted((_folder() / "voices").glob("*.bin"))},
            RATE_HZ,
            "Apache-2.0",
            "pip install onnxruntime, apt-get install espeak-ng, and put model.onnx and voices/NAME.bin of Kokoro-82M "
            f"into {_folder()}",
            has_pitch=False,
        )

    def is_installed(self) -> bool:
        """See ``Engine``."""
        has_programs = find_spec("onnxruntime") is not None and shutil.which("espeak-ng") is not None
        return has_programs and (_folder() / "model.onnx").exists() and bool(self.traits.voices)

    def has_voice(self, voice: str) -> bool:
        """See ``Engine``."""
        return voice in self.traits.voices

    def version(self, voice: str) -> str:
        """See ``Engine``."""
        return f"{file_hash(_folder() / 'model.onnx')} {file_hash(_voice_file(voice))}"

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> Spoken:
        """See ``Engine``."""
        ids = [SYMBOLS[symbol] for symbol in phonemes_of(text, is_british=voice.startswith("b"))]
        if not 0 < len(ids) <= MAX_PHONEMES:
            raise EngineError(f"it has {len(ids)} phonemes, and the model takes 1 to {MAX_PHONEMES}: split the text")
        styles = np.fromfile(_voice_file(voice), np.float32).reshape(-1, STYLE_DIM)
        session = _session(_folder() / "model.onnx")
        names = [place.name for place in session.get_inputs()]
        tokens = next(name for name in names if name in ("input_ids", "tokens"))
        given = {
            tokens: np.array([[0, *ids, 0]], np.int64),
            "style": styles[min(len(ids), len(styles) - 1)][None],
            "speed": np.array([rate], np.float32),
        }
        (audio, *_) = session.run(None, given)
        return np.asarray(audio, np.float32).reshape(-1), RATE_HZ


def phonemes_of(text: str, is_british: bool) -> str:
    """The model's symbols of a text; between the punctuation of its sentences, which is kept, eSpeak NG says it.

    Raises:
        EngineError: eSpeak NG failed.
    """
    pieces = []
    for piece in re.split(r"([;:,.!?—…]+)", text):
        if not re.search(r"\w", piece):
            pieces.append(piece.strip())
            continue
        answer = answer_of("espeak-ng", "-q", "--ipa", "-v", "en-gb" if is_british else "en-us", "--", piece)
        if answer.returncode != 0:
            raise EngineError(f"espeak-ng gave no phonemes: {answer.stderr.strip()}")
        said = " ".join(answer.stdout.split())
        said = _as_trained(said)
        # American vowels are trained without marks of length.
        pieces.append((" " if pieces else "") + (said if is_british else said.replace("ː", "")))
    return "".join(symbol for symbol in "".join(pieces) if symbol in SYMBOLS)


def _as_trained(said: str) -> str:
    pattern = "|".join(map(re.escape, sorted(_AS_TRAINED, key=len, reverse=True)))
    return re.sub(pattern, lambda found: _AS_TRAINED[found[0]], said)


def _folder() -> Path:
    return voice_folder() / "kokoro"


def _voice_file(voice: str) -> Path:
    return _folder() / "voices" / f"{voice}.bin"


@cache
def _session(model: Path) -> Any:
    runtime = import_or_explain("onnxruntime", "Kokoro", "pip install 'latent-speech-text[kokoro]'")
    return runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
