"""What all benchmarks share: timing, the machine's own peak, and figures as lines and as JSON."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lst.files import write_json


class Figures:
    """Figures of one benchmark: printed as they come, written at the end, missed targets included.

    Args:
        name: of the benchmark; the file is ``runs/bench/<name>.json``.
    """

    def __init__(self, name: str, folder: Path = Path("runs/bench")) -> None:
        self.path = folder / f"{name}.json"
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, value: float, target: float | None = None, at_most: bool = False) -> None:
        """Records a figure; with a target it holds if the value is at least (or at most) that."""
        holds = None if target is None else (value <= target if at_most else value >= target)
        self.rows.append({"name": name, "value": value, "target": target, "holds": holds})
        wanted = "" if target is None else f"  target {'≤' if at_most else '≥'} {target:g}  "
        print(f"{name:<66} {value:>12.4g}{wanted}{'' if holds is None else 'holds' if holds else 'MISSED'}", flush=True)

    def write(self) -> None:
        write_json(self.path, self.rows)
        print(f"written to {self.path}")


def best_s(function: Callable[[], Any], repeats: int) -> float:
    """The shortest time of some calls, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        function()
        times.append(time.perf_counter() - started_s)
    return min(times)


def interleaved_best_s(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The shortest time of each, called in turns, so that a machine that slows down slows all of them."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            started_s = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started_s)
    return {name: min(values) for name, values in times.items()}


def matrix_product_peak(size: int = 2048, repeats: int = 6) -> float:
    """Float32 matrix products of this machine, operations a second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best_s(lambda: a @ b, repeats)


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
