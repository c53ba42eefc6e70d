"""One thread of computing where processes share the cores: PyTorch's and those of every BLAS that is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch

from lst.parallel.machine import one_thread


def pools() -> list[int]:
    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())]


def test_within_the_block_there_is_one_thread_and_after_it_as_many_as_before() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpoolctl.threadpool_limits(2):
        torch.set_num_threads(2)
        try:
            before = pools()
            assert max(before) == 2
            with one_thread():
                assert set(pools()) == {1}
            assert pools() == before
        finally:
            torch.set_num_threads(1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to count a process's threads in")
def test_a_task_keeps_one_core_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS's second thread would wait in a loop beside it: processor time far above the time that passed."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    code = (
        "import time, numpy as np\n"
        "from lst.parallel.work import work\n"
        "def task(size):\n"
        "    matrix = np.ones((size, size), np.float32)\n"
        "    started = time.perf_counter(), time.process_time()\n"
        "    while time.perf_counter() - started[0] < 1.0:\n"
        "        matrix @ matrix\n"
        "    return (time.process_time() - started[1]) / (time.perf_counter() - started[0])\n"
        "print(work(task, 300).value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.2
