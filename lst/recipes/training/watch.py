"""What a person watches beside the loss: rates, the share of the device's peak, waiting for data, memory.

::

    batches ──timed──▶ training      a row of speed.jsonl every train.watch_every steps

These numbers differ from run to run. So they have a file of their own: ``metrics.jsonl`` is the same on every run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypedDict, TypeVar

import torch

from lst import parallel
from lst.parallel import ALONE, Ranks
from lst.recipes.training.cluster_plan import peak_flops
from lst.runs.formats import LanguageModelRow
from lst.storage import Count

SPEED_FILE = "speed.jsonl"
_PEAK_SIZE, _PEAK_TRIES = 8192, 5
_DTYPES = {"64-true": torch.float64, "32-true": torch.float32, "16-mixed": torch.float16}
_Batch = TypeVar("_Batch")


class SpeedRow(TypedDict):
    """A row of ``speed.jsonl``: of the steps since the row before it, on all devices together.

    Keys:
        step: the last of them.
        num_steps: how many.
        tokens_per_s, patches_per_s, flops_per_s: of forward and backward pass.
        peak_share: of the operations a second in matrix products of the training's precision that was measured on the
            device before the first row.
        data_wait_share: share of the time in which a device waited for its batches.
        peak_memory_bytes: the most of any device so far: of the process on a CPU, of tensors on a GPU.
    """

    step: Count
    num_steps: Count
    tokens_per_s: float
    patches_per_s: float
    flops_per_s: float
    peak_share: float
    data_wait_share: float
    peak_memory_bytes: float


class Watch:
    """Measures a training.

    Args:
        every: steps between rows.
        precision: of the training.
        device: on which it runs.
        ranks: processes that train together; all of them ask for every row.
    """

    def __init__(self, every: int, precision: str, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.every, self.precision, self.device, self.ranks = every, precision, device, ranks
        self._peak = 0.0
        self._waited_s = 0.0
        self._before: LanguageModelRow | None = None
        self._started_s = 0.0

    def timed(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        """The same batches; the time until each is there is noted."""
        iterator = iter(batches)
        while True:
            started_s = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - started_s
            yield batch

    def row(self, counts: LanguageModelRow) -> SpeedRow | None:
        """The row that is due after a step; None where none is.

        Args:
            counts: the row of ``metrics.jsonl`` of the step, whose counts are sums over all devices.
        """
        step, before = counts["step"], self._before
        if before is None:
            # The first step loads and compiles: the watch begins after it.
            self._begin(counts)
            return None
        if step % self.every:
            return None
        elapsed_s = max(time.perf_counter() - self._started_s, 1e-9)
        waited_s = self.ranks.sums([self._waited_s])[0] / self.ranks.size
        if not self._peak:
            self._peak = matrix_peak(self.device, self.precision)
        flops_per_s = (counts["training_flops"] - before["training_flops"]) / elapsed_s
        found = SpeedRow(
            step=step,
            num_steps=step - before["step"],
            tokens_per_s=(counts["tokens"] - before["tokens"]) / elapsed_s,
            patches_per_s=(counts["patches"] - before["patches"]) / elapsed_s,
            flops_per_s=flops_per_s,
            peak_share=flops_per_s / (self._peak * self.ranks.size),
            data_wait_share=min(waited_s / elapsed_s, 1.0),
            peak_memory_bytes=float(self.ranks.largest(peak_memory_bytes(self.device))),
        )
        self._begin(counts)
        return found

    def _begin(self, counts: LanguageModelRow) -> None:
        self._before, self._waited_s, self._started_s = counts, 0.0, time.perf_counter()


def speed_text(row: SpeedRow) -> str:
    """The numbers that tell most, for the progress bar."""
    return (
        f"{row['tokens_per_s']:,.0f} tokens/s, {row['peak_share']:.0%} of peak, "
        f"{row['data_wait_share']:.0%} waiting for data"
    )


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory so far: of tensors on a GPU, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return parallel.peak_memory_bytes()


def matrix_peak(device: torch.device, precision: str) -> float:
    """Operations a second in matrix products of a precision on a device, from a short measurement.

    On a CPU it is that of float32: products of half precision are emulated there.
    """
    if device.type != "cuda":
        return peak_flops()
    a = torch.randn(_PEAK_SIZE, _PEAK_SIZE, device=device, dtype=_DTYPES.get(precision, torch.bfloat16))
    a @ a
    seconds = []
    for _ in range(_PEAK_TRIES):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ a
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return 2 * _PEAK_SIZE**3 / min(seconds)
