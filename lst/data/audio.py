"""Audio files in: samples as float32 mono at one rate, and what a header says without decoding.

Decoding is soundfile's (libsndfile); of torchaudio only the resampler is used, and it is imported only when needed.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from lst.errors import UserError
from lst.lazy import import_torchaudio

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
MAX_NUM_FRAMES = 1 << 40  # libsndfile answers 2**63 - 1 when a header leaves the number open
MAX_RESAMPLE_KERNEL = 50_000_000  # weights of the resampler's filter bank, 200 MB of float32
MP3_FRAME = 1152  # samples; the decoder's guess of a length without a header is off by less than one frame
MP3_SLACK_FRAMES = 6  # the frame that states the length, an encoder's delay and its padding: held, but no audio
# Bit rates of MPEG layer III in kbit/s by their index, of version 1 and of versions 2 and 2.5; 0 is none.
_MP3_KBIT_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MP3_KBIT_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
# Writers that do not know the size beforehand leave a number at or above this in the header.
OPEN_SIZE_BYTES = 0x7FFFF000
# libsndfile's log of a data chunk that promises more than the file holds.
_SIZE_LINE = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_TAIL_BYTES = 1 << 16  # an Ogg page is smaller than this


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says; ``num_frames`` counts samples a channel."""

    num_frames: int
    sample_rate_hz: int
    num_channels: int
    duration_s: float


def probe_audio(path: Path) -> AudioInfo:
    """Reads an audio file's header (of an mp3, those of all its frames); nothing is decoded.

    A file without samples is no error here: its ``num_frames`` is 0.

    Raises:
        UserError: the file is absent, no audio, cut short as far as a header shows it, or of unstated length.
    """
    info = _header(path)
    return AudioInfo(info.frames, info.samplerate, info.channels, info.frames / info.samplerate)


def read_audio(path: Path, sample_rate_hz: int = 16000) -> npt.NDArray[np.float32]:
    """Reads an audio file (wav, flac, ogg, mp3) as mono at ``sample_rate_hz``.

    Args:
        path: the file, of any rate and number of channels; channels are averaged.
        sample_rate_hz: the rate wanted, in Hz.

    Returns:
        float32 ``[num_frames]``, full scale ±1, with ``num_frames = ceil(frames in the file · wanted / own rate)``.

    Raises:
        UserError: the file is absent, unreadable, cut short, without samples, or holds NaN or infinity.
    """
    info = _header(path)
    if info.frames == 0:
        raise UserError(f"{path} is empty: its header says 0 samples. Record or export it again.")
    try:
        samples, own_rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        raise _unreadable(path, error) from error
    if len(samples) < info.frames - (MP3_FRAME if info.format == "MP3" else 0):
        raise _cut_short(path, f"{len(samples):,} of {info.frames:,} samples could be decoded")
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise UserError(f"{path} holds NaN or infinite samples. Export it again, for example as 16-bit wav.")
    return _resample(path, np.ascontiguousarray(mono), own_rate_hz, sample_rate_hz)


def read_row_audio(row: Any) -> npt.NDArray[np.float32]:
    """The waveform of a manifest's row, float32 [num_samples], mono, 16 kHz; raises as ``read_audio``."""
    return read_audio(row.path)


