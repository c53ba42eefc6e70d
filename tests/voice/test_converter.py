"""A finished voice: its file, references and sources of all kinds, units, and the comment in what is written."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file, save_file
from small_voices import NUM_UNITS, TINY, hum, random_voice

from lst.errors import UserError
from lst.voice.converter import StyleVoice, tagged_wav
from lst.voice.model import VoiceModel
from lst.voice.saved import STYLE_VOICE_FILE, SavedVoice, sizes_of
from lst.voice.styles import style_size


@pytest.fixture(scope="module")
def voice() -> StyleVoice:
    return StyleVoice(random_voice())


def test_a_voice_is_what_was_saved(tmp_path: Path, voice: StyleVoice) -> None:
    voice.saved.save(tmp_path / STYLE_VOICE_FILE)
    loaded = StyleVoice(SavedVoice.load(tmp_path / STYLE_VOICE_FILE))
    assert loaded.saved.description == voice.saved.description
    units = np.array([1, 1, 2, 5, 10])
    assert np.array_equal(loaded.sound(units), voice.sound(units))
    assert "2 speakers" in repr(loaded)


def damage(path: Path, kind: str) -> None:
    tensors = load_file(path)
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    described = json.loads(header["__metadata__"]["lst"])
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-9])
        return
    if kind == "nan":
        tensors["default_style"][0] = np.nan
    if kind == "sizes":
        described["model"]["content_dim"] = 18
    if kind == "huge":
        described["model"]["decoder_dim"] = 10**9
    if kind == "rate":
        described["model"]["sample_rate_hz"] = 16_001
    if kind == "less":
        del tensors["decoder.out.bias"]
    if kind == "format":
        described["format"] = "other"
    save_file(tensors, path, {"lst": json.dumps(described)})


@pytest.mark.parametrize("kind", ["cut", "nan", "sizes", "huge", "rate", "less", "format"])
def test_a_damaged_file_is_named(tmp_path: Path, voice: StyleVoice, kind: str) -> None:
    path = tmp_path / STYLE_VOICE_FILE
    voice.saved.save(path)
    damage(path, kind)
    with pytest.raises(UserError, match=rf"damaged: {path} .*lst voice train"):
        SavedVoice.load(path)


def test_a_relative_voice_is_read_back_and_an_earlier_one_is_not_relative(tmp_path: Path, voice: StyleVoice) -> None:
    config = replace(TINY, relative=True)
    model = VoiceModel(config, 3, NUM_UNITS).eval().requires_grad_(False)
    described = {**voice.saved.description, "model": sizes_of(config)}
    SavedVoice(model, described, torch.ones(style_size(config))).save(tmp_path / "new")  # type: ignore[arg-type]
    found = StyleVoice(SavedVoice.load(tmp_path / "new"))
    assert found.saved.model.config.relative
    assert found.style_of(hum(1.0)).shape == (style_size(config),)
    assert len(found.sound(np.array([1, 1, 2]))) == 1920
    voice.saved.save(tmp_path / "old")
    assert "relative" not in SavedVoice.load(tmp_path / "old").description["model"]
    assert not SavedVoice.load(tmp_path / "old").model.config.relative


def test_a_reference_may_last_from_half_a_second_to_a_minute(voice: StyleVoice) -> None:
    for duration_s in (0.5, 1.0, 61.0):
        style = voice.style_of(hum(duration_s))
        assert style.shape == (TINY.style_dim,)
        assert style.isfinite().all()
    assert torch.equal(voice.style_of(0.1 * hum(1.0)), voice.style_of(0.1 * hum(1.0)))
    torch.testing.assert_close(voice.style_of(0.25 * hum(1.0)), voice.style_of(hum(1.0)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("given", [hum(0.4), np.zeros(16_000, np.float32), np.zeros(0, np.float32)])
def test_a_reference_without_a_voice_is_refused(voice: StyleVoice, given: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"ref\.wav (lasts|is silent)"):
        voice.style_of(given, "ref.wav")


def test_a_conversion_lasts_as_long_as_its_source(voice: StyleVoice) -> None:
    pytest.importorskip("pyworld", reason="the extra voice is not installed")
    style = voice.style_of(hum(1.0))
    for num_samples in (1, 401, 16_001):
        made = voice.convert(hum(1.01)[:num_samples] + np.float32(0.01), style)
        assert made.shape == (num_samples,)
        assert np.isfinite(made).all()
        assert np.abs(made).max() <= 0.96
    assert not voice.convert(np.zeros(500, np.float32), style).any(), "silence stays silent"
    assert not np.array_equal(voice.convert(hum(1.0), style), voice.convert(hum(1.0), style + 5))
    with pytest.raises(UserError, match=r"long\.wav lasts 601 s, at most 600"):
        voice.convert(np.zeros(601 * 16_000, np.float32), style, "long.wav")


def test_units_are_spoken(voice: StyleVoice) -> None:
    units = np.repeat(np.arange(NUM_UNITS), 3)
    assert len(voice.sound(units)) == round(len(units) / 25 * 16_000)
    assert len(voice.sound(np.array([4]))) == 640
    assert not len(voice.sound(np.zeros(0, np.int64)))
    assert len(voice.sound(np.arange(NUM_UNITS), is_deduplicated=True)) >= NUM_UNITS * 640, "each lasts a unit or more"
    other = StyleVoice(voice.saved, torch.full((TINY.style_dim,), 3.0))
    assert not np.array_equal(other.sound(units), voice.sound(units))


def test_a_voice_says_what_it_cannot_do() -> None:
    teacher = StyleVoice(random_voice(has_student=False, has_units=False))
    with pytest.raises(UserError, match="second stage"):
        teacher.convert(hum(1.0), torch.zeros(TINY.style_dim))
    with pytest.raises(UserError, match="reads no units"):
        teacher.sound(np.array([1]))


def test_the_comment_is_in_the_file() -> None:
    content = io.BytesIO(tagged_wav(hum(0.1), 16_000, "converted by LST: words of a.wav, voice of b.wav"))
    with soundfile.SoundFile(content) as file:
        assert file.comment == "converted by LST: words of a.wav, voice of b.wav"
        assert len(file.read()) == 1600
