"""Speed and memory of a voice on this machine: ``make bench-voice``.

Voices of random weights convert ten seconds of a buzz and speak as many units. The algorithm of Griffin and Lim, which
makes sound of their mels, is timed alone too, and so are the other vocoders of mels. A figure is seconds of work a
second of sound: below 1 is faster than speech.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial

import numpy as np
import torch

from lst.configs.compose import VOICE
from lst.parallel import peak_memory_bytes
from lst.recipes.benchmarks.figures import Figures, best_s, measure_in_own_process
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.config import VoiceModelConfig
from lst.voice.converter import StyleVoice
from lst.voice.mel import FRAME_RATE_HZ, NUM_MELS, MelScale
from lst.voice.model import VoiceModel
from lst.voice.pitch import pitch_of
from lst.voice.saved import STYLE_VOICE_FORMAT, SavedVoice, sizes_of
from lst.voice.styles import style_size
from lst.voice.vocoders.of_mels import VOCODER_FORMAT, GriffinLim, MelVocoder, TrainedVocoder, VocoderDescription
from lst.voice.vocoders.spectral import SpectrumNetwork
from lst.voice.vocoders.vocos import random_vocos

DURATION_S, NUM_TURNS, UNIT_RATE_HZ, NUM_UNITS = 10.0, 3, 25, 100
SIZES = ("small", "published")


def main() -> None:
    """Runs the benchmark; writes ``runs/bench/voice.json``."""
    torch.set_num_threads(1)
    if "--memory" in sys.argv:
        print(json.dumps(_peak_bytes(sys.argv[-1])))
        return
    figures = Figures("voice")
    for size in SIZES:
        measure(figures, size, random_voice(VOICE.build([f"model={size}"]).model), DURATION_S, NUM_TURNS)
        used = measure_in_own_process("lst.recipes.benchmarks.voice", size)
        figures.add(f"{size}: peak memory of a conversion, MB", used / 1e6)
    measure_vocoders(figures, DURATION_S, NUM_TURNS)
    figures.write()


def random_voice(config: VoiceModelConfig) -> StyleVoice:
    """A voice whose weights are random."""
    model = VoiceModel(config, 1, NUM_UNITS).eval().requires_grad_(False)
    description = {
        "format": STYLE_VOICE_FORMAT,
        "name": "random",
        "model": sizes_of(config),
        "phones": ["SIL"],
        "num_units": NUM_UNITS,
        "unit_rate_hz": UNIT_RATE_HZ,
        "units_sha256": "",
        "has_student": True,
        "has_units": True,
        "num_speakers": 1,
        "duration_s": 0.0,
    }
    return StyleVoice(SavedVoice(model, description, torch.zeros(style_size(config))))  # type: ignore[arg-type]


def measure(figures: Figures, size: str, voice: StyleVoice, duration_s: float, num_turns: int) -> None:
    """Adds the figures of one voice."""
    buzz = _buzz(voice, duration_s)
    style, mel = voice.style_of(buzz), voice.scale.mel(buzz)
    units = np.random.default_rng(0).integers(NUM_UNITS, size=round(duration_s * UNIT_RATE_HZ))
    parts = {
        "conversion": lambda: voice.convert(buzz, style),
        "units to sound": lambda: voice.sound(units),
        "style of a reference": lambda: voice.style_of(buzz),
        "pitch of the source": lambda: pitch_of(buzz, voice.sample_rate_hz, mel.shape[1]),
        "Griffin and Lim alone": lambda: voice.scale.waveform(mel),
    }
    for name, part in parts.items():
        target = 1.0 if name == "conversion" and size == "small" else None
        figures.add(f"{size}: {name}, s a second", best_s(part, num_turns) / duration_s, target, at_most=True)


def measure_vocoders(figures: Figures, duration_s: float, num_turns: int) -> None:
    """Adds the figures of what makes sound of mels; of Vocos, as published, where its package is installed."""
    scale, config = MelScale(SAMPLE_RATE_HZ), VOICE.build([]).spectrum
    network = SpectrumNetwork(config, scale).eval().requires_grad_(False)
    described: VocoderDescription = {
        "format": VOCODER_FORMAT,
        "name": "random",
        "dim": config.dim,
        "layers": config.layers,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "duration_s": 0.0,
    }
    vocoders: dict[str, MelVocoder] = {
        "Griffin and Lim": GriffinLim(),
        "the vocoder that is trained here": TrainedVocoder(network, described),
    }
    if importlib.util.find_spec("vocos") is not None:
        vocoders["Vocos, 13.6 million"] = random_vocos()
    mel = np.random.default_rng(0).normal(0, 0.5, (NUM_MELS, round(duration_s * FRAME_RATE_HZ))).astype(np.float32)
    for name, vocoder in vocoders.items():
        taken_s = best_s(partial(vocoder.waveform, mel, scale), num_turns)
        figures.add(f"sound of a mel by {name}, s a second", taken_s / duration_s, 1.0, at_most=True)


def _buzz(voice: StyleVoice, duration_s: float) -> np.ndarray:
    """A buzz of 120 Hz, float32 [num_samples]."""
    times_s = np.arange(round(duration_s * voice.sample_rate_hz)) / voice.sample_rate_hz
    return (0.3 * np.sign(np.sin(2 * np.pi * 120 * times_s))).astype(np.float32)


def _peak_bytes(size: str) -> int:
    voice = random_voice(VOICE.build([f"model={size}"]).model)
    buzz = _buzz(voice, DURATION_S)
    voice.convert(buzz, voice.style_of(buzz))
    return peak_memory_bytes()


if __name__ == "__main__":
    main()
