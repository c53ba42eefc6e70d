"""Limits a process to one thread, makes it keep the memory that it frees, and measures its peak.

PyTorch and NumPy's BLAS have their own threads. OpenBLAS's threads wait in a busy loop, so on two cores, two processes
with two threads each can be slower than two processes with one thread each.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import threadpoolctl
import torch

from lst.errors import UserError

# If this environment variable is 0, processes return freed memory to the system.
KEEP_VARIABLE = "LST_KEEP_FREED_MEMORY"
# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Makes glibc reuse freed memory instead of returning it to the system.

    Otherwise each new large tensor is mapped again, with a page fault for each page: a pass over 80 MB took 41 ms
    instead of 6 ms. The process keeps its peak memory until it ends.

    Returns:
        Whether it worked; False without glibc, and where ``LST_KEEP_FREED_MEMORY=0`` asks for its default.
    """
    if os.environ.get(KEEP_VARIABLE) == "0":
        return False
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context manager: one thread, so that sums are the same on any number of cores."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(num_threads)


def set_one_thread() -> None:
    """Limits the rest of this process to one thread."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)


# How launchers tell a process that it is one of several: torchrun, srun, and those of MPI.
_TASK_COUNTS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def check_one_process(command: str) -> None:
    """Raises ``UserError`` where a launcher has started this command several times.

    Each of the processes would do all of the work, and write it into one folder.
    """
    for variable in _TASK_COUNTS:
        count = os.environ.get(variable, "")
        if count.isdigit() and int(count) > 1:
            raise UserError(
                f"{command} was started as {count} processes ({variable}={count}), and each would train all of the "
                "model in one folder. Start it once: without torchrun, or with srun --ntasks=1. lst train alone "
                "divides its work among the processes of torchrun or srun, with train.devices"
            )


def peak_memory_bytes() -> int:
    """Peak memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program only; getrusage includes the program that the process ran before exec.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
