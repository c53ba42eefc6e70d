"""What all benchmarks share: timing, the machine's own peak, and figures as lines and as JSON."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lst.storage import write_json, write_text


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
        sign = "≤" if at_most else "≥"
        self.rows.append({"name": name, "value": value, "target": target, "holds": holds, "sign": sign})
        wanted = "" if target is None else f"  target {sign} {target:g}  "
        print(f"{name:<66} {value:>12.4g}{wanted}{'' if holds is None else 'holds' if holds else 'MISSED'}", flush=True)

    def table(self) -> str:
        """All figures as a Markdown table."""
        lines = ["| figure | value | target | |", "|---|---|---|---|"]
        for row in self.rows:
            target = "" if row["target"] is None else f"{row['sign']} {row['target']:g}"
            verdict = {None: "", True: "holds", False: "missed"}[row["holds"]]
            lines.append(f"| {row['name']} | {row['value']:.4g} | {target} | {verdict} |")
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Writes ``<name>.json`` and, for people, ``<name>.md``."""
        write_text(self.path.with_suffix(".md"), self.table())
        write_json(self.path, [{key: row[key] for key in ("name", "value", "target", "holds")} for row in self.rows])
        print(f"written to {self.path} and {self.path.with_suffix('.md').name}")


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


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # The kernel's own count for this program; the resource usage also remembers what the process was before.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
