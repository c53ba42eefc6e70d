"""Opens audio at any place: a local file, a URL, or a member of an uncompressed tar at either.

A member is read at its place in the tar: each process reads the tar's directory once, and no other member.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qs, quote

from lst import storage
from lst.errors import UserError
from lst.storage import is_url

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")


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

    >>> format_audio_ref(AudioRef("a.tar", start_s=1.5, duration_s=2.5, is_segment=True, member="b.flac"))
    'a.tar#member=b.flac&t=1.5,4'
    """
    parts = [f"member={quote(place.member)}"] if place.member else []
    parts += [] if place.channel is None else [f"channel={place.channel}"]
    if place.is_segment:
        end = "" if place.duration_s is None else f",{place.start_s + place.duration_s:.9g}"
        parts.append(f"t={place.start_s:.9g}{end}")
    return f"{place.path}#{'&'.join(parts)}" if parts else str(place.path)


def parse_audio_ref(ref: str) -> AudioRef:
    """Inverse of ``format_audio_ref``. A ``#`` in the name of a file is kept.

    >>> parse_audio_ref("s3://bucket/a.wav#channel=1&t=1.5,4")
    AudioRef(path='s3://bucket/a.wav', start_s=1.5, duration_s=2.5, is_segment=True, channel=1, member='')
    """
    path, mark, what = ref.rpartition("#")
    cells = parse_qs(what)
    if not mark or not cells or set(cells) - {"member", "channel", "t"}:
        return AudioRef(_location(ref))
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


@contextlib.contextmanager
def open_audio_bytes(path: Path | str, member: str = "") -> Iterator[BinaryIO]:
    """Context manager: an audio file, or a member of a tar, opened for reading and seeking.

    Raises:
        UserError: the file is absent, the tar cannot be read, or it has no such member.
    """
    if not is_url(path) and not os.path.isfile(path):  # unlike Path.is_file, no error for names that are too long
        raise UserError(f"{path} does not exist or is not a file.")
    members = tar_directory(*content_key(path)) if member else {}
    if member and member not in members:
        raise UserError(f"{path} has no member {member!r}; it has {len(members):,} others.")
    with open_location(path) as file:
        yield io.BufferedReader(_Part(file, *members[member])) if member else file


@lru_cache(maxsize=16)
def tar_directory(path: str, size_bytes: int, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each file in an uncompressed tar, by name; cached.

    Args:
        path, size_bytes, mtime_ns: from ``content_key``, so that a changed file is read again.

    Raises:
        UserError: the file is not a complete, uncompressed tar.
    """
    with open_location(path) as file, open_tar(path, file) as tar:
        try:
            return {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise UserError(f"{path} is damaged or cut short: it cannot be read as a tar ({error}).") from error


def open_tar(path: Path | str, file: BinaryIO) -> tarfile.TarFile:
    """Opens an uncompressed tar; a compressed one could only be read from its start.

    Raises:
        UserError: the file is compressed, or not a tar.
    """
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not an uncompressed tar ({error}). Unpack it first: gunzip FILE") from None


class _Part(io.RawIOBase):
    """A read-only file of ``num_bytes`` bytes of another file, from ``offset`` on."""

    def __init__(self, file: BinaryIO, offset: int, num_bytes: int) -> None:
        self.file, self.offset, self.num_bytes, self.position = file, offset, num_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.num_bytes}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self.num_bytes - self.position)]
        self.file.seek(self.offset + self.position)
        content = self.file.read(len(view))
        view[: len(content)] = content
        self.position += len(content)
        return len(content)
