"""Shared by all benchmarks: timing, memory, and figures as lines, as a table and as JSON."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lst.storage import write_json, write_text


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured, with its unit.
        value: the result.
        target: the value that is wanted, if any.
        at_most: whether the value may be at most the target; otherwise, at least.
    """

    name: str
    value: float
    target: float | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the value reaches its target; None without a target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def target_text(self) -> str:
        """The target with its sign; empty without a target.

        >>> Figure("speed", 3.0, 2.0).target_text()
        '≥ 2'
        """
        return "" if self.target is None else f"{'≤' if self.at_most else '≥'} {self.target:g}"


class Figures:
    """The figures of one benchmark: printed as they come, written at the end, with missed targets.

    Args:
        name: of the benchmark; the file is ``runs/bench/<name>.json``.
    """

    def __init__(self, name: str, folder: Path = Path("runs/bench")) -> None:
        self.path = folder / f"{name}.json"
        self.rows: list[Figure] = []

    def add(self, name: str, value: float, target: float | None = None, at_most: bool = False) -> None:
        """Records and prints a figure; see ``Figure``."""
        figure = Figure(name, value, target, at_most)
        self.rows.append(figure)
        wanted = f"  target {figure.target_text()}  " if target is not None else ""
        verdict = {None: "", True: "holds", False: "MISSED"}[figure.holds]
        print(f"{name:<66} {value:>12.4g}{wanted}{verdict}", flush=True)

    def table(self) -> str:
        """All figures as a Markdown table."""
        lines = ["| figure | value | target | |", "|---|---|---|---|"]
        for row in self.rows:
            verdict = {None: "", True: "holds", False: "missed"}[row.holds]
            lines.append(f"| {row.name} | {row.value:.4g} | {row.target_text()} | {verdict} |")
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Writes ``<name>.json`` (name, value, target and holds of each figure) and ``<name>.md`` (the table)."""
        write_text(self.path.with_suffix(".md"), self.table())
        names = ("name", "value", "target", "holds")
        write_json(self.path, [{name: getattr(row, name) for name in names} for row in self.rows])
        print(f"written to {self.path} and {self.path.with_suffix('.md').name}")


def elapsed_s(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that one call takes, by a clock."""
    started_s = clock()
    function()
    return clock() - started_s


def best_s(function: Callable[[], object], repeats: int) -> float:
    """The shortest time of several calls, after one call that is not counted."""
    return interleaved_best_s({"": function}, repeats)[""]


def interleaved_best_s(
    functions: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The shortest time of each function, called in turns, so that a slower machine slows all of them."""
    for function in functions.values():
        function()
    turns = [{name: elapsed_s(function, clock) for name, function in functions.items()} for _ in range(repeats)]
    return {name: min(turn[name] for turn in turns) for name in functions}


def measure_in_own_process(module: str, *arguments: object) -> float:
    """Runs ``python -m module --memory …`` and reads the number that it prints: its peak memory is its own."""
    return float(run_in_own_process(module, "--memory", *arguments))


def run_in_own_process(module: str, *arguments: object) -> Any:
    """Runs ``python -m module …`` and reads the JSON that it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
