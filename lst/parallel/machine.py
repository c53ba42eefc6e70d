"""Threads and memory of a process: one thread where work is spread over processes, and freed memory that is kept.

PyTorch and the BLAS of NumPy have threads of their own. Those of OpenBLAS wait for the next product in a loop that
takes a whole core, so two processes of two threads each can be slower than one core would be for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
from collections.abc import Iterator

import threadpoolctl
import torch

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


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread within the block; sums come out the same on any number of cores."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(num_threads)


def set_one_thread() -> None:
    """One thread for the rest of this process."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