def _resample(
    path: Path, mono: npt.NDArray[np.float32], own_rate_hz: int, wanted_rate_hz: int
) -> npt.NDArray[np.float32]:
    """Brings samples ``[num_frames]`` from one rate to another; needs torchaudio only when the rates differ."""
    if own_rate_hz == wanted_rate_hz:
        return mono
    divisor = math.gcd(own_rate_hz, wanted_rate_hz)
    if (own_rate_hz // divisor) * (wanted_rate_hz // divisor) > MAX_RESAMPLE_KERNEL:
        raise UserError(
            f"{path} has {own_rate_hz} Hz, which has too small a common divisor with {wanted_rate_hz} Hz "
            f"to be resampled here. Convert it first, for example: ffmpeg -i {path.name} -ar {wanted_rate_hz} out.wav"
        )
    torchaudio = import_torchaudio()
    import torch

    resampled = torchaudio.functional.resample(torch.from_numpy(mono), own_rate_hz, wanted_rate_hz)
    return resampled.numpy()


def _header(path: Path) -> Any:
    """The header as soundfile gives it, once its number of samples can be trusted."""
    if not os.path.isfile(path):  # unlike Path.is_file, no error for names that are too long
        raise UserError(f"{path} does not exist or is not a file.")
    try:
        with open(path, "rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}.") from error
    if is_empty:
        raise UserError(f"{path} is an empty file (0 bytes). Record or export it again.")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error
    if info.frames > MAX_NUM_FRAMES or info.samplerate <= 0:
        raise UserError(
            f"{path} does not say how long it is, as streams written to a pipe do. "
            f"Write it once more, for example: ffmpeg -i {path.name} out{path.suffix}"
        )
    for stated_bytes, held_bytes in _SIZE_LINE.findall(info.extra_info):
        if int(held_bytes) < int(stated_bytes) < OPEN_SIZE_BYTES:
            raise _cut_short(path, f"its header says {int(stated_bytes):,} bytes, it holds {int(held_bytes):,}")
    if info.format == "OGG" and not _ogg_has_end(path):
        raise _cut_short(path, "its last Ogg page is not the end of a stream")
    if info.format == "MP3":
        _check_mp3_length(path, info.frames)
    return info


def _ogg_has_end(path: Path) -> bool:
    """Whether an Ogg file's last page is whole and ends the stream (RFC 3533, section 6)."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _OGG_TAIL_BYTES))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    num_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])


def _check_mp3_length(path: Path, stated_samples: int) -> None:
    """Compares the length that libsndfile tells, and stops reading at, with the frames that are there.

    It is taken from the file's first frame, or guessed from the first bit rate, so both can be far off.
    """
    held_samples, frame_samples = _count_mp3_samples(path.read_bytes())
    if frame_samples and stated_samples > held_samples + frame_samples:
        raise _cut_short(path, f"its header says {stated_samples:,} samples, its frames hold {held_samples:,}")
    if frame_samples and held_samples > stated_samples + MP3_SLACK_FRAMES * frame_samples:
        raise UserError(
            f"{path} holds {held_samples:,} samples, but its header, or the lack of one, tells {stated_samples:,}: "
            f"its end would be lost. Write it once more, for example: ffmpeg -i {path.name} out.wav"
        )


def _count_mp3_samples(content: bytes) -> tuple[int, int]:
    """Samples a channel in an MP3's frames and in one frame, from the frames' headers (ISO 11172-3, 2.4.1.3).

    Both are 0 where no frame of layer III is found.
    """
    num_samples = frame_samples = position = 0
    if content[:3] == b"ID3":  # its size has 7 bits a byte
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    while 0 <= position < len(content) - 3:
        sync, second, third = content[position : position + 3]
        version = (second >> 3) & 3  # 3 is MPEG 1, 2 is 2, 0 is 2.5
        kbit = (_MP3_KBIT_1 if version == 3 else _MP3_KBIT_2)[third >> 4]
        rate_index = (third >> 2) & 3
        if sync != 0xFF or second & 0xE6 != 0xE2 or version == 1 or not kbit or rate_index == 3:
            position = content.find(b"\xff", position + 1)
            continue
        rate_hz = (44100, 48000, 32000)[rate_index] // {3: 1, 2: 2, 0: 4}[version]
        frame_samples = MP3_FRAME if version == 3 else MP3_FRAME // 2
        num_samples += frame_samples
        position += frame_samples * kbit * 125 // rate_hz + ((third >> 1) & 1)
    return num_samples, frame_samples


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read as audio ({error}). It must be a whole wav, flac, ogg or mp3 file.")


def _cut_short(path: Path, evidence: str) -> UserError:
    return UserError(f"{path} is cut short: {evidence}. Copy or export it again.")
