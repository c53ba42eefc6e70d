"""Audio files: formats, rates and channels in, and every kind of damage named."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.audio import probe_audio, read_audio
from lst.errors import UserError
from lst.lazy import import_torchaudio


def tone(num_frames: int, sample_rate_hz: int, frequency_hz: float = 300.0) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * frequency_hz * np.arange(num_frames) / sample_rate_hz)).astype(np.float32)


def noise(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, num_frames).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("own_rate_hz", [8000, 16000, 44100])
def test_any_format_and_rate_comes_out_at_the_wanted_rate(tmp_path: Path, suffix: str, own_rate_hz: int) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(own_rate_hz, own_rate_hz), own_rate_hz)
    samples = read_audio(path, 16000)
    assert samples.dtype == np.float32
    assert samples.shape == (16000,)
    middle = slice(2000, 14000)
    error = np.abs(samples - tone(16000, 16000))[middle].max()
    print(f"{suffix} {own_rate_hz} Hz: largest error {error:.4f}")
    assert error < (0.05 if suffix in ("ogg", "mp3") else 2e-3)


def test_length_after_resampling_is_rounded_up(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1001), 44100)
    assert len(read_audio(tmp_path / "a.wav", 16000)) == math.ceil(1001 * 16000 / 44100)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(1000), tone(1000, 16000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


def test_own_rate_gives_the_samples_bit_for_bit(tmp_path: Path) -> None:
    samples = noise(777)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), samples)


def test_probe_reads_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((22050, 2)), 44100)
    info = probe_audio(tmp_path / "a.flac")
    assert (info.num_frames, info.sample_rate_hz, info.num_channels, info.duration_s) == (22050, 44100, 2, 0.5)


def test_absent_folder_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio")
    (tmp_path / "headerless.raw").write_bytes(bytes(100))
    for name, reason in [
        ("absent.wav", "does not exist"),
        ("folder.wav", "not a file"),
        ("empty.wav", "0 bytes"),
        ("text.wav", "cannot be read as audio"),
        ("headerless.raw", "cannot be read as audio"),
    ]:
        for function in (probe_audio, read_audio):
            with pytest.raises(UserError, match=reason) as raised:
                function(tmp_path / name)
            assert name in str(raised.value)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_zero_frames_are_probed_but_not_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"zero.{suffix}"
    soundfile.write(path, np.zeros(0, np.float32), 16000)
    assert probe_audio(path).duration_s == 0
    with pytest.raises(UserError, match=rf"zero\.{suffix} is empty"):
        read_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_never_read_as_a_shorter_one(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, noise(80000), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"cut\.{suffix} (is cut short|cannot be read)"):
        read_audio(path)
    if suffix != "flac":  # a FLAC's header does not show it
        with pytest.raises(UserError, match=rf"cut\.{suffix} (is cut short|cannot be read)"):
            probe_audio(path)


@pytest.mark.parametrize("own_rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_without_its_length_is_read_whole_or_not_at_all(
    tmp_path: Path, bitrate_mode: str, own_rate_hz: int
) -> None:
    """Without the frame that states the length, libsndfile guesses it from the first bit rate and stops there."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(80000), own_rate_hz, bitrate_mode=bitrate_mode, compression_level=0.5)
    assert probe_audio(path).num_frames == 80000
    content = path.read_bytes()
    start = max(content.find(b"Xing"), content.find(b"Info"))
    (tmp_path / "b.mp3").write_bytes(b"ID3\x04\0\0\0\0\0\x05tags." + content[content.find(content[:2], start) :])
    if bitrate_mode == "CONSTANT":
        assert len(read_audio(tmp_path / "b.mp3", own_rate_hz)) >= 80000
    else:
        with pytest.raises(UserError, match=r"b\.mp3 holds .* its end would be lost"):
            probe_audio(tmp_path / "b.mp3")


def test_damage_inside_a_flac_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.flac"
    soundfile.write(path, noise(32000), 16000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.flac cannot be read"):
        read_audio(path)


def test_headers_of_streams(tmp_path: Path) -> None:
    """A wav whose size was left open (0xFFFFFFFF) is read whole; a FLAC of unstated length cannot be."""
    samples = noise(4000)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    assert content[36:40] == b"data"
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "stream.wav").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "stream.wav"), read_audio(tmp_path / "a.wav"))

    soundfile.write(tmp_path / "a.flac", samples, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    (tmp_path / "stream.flac").write_bytes(content)
    with pytest.raises(UserError, match=r"stream\.flac does not say how long it is"):
        probe_audio(tmp_path / "stream.flac")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    samples = noise(1000)
    samples[500] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav holds NaN or infinite samples"):
        read_audio(tmp_path / "a.wav")


def test_a_rate_with_no_common_divisor_is_refused_before_memory_runs_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100), 96001)
    with pytest.raises(UserError, match="96001 Hz"):
        read_audio(tmp_path / "a.wav", 16000)


def test_torchaudio_that_cannot_be_imported_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = importlib.import_module

    def failing_import(name: str, package: str | None = None) -> object:
        if name.split(".")[0] == "torchaudio":
            raise OSError("undefined symbol: _ZN2at4_ops")
        return real_import(name, package)

    monkeypatch.setattr(importlib, "import_module", failing_import)
    with pytest.raises(UserError, match=r"undefined symbol.*pip install .*torchaudio"):
        import_torchaudio()
    # Audio of the wanted rate needs none of it.
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    assert len(read_audio(tmp_path / "a.wav", 16000)) == 100
