"""Audio at any place: a file, a segment or channel of one, a member of a tar, a URL.

::

    place ──read_header──▶ length and rate that the file bears out
    place ──read_audio──▶ float32 waveform, mono, 16 kHz
"""

from lst.data.audio.places import AUDIO_SUFFIXES, audio_exists, described, format_audio_ref, is_present, open_location
from lst.data.audio.read import AudioInfo, probe_audio, read_audio, read_row_audio

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "audio_exists",
    "described",
    "format_audio_ref",
    "is_present",
    "open_location",
    "probe_audio",
    "read_audio",
    "read_row_audio",
]
