"""One thread of computing a process: where work is spread over processes, more would only be in each other's way.

PyTorch and the BLAS of NumPy have threads of their own. Those of OpenBLAS wait for the next product in a loop that
takes a whole core, so two processes of two threads each can be slower than one core would be for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import threadpoolctl
import torch


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
