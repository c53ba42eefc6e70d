"""Temporary files for what does not fit into memory."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator

from lst.errors import DiskFullError

IN_MEMORY_BYTES = 8 << 20


class TemporaryBytes:
    """Bytes that can be added to and read in part; from ``IN_MEMORY_BYTES`` on they lie in a file without a name.

    The file is where ``TMPDIR`` says, and is gone with the object.

    Raises:
        DiskFullError: the disk of temporary files is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="lst-")  # noqa: SIM115
        self.num_bytes = 0

    def add(self, content: bytes) -> int:
        """Adds bytes at the end; returns how many."""
        with _full_disk_named():
            self._file.seek(self.num_bytes)
            self._file.write(content)
        self.num_bytes += len(content)
        return len(content)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``."""
        with _full_disk_named():  # what was added last is written now
            self._file.seek(start)
            return self._file.read(end - start)

    def blocks(self, num_bytes: int = 1 << 20) -> Iterator[bytes]:
        """All bytes in order."""
        return (self.read(start, start + num_bytes) for start in range(0, self.num_bytes, num_bytes))


@contextlib.contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFullError(
            f"the disk that holds temporary files, {tempfile.gettempdir()}, is full. Free some space there, or name "
            "another place with the environment variable TMPDIR, and run the same command again."
        ) from error
