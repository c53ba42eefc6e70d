"""Sound from units: its spectrum, level and ends; the file of a voice; what is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lst.errors import UserError
from lst.voice.vocoders import MeanSpectra, finished, fit_spectra
from lst.voice.vocoders.mean_spectra import NUM_BINS

RATE_HZ = 16_000
TONES_HZ = (500, 1500, 3000)


def tones(units: np.ndarray) -> np.ndarray:
    """A tone of 40 ms for each unit, without jumps of phase."""
    frequencies = np.repeat(np.array(TONES_HZ, float)[units], RATE_HZ // 25)
    return (0.3 * np.sin(2 * np.pi * np.cumsum(frequencies) / RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def voice() -> MeanSpectra:
    units = np.repeat(np.tile([0, 1, 2], 6), np.tile([5, 10, 15], 6))
    found = fit_spectra([(tones(units), units.astype(np.uint16))], num_units=4, frame_rate_hz=25)
    assert found is not None
    return found


def strongest_hz(sound: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * RATE_HZ / len(sound))


def test_a_unit_sounds_like_what_it_stood_for(voice: MeanSpectra) -> None:
    for unit, frequency in enumerate(TONES_HZ):
        sound = voice.sound(np.full(20, unit))
        assert len(sound) == 20 * RATE_HZ // 25
        assert strongest_hz(sound) == pytest.approx(frequency, abs=40)
    halves = np.split(voice.sound(np.repeat([0, 2], 20)), 2)
    assert [round(strongest_hz(half), -3) for half in halves] == [0, 3000]


def test_deduplicated_units_last_as_long_as_they_did(voice: MeanSpectra) -> None:
    assert voice.mean_frames[:3].round().tolist() == [5, 10, 15]
    assert len(voice.sound(np.array([0, 1, 2]), is_deduplicated=True)) == 30 * RATE_HZ // 25
    assert voice.mean_frames[3] == pytest.approx(10), "a unit that never occurred lasts as long as others"


def test_sound_is_level_and_neither_clips_nor_clicks(voice: MeanSpectra) -> None:
    sound = voice.sound(np.repeat([0, 2, 1, 0, 3], 9))
    assert 20 * np.log10(np.sqrt(np.mean(sound**2))) == pytest.approx(-23, abs=0.1)
    assert np.abs(sound).max() <= 0.95
    assert sound[0] == sound[-1] == 0
    assert abs(sound.mean()) < 1e-3
    # A click is energy above all tones.
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    assert spectrum[len(spectrum) * 5 // 8 :].sum() < 1e-3 * spectrum.sum()
    assert (voice.sound(np.repeat([0, 2, 1, 0, 3], 9)) == sound).all()


def test_no_unit_is_no_sound_and_silence_stays_silent(voice: MeanSpectra) -> None:
    assert len(voice.sound(np.zeros(0, int))) == 0
    assert len(voice.sound(np.array([1]))) == RATE_HZ // 25
    assert not finished(np.zeros(100, np.float32), RATE_HZ).any()
    assert np.abs(finished(np.r_[np.zeros(5000), 1, np.zeros(5000)].astype(np.float32), RATE_HZ)).max() <= 0.951


def test_a_voice_is_saved_and_damage_is_named(voice: MeanSpectra, tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    voice.save(path)
    loaded = MeanSpectra.load(path, 4)
    assert (loaded.sound(np.array([0, 1, 3])) == voice.sound(np.array([0, 1, 3]))).all()
    assert len(repr(loaded)) < 80
    with pytest.raises(UserError, match="holds tensors of shapes"):
        MeanSpectra.load(path, 5)
    tensors = load_file(path)
    described = {"format": "lst-mean-spectra-1", "frame_rate_hz": 25, "duration_s": 1.0}
    for wrong, metadata, told in (
        (tensors | {"log_power": np.full((4, NUM_BINS), np.nan, np.float32)}, described, "not finite"),
        (tensors | {"mean_frames": np.full(4, 1e9, np.float32)}, described, "larger than those of speech"),
        (tensors, described | {"frame_rate_hz": 0}, "frame_rate_hz"),
        (tensors, {}, "is damaged"),
    ):
        save_file(wrong, path, metadata={"lst": json.dumps(metadata)})
        with pytest.raises(UserError, match=told):
            MeanSpectra.load(path, 4)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="voice is damaged"):
        MeanSpectra.load(path, 4)
    path.unlink()
    with pytest.raises(UserError, match="voice is missing"):
        MeanSpectra.load(path, 4)


def test_nothing_to_fit_to_is_no_voice() -> None:
    assert fit_spectra([], 4, 25) is None


def test_a_unit_that_changes_keeps_its_course(tmp_path: Path) -> None:
    """A unit whose thirds are different tones; and a file of an earlier version, with one spectrum a unit."""
    part = RATE_HZ // 75
    tone = np.repeat([500.0, 1500.0, 3000.0], [part, part, RATE_HZ // 25 - 2 * part])
    waveform = (0.3 * np.sin(2 * np.pi * np.cumsum(np.tile(tone, 30)) / RATE_HZ)).astype(np.float32)
    voice = fit_spectra([(waveform, np.zeros(30, np.int64))], 1, 25)
    assert voice is not None
    assert voice.log_power.shape == (1, 3, NUM_BINS)
    strongest = voice.log_power[0].argmax(axis=1) * RATE_HZ / 512
    assert strongest[0] < strongest[1] < strongest[2]
    path = tmp_path / "voice.safetensors"
    voice.save(path)
    assert np.array_equal(MeanSpectra.load(path, 1).log_power, voice.log_power)
    described = {"format": "lst-mean-spectra-1", "frame_rate_hz": 25, "duration_s": 1.0}
    old = {"log_power": voice.log_power.mean(axis=1), "mean_frames": voice.mean_frames}
    save_file(old, path, metadata={"lst": json.dumps(described)})
    assert len(MeanSpectra.load(path, 1).sound(np.zeros(5, np.int64))) == 5 * RATE_HZ // 25
