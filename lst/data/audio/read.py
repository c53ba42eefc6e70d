"""Reads audio as float32 mono at one rate: a whole file or a segment of it.

soundfile (libsndfile) decodes. torchaudio resamples; it is imported only if the rates differ.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from lst.data.audio.header import MP3_FRAME, AudioInfo, cut_short, probe_audio, sound_source, unreadable
from lst.data.audio.places import AudioPlace, AudioRef, content_key, described, parse_audio_ref
from lst.data.audio.tars import open_audio_bytes
from lst.errors import LstError, UserError
from lst.lazy import import_torchaudio
from lst.storage.access import size_problem

MAX_RESAMPLE_KERNEL = 50_000_000  # weights of the resampler's filters: 200 MB of float32
RESAMPLE_ZEROS, RESAMPLE_ROLLOFF = 6, 0.99  # of torchaudio's windowed sinc; they give the filter's length
SEGMENT_SLACK_S = 0.011  # a segment may pass the end of its file by this, as its times may be rounded to 0.01 s
_BLOCK_SAMPLES = 1 << 16  # of all channels that are decoded at a time
MAX_RATE_HZ = 1_000_000  # recorders go up to 768 kHz


def read_audio_ref(ref: str, sample_rate_hz: int = 16000) -> npt.NDArray[np.float32]:
    """Reads the audio of a text that ``format_audio_ref`` wrote; see ``read_row_audio``."""
    return read_row_audio(parse_audio_ref(ref), sample_rate_hz)


def read_audio(path: Path | str, sample_rate_hz: int = 16000) -> npt.NDArray[np.float32]:
    """Reads an audio file (wav, flac, ogg, opus, mp3) as mono at ``sample_rate_hz``.

    Args:
        path: the file, at any rate, with any number of channels; channels are averaged.
        sample_rate_hz: the wanted rate in Hz.

    Returns:
        float32 ``[num_frames]``, full scale ±1, with ``num_frames = ceil(frames in the file · wanted / own rate)``.

    Raises:
        UserError: the file is absent, unreadable, cut short, without samples, or has NaN or infinite samples.
    """
    return read_row_audio(AudioRef(path), sample_rate_hz)


def read_row_audio(row: AudioPlace, sample_rate_hz: int = 16000) -> npt.NDArray[np.float32]:
    """Reads the audio of one utterance: a whole file or a segment; one channel or the mean of all; from a tar or not.

    A segment equals the slice ``[round(start_s · rate) : round((start_s + duration_s) · rate)]`` of the whole file at
    the wanted rate, but only its part of the file is decoded. Seeking in MP3 and Opus would change samples: these are
    decoded from their start, or from the end of the segment that this thread read last.

    Args:
        row: where the audio is.
        sample_rate_hz: the wanted rate in Hz.

    Returns:
        float32 ``[num_samples]``, full scale ±1.

    Raises:
        UserError: as ``read_audio``; the segment is outside the file; there is no such channel or member.
    """
    header = probe_audio(row.path, row.member)
    name = described(row.path, row.member)
    if header.num_frames == 0:
        raise UserError(f"{name} is empty: its header says 0 samples. Record or export it again.")
    if faults := place_faults(row, header.duration_s, header.num_channels):
        raise UserError(f"{name}: {'; '.join(faults)}")
    own_rate_hz = header.sample_rate_hz
    if not row.is_segment:
        return resample(name, _mono(row, header, 0, header.num_frames), own_rate_hz, sample_rate_hz)
    divisor = math.gcd(own_rate_hz, sample_rate_hz)
    own, wanted = own_rate_hz // divisor, sample_rate_hz // divisor
    first = round(row.start_s * sample_rate_hz)
    last = math.ceil(header.num_frames * wanted / own)
    if row.duration_s is not None:
        last = min(last, round((row.start_s + row.duration_s) * sample_rate_hz))
    if last <= first:
        raise UserError(f"{name}: the segment from {row.start_s:g} s on is shorter than one sample")
    # Each block of `own` samples gives `wanted` samples; the filter also reads its neighbours within `reach` blocks.
    reach = 0 if own == wanted else math.ceil(RESAMPLE_ZEROS / RESAMPLE_ROLLOFF / min(own, wanted)) + 1
    first_block = max(0, first // wanted - reach)
    end = min(header.num_frames, (math.ceil(last / wanted) + reach) * own)
    part = resample(name, _mono(row, header, first_block * own, end), own_rate_hz, sample_rate_hz)
    return np.ascontiguousarray(part[first - first_block * wanted : last - first_block * wanted])


def read_own_samples(row: AudioPlace) -> npt.NDArray[np.float32]:
    """Decodes the audio of one utterance at its file's own rate, all channels.

    Returns:
        float32 ``[num_samples, num_channels]``.

    Raises:
        UserError: as ``read_row_audio``.
    """
    header = probe_audio(row.path, row.member)
    name = described(row.path, row.member)
    if faults := place_faults(row, header.duration_s, header.num_channels):
        raise UserError(f"{name}: {'; '.join(faults)}")
    first, end = 0, header.num_frames
    if row.is_segment:
        first = round(row.start_s * header.sample_rate_hz)
        last_s = header.duration_s if row.duration_s is None else row.start_s + row.duration_s
        end = min(end, round(last_s * header.sample_rate_hz))
    if end <= first:
        raise UserError(f"{name} holds no sample here: its header says {header.num_frames:,} samples")
    samples = np.empty((0, header.num_channels), np.float32)
    num_decoded = 0
    for block in _checked_blocks(row, header, first, end, header.num_channels):
        if not num_decoded:
            # Not before: a damaged header may ask for more than there is.
            samples = np.empty((end - first, header.num_channels), np.float32)
        samples[num_decoded : num_decoded + len(block)] = block
        num_decoded += len(block)
    if not np.isfinite(samples[:num_decoded]).all():
        raise _not_finite(name)
    return samples[:num_decoded]


def place_faults(row: AudioPlace, duration_s: float, num_channels: int) -> list[str]:
    """Faults of a segment that is outside its file of ``duration_s`` seconds, and of a channel that is not there."""
    faults = []
    if row.channel is not None and not 0 <= row.channel < num_channels:
        faults.append(f"channel {row.channel} is asked for, the audio has {num_channels} (counted from 0)")
    if row.is_segment:
        end_s = row.start_s if row.duration_s is None else row.start_s + row.duration_s
        if row.start_s >= duration_s or end_s > duration_s + SEGMENT_SLACK_S:
            shown = f"{row.start_s:.6g} to {end_s:.6g} s" if row.duration_s is not None else f"from {end_s:.6g} s on"
            faults.append(f"the segment, {shown}, is not within the audio of {duration_s:.6g} s")
    return faults


def _mono(row: AudioPlace, header: AudioInfo, first: int, end: int) -> npt.NDArray[np.float32]:
    """Decodes samples ``[end − first]`` at the file's own rate: one channel, or the mean of all."""
    mono = np.empty(0, np.float32)
    num_decoded = 0
    for block in _checked_blocks(row, header, first, end):
        if not num_decoded:
            mono = np.empty(end - first, np.float32)
        part = mono[num_decoded : num_decoded + len(block)]
        if row.channel is not None or block.shape[1] == 1:
            part[:] = block[:, row.channel or 0]
        else:
            block.mean(axis=1, dtype=np.float32, out=part)
        num_decoded += len(block)
    mono = mono[:num_decoded]
    if not np.isfinite(mono).all():
        raise _not_finite(described(row.path, row.member))
    return mono


