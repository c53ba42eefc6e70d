"""Opens audio at any place: a local file, a URL, or a member of an uncompressed tar at either.

``lst.data.audio.tars`` reads members of tars.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import parse_qs, quote

from lst import storage
from lst.errors import UserError
from lst.storage import is_url

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
# What ``format_audio_ref`` writes behind a path: a member, a channel, times; one or more of them, in this order.
_WHAT = re.compile(r"#(?=.)(member=[^&#]+)?(&?channel=\d+)?(&?t=[\d.e+-]+(,[\d.e+-]+)?)?$")


class AudioPlace(Protocol):
    """Where the audio of an utterance is: a ``ManifestRow`` or an ``AudioRef``."""

    @property
    def path(self) -> Path | str:
        """The audio file, or a tar; a str for a URL."""

    @property
    def start_s(self) -> float:
        """Start of the segment in the file, in seconds."""

    @property
    def duration_s(self) -> float | None:
        """Length of the segment in seconds; None up to the end of the file."""

    @property
    def is_segment(self) -> bool:
        """Whether the audio is a part of the file."""

    @property
    def channel(self) -> int | None:
        """The channel to read, counted from 0; None averages all."""

    @property
    def member(self) -> str:
        """Name of the audio file in the tar; empty if ``path`` is the audio file."""


@dataclass(frozen=True)
class AudioRef:
    """An ``AudioPlace`` and nothing else; see there for the fields."""

    path: Path | str
    start_s: float = 0.0
    duration_s: float | None = None
    is_segment: bool = False
    channel: int | None = None
    member: str = ""


def format_audio_ref(place: AudioPlace) -> str:
    """Writes a place as one text: the path, then after a ``#`` the member, the channel and the times in seconds.

    A path that could be read as such a text itself is followed by a lone ``#``.

    >>> format_audio_ref(AudioRef("a.tar", start_s=1.5, duration_s=2.5, is_segment=True, member="b.flac"))
    'a.tar#member=b.flac&t=1.5,4'
    """
    parts = [f"member={quote(place.member)}"] if place.member else []
    parts += [] if place.channel is None else [f"channel={place.channel}"]
    if place.is_segment:
        end = "" if place.duration_s is None else f",{place.start_s + place.duration_s:.9g}"
        parts.append(f"t={place.start_s:.9g}{end}")
    path = str(place.path)
    is_plain = not parts and not path.endswith("#") and _WHAT.search(path) is None
    return path if is_plain else f"{path}#{'&'.join(parts)}"


def parse_audio_ref(ref: str) -> AudioRef:
    """Inverse of ``format_audio_ref``. A ``#`` in the name of a file is kept.

    >>> parse_audio_ref("s3://bucket/a.wav#channel=1&t=1.5,4")
    AudioRef(path='s3://bucket/a.wav', start_s=1.5, duration_s=2.5, is_segment=True, channel=1, member='')
    """
    if _WHAT.search(ref) is None:
        return AudioRef(_location(ref.removesuffix("#")))
    path, _, what = ref.rpartition("#")
    cells = parse_qs(what)
    start, _, end = cells["t"][0].partition(",") if "t" in cells else ("0", "", "")
    return AudioRef(
        path=_location(path),
        start_s=float(start),
        duration_s=float(end) - float(start) if end else None,
        is_segment="t" in cells,
        channel=int(cells["channel"][0]) if "channel" in cells else None,
        member=cells["member"][0] if "member" in cells else "",
    )


def _location(path: str) -> Path | str:
    return path if "://" in path else Path(path)


def audio_exists(ref: str) -> bool:
    """Whether the file of a reference exists; see ``is_present``."""
    return bool(ref) and is_present(parse_audio_ref(ref).path)


def as_on_disk(path: Path | str) -> Path | str:
    """A path in the Unicode form that its file has: macOS and some archives take accents apart (NFD), lists do not.

    A path that is there, or is in neither form, stays as it is.
    """
    text = str(path)
    if text.isascii() or is_url(path) or os.path.exists(path):
        return path
    for form in ("NFC", "NFD"):
        if os.path.exists(found := unicodedata.normalize(form, text)):
            return Path(found)
    return _found_by_parts(Path(text)) or path


def _found_by_parts(path: Path) -> Path | None:
    """A path whose parts may each be in another form."""
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if not os.path.exists(found / part):
            try:
                names = os.listdir(found)
            except OSError:
                return None
            wanted = unicodedata.normalize("NFC", part)
            part = next((name for name in names if unicodedata.normalize("NFC", name) == wanted), "")
            if not part:
                return None
        found /= part
    return found


def described(path: Path | str, member: str = "") -> str:
    """The name of an audio file for messages.

    >>> described("a.tar", "b.flac")
    'a.tar, member b.flac'
    """
    return f"{path}, member {member}" if member else str(path)


def open_location(path: Path | str) -> BinaryIO:
    """Opens a local file or a URL for reading bytes.

    Raises:
        UserError: the file is absent or cannot be opened.
    """
    try:
        return storage.open_binary(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist or is not a file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error


def content_key(path: Path | str) -> tuple[str, int, int]:
    """Name, size in bytes and time of change in ns, which show whether a file has changed; a URL has 0 and 0."""
    if is_url(path):
        return str(path), 0, 0
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        raise UserError(f"{path} does not exist or is not a file.") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def is_present(path: Path | str) -> bool:
    """Whether a local file exists; True for every URL, which is only checked when it is opened."""
    return is_url(path) or os.path.exists(path)
