"""``lst scale run``: trains and evaluates the models of a plan, and writes their table.

::

    plan.json ──▶ a child process a model: cell's lock ─▶ train ─▶ evaluate ─▶ point.json ──▶ points.csv

Any number of processes may do so in one folder. A model belongs to the process that holds its lock; a finished one is
skipped; one whose process has ended goes on from its last checkpoint.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lst.configs.command_line import MultirunOptions
from lst.configs.scaling_schema import ScalingConfig
from lst.errors import nearest, raise_problems
from lst.parallel.commands import ChildCommand, jobs_and_threads, run_commands
from lst.progress import say, show
from lst.recipes.multirun import slurm_script
from lst.recipes.scaling.branches import trunks
from lst.recipes.scaling.cells import deadline, finished, run_here
from lst.recipes.scaling.grid import grid_cells
from lst.recipes.scaling.on_ray import run_on_ray
from lst.recipes.scaling.plan import make_plan, plan_as_text, planned
from lst.recipes.scaling.plan_file import (
    CellRecord,
    PlanFile,
    PointFile,
    cell_folder,
    log_path,
)
from lst.recipes.scaling.points import write_points
from lst.storage import write_text
from lst.storage.locks import HeldError, folder_lock

# How often a process without a free model looks whether another one has left one.
LOOK_S = 1.0
# Options of one process; its children have their own.
_OF_PROCESS = ("jobs", "threads", "hours", "executor", "address", "slurm", "cells")


def scale_run(config: ScalingConfig, overrides: Sequence[str]) -> str:
    """Trains and evaluates what is not finished, writes ``points.csv``, and returns a table of the models.

    Args:
        config: of the command.
        overrides: the words that gave it; child processes get them.

    Raises:
        UserError: the plan is of other options, or models have failed; all others are finished by then.
    """
    plan = planned(config)
    chosen = _chosen(config, plan)
    if config.slurm is not None:
        commands = _commands(config, overrides, chosen)
        options = MultirunOptions(jobs=config.jobs or None, threads=config.threads)
        write_text(Path(config.slurm), slurm_script("scale run", commands, options))
        return f"{config.slurm}: {len(commands)} models; submit it with: sbatch {shlex.quote(config.slurm)}"
    steps = {cell["name"]: cell["steps"] for cell in plan["cells"]}
    if config.executor == "ray":
        failed = {}
        for cell, reason in run_on_ray(config, chosen):
            if reason:
                failed[cell["name"]] = reason
            _tell(config, chosen, cell, failed)
    elif config.jobs == 0:
        failed = run_here(config, steps, chosen)
    else:
        failed = _run_children(config, overrides, steps, chosen)
    place = Path(config.out) / "points.csv"
    points = [point for cell in plan["cells"] if (point := finished(config, cell)) is not None]
    if points:
        write_points(place, [point["row"] for point in points])
    summary = run_as_text(config, plan, failed)
    if failed:
        show(summary)
        lines = [f"{name}: {reason}" for name, reason in failed.items()]
        raise_problems(f"{len(failed)} of {len(chosen)} models failed", lines, "The same command goes on from here.")
    return f"{summary}\n\n{len(points)} of {len(plan['cells'])} points in {place}"


def run_plan(config: ScalingConfig) -> list[str]:
    """The plan of ``lst scale plan`` and ``lst scale run``, as lines of text; writes nothing."""
    plan = make_plan(config)
    num_finished = sum(finished(config, cell) is not None for cell in plan["cells"])
    return [*plan_as_text(plan).splitlines(), f"{num_finished} of them are finished"]


def run_as_text(config: ScalingConfig, plan: PlanFile, failed: dict[str, str]) -> str:
    """A line for each model: how far it is, and its bits."""
    width = max(len(cell["name"]) for cell in plan["cells"])
    lines = [f"{'model':<{width}}  {'state':<9}{'bits/unit':>11}{'bits/byte':>11}"]
    for cell in plan["cells"]:
        point = finished(config, cell)
        state = "done" if point else "FAILED" if cell["name"] in failed else "to do"
        lines.append(f"{cell['name']:<{width}}  {state:<9}{_bits_text(point)}")
    return "\n".join(lines)


def _bits_text(point: PointFile | None) -> str:
    row = point["row"] if point else {}
    return "".join(f"{row[key]:>11.3f}" for key in ("speech_bits", "text_bits") if key in row)


def _chosen(config: ScalingConfig, plan: PlanFile) -> list[CellRecord]:
    names = [cell["name"] for cell in plan["cells"]]
    unknown = [
        f"cells: {name}{nearest(name, names)} is no model of the plan" for name in config.cells if name not in names
    ]
    raise_problems("cells", unknown, f"The plan has {', '.join(names[:3])} and {max(len(names) - 3, 0)} more.")
    chosen = [cell for cell in plan["cells"] if not config.cells or cell["name"] in config.cells]
    # Others branch off the longest ones.
    return sorted(chosen, key=lambda cell: -cell["steps"]) if config.scale.branch else chosen


def _run_children(
    config: ScalingConfig, overrides: Sequence[str], steps: Mapping[str, int], chosen: Sequence[CellRecord]
) -> dict[str, str]:
    """Runs children until every model is finished or has failed; returns the reasons of failures by name."""
    cells = {cell["name"]: cell for cell in chosen}
    jobs, threads = jobs_and_threads(config.jobs, config.threads)
    failed: dict[str, str] = {}
    trunk_of = trunks(config, steps, grid_cells(config))
    end_s, order = deadline(config, chosen)

    def is_done(name: str) -> bool:
        return finished(config, cells[name]) is not None

    def is_free(command: ChildCommand) -> bool:
        trunk = trunk_of.get(command.label)
        can_begin = trunk is None or trunk.name not in cells or trunk.name in failed or is_done(trunk.name)
        is_early = time.monotonic() < end_s
        return is_early and can_begin and not is_done(command.label) and not _is_held(config, command.label)

    while left := [cell for cell in order if finished(config, cell) is None and cell["name"] not in failed]:
        if time.monotonic() >= end_s:
            break
        num_tried = 0
        for done in run_commands(_commands(config, overrides, left), jobs, threads, is_free):
            num_tried += 1
            name = done.command.label
            if done.exit_code != 0:
                failed[name] = f"exit status {done.exit_code}: {done.last_line}; its output: {done.command.log}"
            _tell(config, chosen, cells[name], failed)
        if num_tried == 0:
            # All that is left belongs to other processes.
            time.sleep(LOOK_S)
    return failed


def _tell(config: ScalingConfig, chosen: Sequence[CellRecord], cell: CellRecord, failed: Mapping[str, str]) -> None:
    num_done = sum(finished(config, one) is not None for one in chosen)
    bits = _bits_text(finished(config, cell))
    say(f"{num_done}/{len(chosen)} models done, {len(failed)} failed; {cell['name']}:{bits or ' not done'}")


def _commands(config: ScalingConfig, overrides: Sequence[str], cells: Sequence[CellRecord]) -> list[ChildCommand]:
    shared = [word for word in overrides if word.partition("=")[0] not in _OF_PROCESS]
    return [
        ChildCommand(
            cell["name"],
            (sys.executable, "-m", "lst", "scale", "run", *shared, f"cells=[{cell['name']}]", "jobs=0"),
            log_path(config, cell["name"]),
        )
        for cell in cells
    ]


def _is_held(config: ScalingConfig, name: str) -> bool:
    try:
        with folder_lock(cell_folder(config, name)):
            return False
    except HeldError:
        return True