def _not_finite(name: str) -> UserError:
    return UserError(f"{name} holds NaN or infinite samples. Export it again, for example as 16-bit wav.")


def _checked_blocks(
    row: AudioPlace, header: AudioInfo, first: int, end: int, num_channels: int = 1
) -> Iterator[npt.NDArray[np.float32]]:
    """The blocks of ``_decode``; ``UserError`` where they are too many to hold, or fewer than the header says.

    So many channels are held.
    """
    name = described(row.path, row.member)
    # A few bytes may stand for hours of silence, so what they decode to is limited, not only the file.
    if too_large := size_problem(4 * num_channels * (end - first), "decodes to"):
        raise UserError(f"{name} {too_large}. Name a part of it (start_s, duration_s).")
    num_decoded = 0
    try:
        for block in _decode(row, header, first, end - first):
            num_decoded += len(block)
            yield block
    except LstError:
        raise
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError, OSError) as error:
        raise unreadable(name, error) from error
    if num_decoded < end - first - (MP3_FRAME if header.format == "MP3" else 0):
        raise cut_short(name, f"{first + num_decoded:,} of {header.num_frames:,} samples could be decoded")


def _decode(row: AudioPlace, header: AudioInfo, first: int, num_frames: int) -> Iterator[npt.NDArray[np.float32]]:
    """Blocks of samples ``[≤ num_frames, num_channels]`` from ``first`` on; together at most ``num_frames``."""
    block_frames = max(1, _BLOCK_SAMPLES // header.num_channels)
    if row.is_segment and (header.format == "MP3" or header.subtype == "OPUS"):
        yield from _forward.read(row.path, row.member, first, num_frames, block_frames)
        return
    with _opened(row.path, row.member) as sound:
        if first:
            sound.seek(first)
        yield from _blocks(sound, num_frames, block_frames)


def _blocks(sound: Any, num_frames: int, block_frames: int) -> Iterator[npt.NDArray[np.float32]]:
    while num_frames and len(block := sound.read(min(block_frames, num_frames), dtype="float32", always_2d=True)):
        num_frames -= len(block)
        yield block


class _Unsought(soundfile.SoundFile):
    """A sound file that is read block by block. soundfile otherwise seeks after each block: MP3 decoding restarts."""

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def _opened(path: Path | str, member: str) -> Iterator[Any]:
    with open_audio_bytes(path, member) as file, _Unsought(sound_source(path, member, file)) as sound:
        yield sound


class _ForwardDecoder(threading.local):
    """Decodes a file from its start, and keeps its position for the next segment."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] = ()
        self.stack = contextlib.ExitStack()
        self.sound: Any = None
        self.position = 0

    def read(
        self, path: Path | str, member: str, first: int, num_frames: int, block_frames: int
    ) -> Iterator[npt.NDArray[np.float32]]:
        key = (*content_key(path), member)
        if key != self.key or first < self.position:
            self.close()
            self.sound = self.stack.enter_context(_opened(path, member))
            self.key = key
        try:
            for block in _blocks(self.sound, first - self.position, block_frames):
                self.position += len(block)
            for block in _blocks(self.sound, num_frames, block_frames):
                self.position += len(block)
                yield block
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.stack.close()
        self.key, self.position = (), 0


_forward = _ForwardDecoder()


def resample(
    name: str, mono: npt.NDArray[np.float32], own_rate_hz: int, wanted_rate_hz: int
) -> npt.NDArray[np.float32]:
    """Resamples ``[num_frames]`` samples; needs torchaudio only if the rates differ.

    Raises:
        UserError: the rates have too small a common divisor; it begins with ``name``.
    """
    if own_rate_hz == wanted_rate_hz:
        return mono
    if fault := rate_fault(own_rate_hz, wanted_rate_hz):
        raise UserError(f"{name} {fault}")
    torchaudio = import_torchaudio()
    import torch

    resampled = torchaudio.functional.resample(
        torch.from_numpy(mono), own_rate_hz, wanted_rate_hz, RESAMPLE_ZEROS, RESAMPLE_ROLLOFF
    )
    return resampled.numpy()


def rate_fault(own_rate_hz: int, wanted_rate_hz: int = 16000) -> str:
    """Why audio cannot be resampled from one rate to another; empty if it can.

    >>> rate_fault(44_100), rate_fault(999_983)[:20]
    ('', 'has 999983 Hz, which')
    """
    if own_rate_hz > MAX_RATE_HZ:
        return f"has {own_rate_hz} Hz, allowed are up to {MAX_RATE_HZ}"
    divisor = math.gcd(own_rate_hz, wanted_rate_hz)
    if (own_rate_hz // divisor) * (wanted_rate_hz // divisor) <= MAX_RESAMPLE_KERNEL:
        return ""
    return (
        f"has {own_rate_hz} Hz, which has too small a common divisor with {wanted_rate_hz} Hz "
        f"to be resampled here. Convert it first, for example: ffmpeg -i FILE -ar {wanted_rate_hz} out.wav"
    )
