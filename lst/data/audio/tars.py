"""Members of uncompressed tars that may come from anywhere: found by their headers, held to what the file can hold.

A tar is read by offset and never unpacked. Headers may lie: a negative size would lead back to what was read before, a
large one into nothing, and the name of a member may be as long as the file. So each header is looked at before its
numbers are used, and no read of a header takes more than ``MAX_HEADER_BYTES``.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from lst.data.audio.parquet_cells import is_parquet, open_cell
from lst.data.audio.places import content_key, open_location
from lst.errors import UserError
from lst.storage import is_url, leads_out

# Of one request for a part of a header, and of a member's name.
MAX_HEADER_BYTES, MAX_NAME_CHARS = 1 << 20, 4096
# How far behind the end mark is looked for what would be lost: writers pad tars with less.
PADDING_BYTES = 1 << 20
# What reading a damaged or hostile tar may raise. Headers that lead to each other without end are a RecursionError.
TAR_ERRORS = (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, OverflowError, MemoryError)
_KINDS = (
    (tarfile.TarInfo.issym, "a symbolic link"),
    (tarfile.TarInfo.islnk, "a hard link"),
    (tarfile.TarInfo.isfifo, "a FIFO"),
    (tarfile.TarInfo.isdev, "a device"),
    (tarfile.TarInfo.issparse, "a sparse file"),
)


class _Bounded:
    """A file of which one read takes no more than ``MAX_HEADER_BYTES``; what tarfile needs, and nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, num_bytes: int) -> bytes:
        """Reads as ``file`` does; raises ``tarfile.HeaderError`` for more, or fewer than no bytes."""
        if not 0 <= num_bytes <= MAX_HEADER_BYTES:
            raise tarfile.HeaderError(f"a header asks for {num_bytes:,} bytes, at most {MAX_HEADER_BYTES:,} are read")
        return self.file.read(num_bytes)


def open_tar(path: Path | str, file: BinaryIO) -> tarfile.TarFile:
    """Opens an uncompressed tar; a compressed one could only be read from its start.

    Raises:
        UserError: the file is compressed, or not a tar.
    """
    try:
        return tarfile.open(fileobj=_Bounded(file), mode="r:")  # type: ignore[call-overload]
    except TAR_ERRORS as error:
        raise UserError(f"{path} is not an uncompressed tar ({error}). Unpack it first: gunzip FILE") from None


def members(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of a tar in their order, folders left out. Those that are no regular file have a ``member_fault``.

    Raises:
        tarfile.TarError: a header names a size below zero or beyond the end of the file, or something that is no header
            stands behind the last member.
    """
    position = 0
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all of them
        # tarfile itself raises an error where a member ends behind the file.
        if tar.offset <= position or member.size < 0:
            raise tarfile.HeaderError(f"member {member.name[:100]!r} states a size that leads back in the file")
        if len(member.name) > MAX_NAME_CHARS:
            raise tarfile.HeaderError(f"a member has a name of {len(member.name):,} characters")
        position = tar.offset
        if not member.isdir():
            yield member
    # tarfile ends without a word at what is no header.
    file.seek(tar.offset)
    if file.read(PADDING_BYTES).strip(b"\0"):
        raise tarfile.HeaderError("it goes on behind its last member, where no header is")


def member_fault(member: tarfile.TarInfo) -> str:
    """Why a member cannot be read at its place in the tar; empty if it can.

    >>> link = tarfile.TarInfo("a.wav")
    >>> link.type, link.linkname = tarfile.SYMTYPE, "b.wav"
    >>> member_fault(link)
    'is a symbolic link, a regular file is needed'
    """
    if kind := next((name for is_kind, name in _KINDS if is_kind(member)), "" if member.isreg() else "no file"):
        return f"is {kind}, a regular file is needed"
    if leads_out(member.name):
        return "has a name that leads out of the tar"
    return ""


@lru_cache(maxsize=16)
def tar_directory(path: str, size_bytes: int, mtime_ns: int) -> dict[str, tuple[int, int] | str]:
    """Offset and size in bytes of each file in an uncompressed tar, by name, or why it cannot be read; cached.

    Args:
        path, size_bytes, mtime_ns: from ``content_key``, so that a changed file is read again.

    Raises:
        UserError: the file is not a complete, uncompressed tar.
    """
    found: dict[str, tuple[int, int] | str] = {}
    with open_location(path) as file, open_tar(path, file) as tar:
        try:
            for member in members(tar, file):
                place = member_fault(member) or (member.offset_data, member.size)
                found[member.name] = "is there twice" if member.name in found else place
        except TAR_ERRORS as error:
            raise UserError(f"{path} is damaged or cut short: it cannot be read as a tar ({error}).") from error
    return found


@contextlib.contextmanager
def open_audio_bytes(path: Path | str, member: str = "") -> Iterator[BinaryIO]:
    """Context manager: an audio file, a member of a tar or a cell of a Parquet file, opened for reading and seeking.

    Raises:
        UserError: the file is absent, the tar cannot be read, or it has no such member.
    """
    if not is_url(path) and not os.path.isfile(path):  # unlike Path.is_file, no error for names that are too long
        raise UserError(f"{path} does not exist or is not a file.")
    if member and is_parquet(path):
        yield open_cell(path, member)
        return
    found = tar_directory(*content_key(path)) if member else {}
    if member and member not in found:
        member = _names_by_spelling(*content_key(path)).get(_spelling(member), member)
    if member and member not in found:
        raise UserError(f"{path} has no member {member!r}; it has {len(found):,} others.")
    if member and isinstance(fault := found[member], str):
        raise UserError(f"{path}: member {member!r} {fault}.")
    with open_location(path) as file:
        yield io.BufferedReader(_Part(file, *found[member])) if member else file


@lru_cache(maxsize=16)
def _names_by_spelling(path: str, size_bytes: int, mtime_ns: int) -> dict[str, str]:
    return {_spelling(name): name for name in tar_directory(path, size_bytes, mtime_ns)}


def _spelling(name: str) -> str:
    """A member's name whatever its Unicode form, and without the ``./`` that ``tar`` puts before names in a folder."""
    return unicodedata.normalize("NFC", name).removeprefix("./")


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
