"""Arrays in ``.npy`` and ``.npz`` files of others: the header is read first, and nothing but numbers is taken."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from lst.storage.typed import FormatError, check_regular

# Numbers of weights hardly shrink: an archive that grows by more is no archive of weights.
MAX_GROWTH, _HEADER_READERS = (
    20,
    {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    },
)
_FREE_BYTES = 1 << 20


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name, or the one of an ``.npy`` file by the name ``""``.

    Raises:
        OSError: the file is missing or cannot be opened.
        FormatError: it is damaged, or holds something else than numbers; the message begins with a verb.
    """
    check_regular(path)
    with open(path, "rb") as file:
        try:
            return _archive(file) if zipfile.is_zipfile(file) else {"": _array(file, path.stat().st_size)}
        except (FormatError, OSError):
            raise
        except Exception as error:
            # numpy reads headers by Python's own parser, and lets the parser's errors through; its advice to allow
            # pickles is not passed on.
            raise FormatError(f"is damaged or holds more than plain arrays ({type(error).__name__})") from None


def _archive(file: BinaryIO) -> dict[str, np.ndarray]:
    num_bytes = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        needed = sum(member.file_size for member in members)
        if needed > MAX_GROWTH * num_bytes + _FREE_BYTES:
            raise FormatError(f"would take {needed:,} bytes unpacked, more than {MAX_GROWTH} times its {num_bytes:,}")
        found = {}
        for member in members:
            with archive.open(member) as opened:
                found[member.filename.removesuffix(".npy")] = _array(cast(BinaryIO, opened), member.file_size)
        return found


def _array(file: BinaryIO, num_bytes: int) -> np.ndarray:
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        raise FormatError(f"is of version {version} of the .npy format; 1.0 and 2.0 are read")
    shape, _, dtype = _HEADER_READERS[version](file)
    if dtype.kind not in "biuf":
        raise FormatError(f"is damaged or holds more than plain arrays of numbers: its type is {str(dtype)[:60]}")
    needed, there = math.prod(shape) * dtype.itemsize, num_bytes - file.tell()
    if min(shape, default=0) < 0 or needed != there:
        raise FormatError(f"is damaged: its header tells of {needed:,} bytes of numbers, {there:,} are there")
    file.seek(0)
    found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return found
