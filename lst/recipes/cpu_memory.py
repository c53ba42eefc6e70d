"""Keeps freed memory in the process, so that a training step on the CPU does not fetch every tensor page by page."""

from __future__ import annotations

import ctypes
import platform
import sys

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tells glibc to reuse what was freed instead of giving it back to the system.

    A large tensor is otherwise mapped anew each time it is made, and every page of it costs a fault: a pass over 80 MB
    took 41 ms instead of 6 ms on the machine where this was measured. The process holds its peak until it ends.

    Returns:
        Whether there is a glibc to tell.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
