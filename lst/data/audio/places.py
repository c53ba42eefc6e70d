"""Where the bytes of audio lie: a local file, a file behind a URL, or one member of an uncompressed tar of either.

A member is opened where it stands in its tar: the tar's directory is read once a process, and no other member is.
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
    """Where an utterance's audio is: a ``ManifestRow`` or an ``AudioRef``."""

    @property
    def path(self) -> Path | str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def is_segment(self) -> bool: ...
    @property
    def channel(self) -> int | None: ...
    @property
    def member(self) -> str: ...


@dataclass(frozen=True)
class AudioRef:
    """An ``AudioPlace`` alone; see ``ManifestRow`` for the fields."""

    path: Path | str
    start_s: float = 0.0
    duration_s: float | None = None
    is_segment: bool = False
    channel: int | None = None
    member: str = ""


def format_audio_ref(place: AudioPlace) -> str:
    """One text that says where audio is: its path, and after a # what of it (``a.tar#member=b.flac&t=1.5,4``)."""
    parts = [f"member={quote(place.member)}"] if place.member else []
    parts += [] if place.channel is None else [f"channel={place.channel}"]
    if place.is_segment:
        end = "" if place.duration_s is None else f",{place.start_s + place.duration_s:.9g}"
        parts.append(f"t={place.start_s:.9g}{end}")
    return f"{place.path}#{'&'.join(parts)}" if parts else str(place.path)


def parse_audio_ref(ref: str) -> AudioRef:
    """Inverse of ``format_audio_ref``; a file whose own name holds a # stays that file."""
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
    """Whether the file that a reference names is there."""
    return bool(ref) and is_present(parse_audio_ref(ref).path)


def described(path: Path | str, member: str = "") -> str:
    """A place's name for messages."""
    return f"{path}, member {member}" if member else str(path)


def open_location(path: Path | str) -> BinaryIO:
    """Opens a local file or a URL for reading bytes.

    Raises:
        UserError: it is absent or cannot be opened.
    """
    try:
        return storage.open_binary(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist or is not a file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error


def content_key(path: Path | str) -> tuple[str, int, int]:
    """Name, size in bytes and time of change: equal as long as the file is the same; the last two are 0 for a URL."""
    if is_url(path):
        return str(path), 0, 0
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        raise UserError(f"{path} does not exist or is not a file.") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def is_present(path: Path | str) -> bool:
    """Whether a local file is there; a URL is taken to be there until it is opened."""
    return is_url(path) or os.path.exists(path)


@contextlib.contextmanager
def open_audio_bytes(path: Path | str, member: str = "") -> Iterator[BinaryIO]:
    """Opens an audio file, or a member of a tar of audio, for reading and seeking.

    Raises:
        UserError: the file is absent, the tar cannot be read, or it has no such member.
    """
    if not is_url(path) and not os.path.isfile(path):  # unlike Path.is_file, no error for names that are too long
        raise UserError(f"{path} does not exist or is not a file.")
    if not member:
        with open_location(path) as file:
            yield file
        return
    members = tar_directory(*content_key(path))
    if member not in members:
        raise UserError(f"{path} has no member {member!r}; it has {len(members):,} others.")
    offset, num_bytes = members[member]
    with open_location(path) as file:
        yield io.BufferedReader(_Part(file, offset, num_bytes))


@lru_cache(maxsize=16)
def tar_directory(path: str, size_bytes: int, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Place and size in bytes of each file in an uncompressed tar; the arguments are those of ``content_key``.

    Raises:
        UserError: the file is no whole, uncompressed tar.
    """
    with open_location(path) as file, open_tar(path, file) as tar:
        try:
            found = {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise UserError(f"{path} is damaged or cut short: it cannot be read as a tar ({error}).") from error
    return found


def open_tar(path: Path | str, file: BinaryIO) -> tarfile.TarFile:
    """Opens a tar that must be uncompressed, as members of others can only be read from the start.

    Raises:
        UserError: it is compressed, or no tar.
    """
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is no uncompressed tar ({error}). Unpack it first: gunzip FILE") from None


class _Part(io.RawIOBase):
    """``num_bytes`` of a file from ``offset`` on, as a file of its own."""

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
