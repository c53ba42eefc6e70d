"""Audio at any place: a file, a segment or channel of a file, a member of a tar, a URL.

::

    place ──probe_audio──▶ AudioInfo: length and rate, checked against the file
    place ──read_audio, read_row_audio──▶ float32 waveform, mono, 16 kHz
"""

from lst.data.audio.header import AudioInfo, probe_audio
from lst.data.audio.places import (
    AUDIO_SUFFIXES,
    as_on_disk,
    audio_exists,
    described,
    format_audio_ref,
    is_present,
    open_location,
)
from lst.data.audio.read import read_audio, read_row_audio, resample

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "as_on_disk",
    "audio_exists",
    "described",
    "format_audio_ref",
    "is_present",
    "open_location",
    "probe_audio",
    "read_audio",
    "read_row_audio",
    "resample",
]
