"""Engines behind one interface: what they say of themselves, named voices, plug-ins, Piper and Kokoro from files."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lst.configs.compose import build_config
from lst.data.synthesis import engines, kokoro
from lst.data.synthesis.engines import Traits, engine_names, engine_of
from lst.data.synthesis.voices import choose_engine, named_speaker, pseudo_speakers, synthesize
from lst.errors import ProblemsError, UserError


class Beeper:
    """An engine of another package: a tone for every letter."""

    traits = Traits({"high": "f", "low": "m"}, 8_000, "MIT", "pip install beeper", has_pitch=False)

    def is_installed(self) -> bool:
        return True

    def has_voice(self, voice: str) -> bool:
        return voice in self.traits.voices

    def version(self, voice: str) -> str:
        return "1.0"

    def speak(self, text: str, voice: str, rate: float, pitch: float) -> tuple[np.ndarray, int]:
        times_s = np.arange(int(800 * len(text) / rate)) / 8_000
        return np.sin(2 * np.pi * (440 if voice == "high" else 220) * times_s).astype(np.float32), 8_000


class Halfway:
    """An engine that lacks most of what one needs."""

    traits = Beeper.traits


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points of packages that are installed beside this one."""
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "beeper_plug_in", here)
    places = {"beeper": "Beeper", "halfway": "Halfway", "gone": "Gone"}
    found = [EntryPoint(name, f"beeper_plug_in:{kind}", "lst.voices") for name, kind in places.items()]
    monkeypatch.setattr(engines, "entry_points", lambda group: found)
    monkeypatch.setattr("lst.data.config.entry_points", lambda group: found)


def test_every_engine_says_what_it_can_do() -> None:
    assert engine_names() == ["flite", "espeak-ng", "pico", "piper", "kokoro"]
    for name in engine_names():
        traits = engine_of(name).traits
        assert traits.licence
        assert traits.install
        assert traits.sample_rate_hz >= 8_000
        assert set(traits.voices.values()) <= {"f", "m", ""}
    assert [name for name in engine_names() if engine_of(name).traits.has_word_times] == ["flite", "espeak-ng"]


def test_a_plug_in_speaks_like_the_others(plug_ins: None) -> None:
    assert choose_engine("beeper") == "beeper"
    speaker = named_speaker("beeper:low")
    assert (speaker.voice, speaker.name) == ("low", "beeper-low")
    sound = synthesize("hello", speaker)
    assert len(sound) == pytest.approx(16_000 * 0.5, abs=2), "resampled"
    assert np.abs(sound).max() == pytest.approx(speaker.gain, rel=1e-5)
    assert {one.pitch for one in pseudo_speakers("beeper", 4, seed=0)} == {1.0}, "it has one pitch"
    assert build_config(["data.voice=beeper"]).data.voice == "beeper"
    with pytest.raises(UserError, match=r"halfway .* lacks is_installed, has_voice, version, speak"):
        choose_engine("halfway")
    with pytest.raises(UserError, match=r"gone .*cannot be loaded .AttributeError"):
        choose_engine("gone")


def test_absent_engines_and_voices_are_named_with_what_there_is(plug_ins: None) -> None:
    with pytest.raises(UserError, match=r"no voice 'middle' here; it has high, low"):
        named_speaker("beeper:middle")
    with pytest.raises(
        ProblemsError, match=r"data.voice=nobody: allowed are auto, flite, .*kokoro, simulated, none, and"
    ):
        build_config(["data.voice=nobody"])


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_a_voice_that_takes_no_turn_can_be_named() -> None:
    assert named_speaker("flite:kal").voice == "kal"
    with pytest.raises(UserError, match=r"no voice 'nobody'"):
        named_speaker("flite:nobody")


def test_piper_speaks_by_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LST_VOICE_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install piper-tts, and put NAME.onnx"):
        choose_engine("piper")
    (tmp_path / "piper").mkdir()
    (tmp_path / "piper" / "joe.onnx").write_bytes(b"weights")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "piper" or found(name))
    asked: list[Any] = []

    def ran(command: list[str], text: str, folder: Path) -> tuple[np.ndarray, int]:
        asked.append((command[1:], text))
        return np.full(2_205, 0.5, np.float32), 22_050

    monkeypatch.setattr(engines, "run_engine", ran)
    assert len(synthesize("Hello.", named_speaker("piper"))) == 1_600
    ((command, text),) = asked
    assert command[:4] == ["-m", "piper", "-m", str(tmp_path / "piper" / "joe.onnx")]
    assert text == "Hello."
    assert "piper" not in sys.modules, "a GPL program is never loaded"
    assert engine_of("piper").version("joe") != engine_of("piper").version("joe").split()[0]


def test_kokoro_gives_its_model_phonemes_and_the_style_of_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kokoro"
    (folder / "voices").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    styles = np.repeat(np.arange(510, dtype=np.float32)[:, None], 256, axis=1)
    styles.tofile(folder / "voices" / "bf_emma.bin")
    given: dict[str, np.ndarray] = {}

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert path == str(folder / "model.onnx")

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name=name) for name in ("input_ids", "style", "speed")]

        def run(self, _: None, values: dict[str, np.ndarray]) -> list[np.ndarray]:
            given.update(values)
            return [np.full((1, 2_400), 0.5, np.float32)]

    monkeypatch.setenv("LST_VOICE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr(kokoro, "find_spec", lambda name: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    said = {"Hello": "həlˈəʊ\n", " my day": "maɪ dˈeɪ\n"}
    monkeypatch.setattr(
        kokoro, "answer_of", lambda *command: SimpleNamespace(returncode=0, stdout=said[command[-1]], stderr="")
    )
    speaker = named_speaker("kokoro:bf_emma")
    assert len(synthesize("Hello, my day.", speaker)) == 1_600
    phonemes = "həlˈQ, mI dˈA."
    assert given["input_ids"].tolist() == [[0, *(kokoro.SYMBOLS[symbol] for symbol in phonemes), 0]]
    assert given["style"].tolist() == [[float(len(phonemes))] * 256]
    assert engine_of("kokoro").traits.voices == {"bf_emma": "f"}
    assert (kokoro.SYMBOLS["ᵻ"], kokoro.SYMBOLS["A"], kokoro.SYMBOLS["ʧ"], len(kokoro.SYMBOLS)) == (177, 24, 133, 114)
