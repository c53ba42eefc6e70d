"""Damaged voices and vocoders, and sound that is none: an error that names the file, or sound of finite numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from damage import BYTE_EDITS, JSON_EDITS, Damage, Edit, Pristine, damages, edits
from fuzzing import shorter, told
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from small_voices import hum, random_voice

from lst.configs.compose import VOICE
from lst.configs.reads import reads_of
from lst.configs.voice_schema import VoiceConfig
from lst.data.audio import read_audio
from lst.recipes.voice.speak import convert_plan, speak
from lst.voice.config import SpectrumConfig
from lst.voice.mel import MelScale
from lst.voice.saved import SavedVoice
from lst.voice.vocoders.of_mels import VOCODER_FORMAT, TrainedVocoder, vocoder_beside
from lst.voice.vocoders.spectral import SpectrumNetwork


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """A voice with its vocoder."""
    folder = tmp_path_factory.mktemp("fuzz") / "voice"
    folder.mkdir()
    random_voice().save(folder / "style_voice.safetensors")
    network = SpectrumNetwork(SpectrumConfig(8, 1), MelScale(16_000)).eval().requires_grad_(False)
    described = {"format": VOCODER_FORMAT, "name": "tiny", "dim": 8, "layers": 1}
    described |= {"sample_rate_hz": 16_000, "duration_s": 60.0}
    TrainedVocoder(network, described).save(folder / "vocoder.safetensors")  # type: ignore[arg-type]
    return Pristine(folder)


def describe_otherwise(path: Path, edit: Edit) -> None:
    """Edits what a file says of itself, which is JSON within its header."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = file.metadata()["lst"].encode()
    save_file(tensors, path, {"lst": edit.apply(described).decode()})


@shorter
@given(data=st.data())
def test_damaged_voices(voice: Pristine, data: st.DataObject) -> None:
    damage: Damage = data.draw(damages(voice.names, voice.contents))
    told_of = data.draw(st.one_of(st.none(), edits(JSON_EDITS)))
    path = voice.folder / "style_voice.safetensors"
    try:
        if told_of is None:
            damage.do(voice.folder)
        else:
            describe_otherwise(voice.folder / damage.file, told_of)
        is_voice = damage.file == path.name
        told(lambda: SavedVoice.load(path) if is_voice else vocoder_beside(path), voice.folder)
    finally:
        voice.restore()


def test_a_damaged_voice_speaks_or_says_why(voice: Pristine, tmp_path: Path) -> None:
    words = [f"voice={voice.folder}/style_voice.safetensors", "units=1,2,3,4", f"out={tmp_path}/out.wav"]
    config = VOICE.build(words, reads_of("voice speak", False))
    assert not told(lambda: speak(config), voice.folder)
    assert np.isfinite(soundfile.read(tmp_path / "out.wav")[0]).all()


@shorter
@given(
    suffix=st.sampled_from(["wav", "flac", "ogg", "mp3"]),
    changes=st.lists(edits(BYTE_EDITS), min_size=1, max_size=3),
    is_plan=st.booleans(),
)
def test_damaged_sound(
    config: VoiceConfig,
    sounds: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    changes: list[Edit],
    is_plan: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz_sound.{suffix}"
    content = sounds[suffix]
    for change in changes:
        content = change.apply(content)
    path.write_bytes(content)
    if is_plan:
        config.source = config.reference = str(path)
        told(lambda: convert_plan(config), path.name)
    else:
        found: list[np.ndarray] = []
        if not told(lambda: found.append(read_audio(path)), path.name):
            assert np.isfinite(found[0]).all()


@pytest.fixture(scope="module")
def config(voice: Pristine) -> VoiceConfig:
    """Of a conversion; changed by each example."""
    words = [f"voice={voice.folder}/style_voice.safetensors", "source=x", "reference=x", "out=/nowhere/out.wav"]
    return VOICE.build(words, reads_of("voice convert", True))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A file of each format, by suffix."""
    folder = tmp_path_factory.mktemp("sounds")
    found = {}
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"a.{suffix}", hum(1.0), 16_000)
        found[suffix] = (folder / f"a.{suffix}").read_bytes()
    return found
