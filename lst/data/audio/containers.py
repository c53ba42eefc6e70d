"""Containers whose headers and content may disagree: WAV that holds more than its header says, and chained Ogg.

A decoder reads what the header of a WAV file promises, and of a chain of Ogg streams the first: the rest would be lost
in silence.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

# Writers that do not know the size beforehand write a number at or above this.
OPEN_SIZE_BYTES = 0x7FFFF000
_TAG_STARTS = (b"TAG", b"ID3", b"APETAGEX")  # of music players, behind the last chunk
_LONGEST_TAG_START = 8
_PADDING_BYTES = 1 << 16  # recorders fill up sectors
_CHUNK_NAME = re.compile(rb"(?=.*[A-Za-z])[A-Za-z0-9_ ]{4}")  # "LIST", "id3 ", and "_PMX" of Adobe's programs
_OGG_HEADER_BYTES = 27
_BEGINS_STREAM = 2


def wav_excess(file: BinaryIO) -> tuple[int, int] | None:
    """Bytes of audio that the header of a WAV file states, and those that the file holds, where it holds more.

    Behind the audio may stand further chunks, tags of music players, and a few zeros. None for other files, and where
    the header leaves the size open, as decoders then read up to the end.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        return None
    order = ">" if head[:4] == b"RIFX" else "<"
    position, large_bytes = 12, 0
    while len(chunk := _at(file, position, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", chunk)
        if name == b"ds64":
            large_bytes = struct.unpack("<Q", _at(file, position + 16, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            size = large_bytes if head[:4] == b"RF64" and size == 0xFFFFFFFF else size
            if size >= OPEN_SIZE_BYTES and head[:4] != b"RF64":
                return None
            return None if _is_end(file, position + 8 + size, num_bytes, order) else (size, num_bytes - position - 8)
        position += 8 + size + size % 2
    return None


def _is_end(file: BinaryIO, position: int, num_bytes: int, order: str) -> bool:
    """Whether only chunks, tags or a few zeros stand from ``position`` on, which is where the audio ends."""
    while position < num_bytes:
        head = _at(file, position, _LONGEST_TAG_START)
        if position % 2 and head[:1] == b"\0":  # chunks begin at even places
            position += 1
            continue
        if head.startswith(_TAG_STARTS):
            return True
        if not head.strip(b"\0"):
            return num_bytes - position <= _PADDING_BYTES and not _at(file, position, _PADDING_BYTES).strip(b"\0")
        if len(head) < 8:
            return False
        name, size = struct.unpack(f"{order}4sI", head)
        if _CHUNK_NAME.fullmatch(name) is None or position + 8 + size > num_bytes + 1:
            return False
        position += 8 + size
    return True


def _at(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position)
    return file.read(num_bytes)


def num_ogg_streams(file: BinaryIO) -> int:
    """Streams that follow one another in an Ogg file, from the headers of all pages (RFC 3533, sections 4 and 6).

    Streams that begin together, before any other page, are one group and count as one.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    position = found = 0
    was_begin = False
    while position + _OGG_HEADER_BYTES <= num_bytes:
        header = _at(file, position, _OGG_HEADER_BYTES + 255)
        if header[:4] != b"OggS":
            break
        is_begin = bool(header[5] & _BEGINS_STREAM)
        found += is_begin and not was_begin
        was_begin = is_begin
        num_segments = header[26]
        body_bytes = sum(header[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + num_segments])
        position += _OGG_HEADER_BYTES + num_segments + body_bytes
    return found
