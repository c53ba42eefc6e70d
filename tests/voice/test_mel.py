"""Mels: which frame covers which time, there and back; pitch and loudness of known sounds."""

from __future__ import annotations

import numpy as np
import pytest
from small_voices import hum

from lst.voice.mel import SILENCE, MelScale, at_content_rate, evened
from lst.voice.pitch import pitch_of, prosody_of


@pytest.mark.parametrize("sample_rate_hz", [16_000, 24_000])
def test_a_click_is_in_the_frame_that_covers_it(sample_rate_hz: int) -> None:
    """Frame t covers t/80 to (t+1)/80 s at every rate."""
    scale = MelScale(sample_rate_hz)
    assert (scale.window_samples, scale.fft_samples) == {16_000: (800, 1024), 24_000: (1200, 2048)}[sample_rate_hz]
    for frame in (0, 7, 19):
        waveform = np.zeros(sample_rate_hz // 4, np.float32)
        waveform[round((frame + 0.5) * scale.hop_samples)] = 1.0
        mel = scale.mel(waveform)
        assert mel.shape == (80, 20)
        assert mel.mean(axis=0).argmax() == frame


def test_silence_is_finite_and_frames_are_even_in_number() -> None:
    mel = MelScale(16_000).mel(np.zeros(201, np.float32))
    assert mel.shape == (80, 2)
    np.testing.assert_allclose(mel, SILENCE, rtol=1e-6)


def test_there_and_back() -> None:
    scale, waveform = MelScale(16_000), evened(hum(1.0))
    mel = scale.mel(waveform)
    back = scale.waveform(mel)
    assert len(back) == mel.shape[1] * scale.hop_samples
    inner = slice(4, -4)
    own, shifted = scale.mel(back), scale.mel(np.roll(back, 6 * scale.hop_samples))
    distances = [float(np.abs(one - mel)[:, inner].mean()) for one in (own, shifted)]
    assert distances[0] < 0.1
    assert distances[1] > 1.5 * distances[0], "later by six frames"


def test_the_unit_of_a_content_frame_covers_its_middle() -> None:
    for rate_hz in (25, 50, 12.5, 100):
        found = at_content_rate(np.arange(1000), rate_hz, 40)
        middles_s = (np.arange(40) + 0.5) / 40
        assert ((found / rate_hz <= middles_s) & (middles_s < (found + 1) / rate_hz)).all()
    assert at_content_rate(np.array([4]), 25, 3).tolist() == [4, 4, 4], "the last unit lasts to the end"


@pytest.mark.parametrize("sample_rate_hz", [16_000, 24_000])
def test_pitch_of_a_hum_and_of_silence(sample_rate_hz: int) -> None:
    pytest.importorskip("pyworld", reason="the extra voice is not installed")
    waveform = hum(1.0, sample_rate_hz, 150.0)
    pitch = pitch_of(waveform, sample_rate_hz, 80)
    assert pitch.shape == (80,)
    np.testing.assert_allclose(pitch[pitch > 0], 150.0, rtol=0.02)
    assert (pitch > 0).mean() > 0.7
    silent = pitch_of(np.zeros_like(waveform), sample_rate_hz, 80)
    assert not silent.any()
    mel = np.full((80, 80), SILENCE, np.float32)
    assert not prosody_of(mel, silent).any()


def test_prosody_does_not_tell_high_voices_from_low_ones() -> None:
    mel = np.random.default_rng(0).normal(size=(80, 50)).astype(np.float32)
    low = np.where(np.arange(50) % 5 > 0, np.linspace(90, 130, 50), 0).astype(np.float32)
    np.testing.assert_allclose(prosody_of(mel, low), prosody_of(mel + 1, 2 * low), atol=1e-4)
