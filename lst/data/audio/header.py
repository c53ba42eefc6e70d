"""Reads the header of an audio file and checks it against the file.

A header may state no length, more than the file holds, or a guess from its first frame: these are errors.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import soundfile

from lst.data.audio.containers import OPEN_SIZE_BYTES, num_ogg_streams, wav_excess
from lst.data.audio.places import content_key, described
from lst.data.audio.tars import open_audio_bytes
from lst.errors import UserError
from lst.storage import is_url

MAX_NUM_FRAMES = 1 << 40  # libsndfile answers 2**63 - 1 when a header leaves the number open
MP3_FRAME = 1152  # samples; a length guessed without a header is off by less than one frame
MP3_SLACK_FRAMES = 6  # frames without audio: the one that states the length, the encoder's delay and padding
# Bit rates of MPEG layer III in kbit/s by their index, of version 1 and of versions 2 and 2.5; 0 is invalid.
_MP3_KBIT_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MP3_KBIT_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_MP3_BLOCK_BYTES = 1 << 20
MP3_MAX_JUNK_BYTES = 16 << 20  # pictures and lyrics beside the audio are smaller
# libsndfile's log of a data chunk that promises more than the file holds.
_SIZE_LINE = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_TAIL_BYTES = 1 << 16  # an Ogg page is smaller than this


class AudioInfo(NamedTuple):
    """The header of an audio file.

    Attributes:
        num_frames: samples a channel, checked against the file.
        sample_rate_hz: samples a second.
        num_channels: channels.
        format, subtype: as libsndfile names them (``WAV``, ``PCM_16``).
    """

    num_frames: int
    sample_rate_hz: int
    num_channels: int
    format: str
    subtype: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate_hz


def probe_audio(path: Path | str, member: str = "") -> AudioInfo:
    """Reads the header of an audio file or of a tar's member (of an mp3, the headers of all frames); decodes nothing.

    A file without samples is no error here: its ``num_frames`` is 0. The header of an unchanged file is cached.

    Raises:
        UserError: the file is absent, not audio, shorter than its header says, or of unstated length.
    """
    if not is_url(path) and not os.path.isfile(path):
        raise UserError(f"{path} does not exist or is not a file.")
    # Cached: each segment of a long recording needs its header.
    return _header(*content_key(path), member)


def sound_source(path: Path | str, member: str, file: BinaryIO) -> Any:
    """The argument for soundfile: the name of a plain local file, as reading through Python costs time."""
    return file if member or is_url(path) else str(path)


@lru_cache(maxsize=256)
def _header(path: str, size_bytes: int, mtime_ns: int, member: str) -> AudioInfo:
    name = described(path, member)
    with open_audio_bytes(path, member) as file:
        if not file.read(1):
            raise UserError(f"{name} is an empty file (0 bytes). Record or export it again.")
        file.seek(0)
        try:
            info = soundfile.info(sound_source(path, member, file))
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise unreadable(name, error) from error
        if info.frames > MAX_NUM_FRAMES or info.samplerate <= 0:
            raise UserError(
                f"{name} does not say how long it is, as streams written to a pipe do. "
                f"Convert it, for example: ffmpeg -i {Path(path).name} out{Path(path).suffix}"
            )
        for stated_bytes, held_bytes in _SIZE_LINE.findall(info.extra_info):
            if int(held_bytes) < int(stated_bytes) < OPEN_SIZE_BYTES:
                raise cut_short(name, f"its header says {int(stated_bytes):,} bytes, it holds {int(held_bytes):,}")
        if (excess := wav_excess(file)) is not None:
            raise UserError(
                f"{name} holds {excess[1]:,} bytes of audio, but its header says {excess[0]:,}: its end would be lost. "
                "The header was written before the audio was whole. Convert it, for example: "
                "ffmpeg -ignore_length 1 -i FILE out.wav, or sox --ignore-length FILE out.wav"
            )
        if info.format == "OGG" and not _ogg_has_end(file):
            raise cut_short(name, "its last Ogg page is not the end of a stream")
        if info.format == "OGG" and (num_streams := num_ogg_streams(file)) > 1:
            raise UserError(
                f"{name} holds {num_streams} Ogg streams, one after the other: only the first would be read. "
                "Join them, for example: ffmpeg -i FILE out.flac"
            )
        if info.format == "MP3":
            _check_mp3_length(name, file, info.frames)
    return AudioInfo(info.frames, info.samplerate, info.channels, info.format, info.subtype)


def _ogg_has_end(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is complete and ends the stream (RFC 3533, section 6)."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _OGG_TAIL_BYTES))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    num_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])


def _check_mp3_length(name: str, file: BinaryIO, stated_samples: int) -> None:
    """Compares libsndfile's length, at which it stops reading, with the frames in the file.

    libsndfile takes the length from the first frame, or guesses it from the first bit rate: it can be far off.
    """
    try:
        held_samples, frame_samples = _count_mp3_samples(file)
    except ValueError as error:
        raise UserError(f"{name} {error}. Convert it, for example: ffmpeg -i FILE out.wav") from None
    if frame_samples and stated_samples > held_samples + frame_samples:
        raise cut_short(name, f"its header says {stated_samples:,} samples, its frames hold {held_samples:,}")
    if frame_samples and held_samples > stated_samples + MP3_SLACK_FRAMES * frame_samples:
        raise UserError(
            f"{name} holds {held_samples:,} samples, but its header, or the lack of one, tells {stated_samples:,}: "
            "its end would be lost. Convert it, for example: ffmpeg -i FILE out.wav"
        )


def _count_mp3_samples(file: BinaryIO) -> tuple[int, int]:
    """Samples a channel in all frames of an MP3 and in one frame, from the frames' headers (ISO 11172-3, 2.4.1.3).

    Both are 0 if there is no frame of layer III. The file is read block by block.

    Raises:
        ValueError: frames lie behind more than ``MP3_MAX_JUNK_BYTES`` that are none.
    """
    file.seek(0)
    start = file.read(10)
    position = num_samples = frame_samples = 0
    if start[:3] == b"ID3" and len(start) == 10:  # its size has 7 bits a byte
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
    heard = position  # up to here, the file is frames
    while True:
        file.seek(position)
        if len(block := file.read(_MP3_BLOCK_BYTES)) < 4:
            return num_samples, frame_samples
        at = 0
        while at < len(block) - 3:
            if (frame := _mp3_frame(block[at : at + 3])) is None:
                found = block.find(b"\xff", at + 1)
                at = found if found >= 0 else len(block)
                continue
            frame_samples, frame_bytes = frame
            num_samples += frame_samples
            at += frame_bytes
            heard = position + at
        position += at
        if position - heard > MP3_MAX_JUNK_BYTES:
            raise ValueError(f"holds more than {MP3_MAX_JUNK_BYTES:,} bytes in a row that are no audio")


def _mp3_frame(header: bytes) -> tuple[int, int] | None:
    """Samples and bytes of the frame of layer III that begins with these three bytes; None if none does."""
    sync, second, third = header
    version = (second >> 3) & 3  # 3 is MPEG 1, 2 is 2, 0 is 2.5
    kbit = (_MP3_KBIT_1 if version == 3 else _MP3_KBIT_2)[third >> 4]
    rate_index = (third >> 2) & 3
    if sync != 0xFF or second & 0xE6 != 0xE2 or version == 1 or not kbit or rate_index == 3:
        return None
    rate_hz = (44100, 48000, 32000)[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    num_samples = MP3_FRAME if version == 3 else MP3_FRAME // 2
    return num_samples, num_samples * kbit * 125 // rate_hz + ((third >> 1) & 1)


def unreadable(name: str, error: Exception) -> UserError:
    """The error for a file that cannot be decoded."""
    return UserError(f"{name} cannot be read as audio ({error}). It must be a whole wav, flac, ogg or mp3 file.")


def cut_short(name: str, evidence: str) -> UserError:
    """The error for a file that ends too early."""
    return UserError(f"{name} is cut short: {evidence}. Copy or export it again.")
