"""``lst scale run``: trains and evaluates the models of a plan, and writes their table.

::

    plan.json ──▶ a child process a model: cell's lock ─▶ train ─▶ evaluate ─▶ point.json ──▶ points.csv

Any number of processes may do so in one folder. A model belongs to the process that holds its lock; a finished one is
skipped; one whose process has ended goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lst.configs.command_line import MultirunOptions
from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.errors import LstError, StoppedError, StorageError, UserError, nearest, raise_problems
from lst.evaluation.accuracy import headline_accuracy
from lst.evaluation.results import EvalResult
from lst.evaluation.sounds import PartSounds
from lst.parallel.commands import ChildCommand, run_commands
from lst.progress import say, show
from lst.recipes.evaluate import evaluate_model
from lst.recipes.multirun import slurm_script
from lst.recipes.scaling.branches import trunks, with_branch
from lst.recipes.scaling.grid import Cell, cell_fingerprint, grid_cells
from lst.recipes.scaling.plan import make_plan, open_data_of, plan_as_text, planned
from lst.recipes.scaling.plan_file import (
    CellRecord,
    PlanFile,
    PointFile,
    cell_folder,
    fitted_folder,
    log_path,
    point_path,
)
from lst.recipes.scaling.points import write_points
from lst.recipes.training.train import train
from lst.runs import RunFolder, open_trained
from lst.runs.fitted_patching import hand_over
from lst.storage import clear_partial_files, read_json, write_json, write_text
from lst.storage.locks import HeldError, folder_lock

# How often a process without a free model looks whether another one has left one.
LOOK_S = 1.0
# Options of one process; its children have their own.
_OF_PROCESS = ("jobs", "threads", "hours", "slurm", "cells")
_REMEDY = "or train other models with cells=[NAME]"


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
    failed = _run_here(config, steps, chosen) if config.jobs == 0 else _run_children(config, overrides, steps, chosen)
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


def finished(config: ScalingConfig, cell: CellRecord) -> PointFile | None:
    """The point of a cell; None before it is finished."""
    place = point_path(config, cell["name"])
    if not place.exists():
        return None
    point = read_json(place, PointFile, "the point of a model", f"Delete {place}.")
    return point if point["made_from"] == cell["made_from"] else None


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
    return "".join(f"{point['row'][key]:>11.3f}" for key in ("speech_bits", "text_bits")) if point else ""


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
    threads = config.threads if config.threads or "OMP_NUM_THREADS" in os.environ else 1
    jobs = config.jobs or max((os.cpu_count() or 1) // (config.threads or 1), 1)
    failed: dict[str, str] = {}
    trunk_of = trunks(config, steps, grid_cells(config))
    end_s, order = _deadline(config, chosen)

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
            num_done = sum(finished(config, cell) is not None for cell in chosen)
            bits = _bits_text(finished(config, cells[name]))
            say(f"{num_done}/{len(chosen)} models done, {len(failed)} failed; {name}:{bits or ' not done'}")
        if num_tried == 0:
            # All that is left belongs to other processes.
            time.sleep(LOOK_S)
    return failed


def _deadline(config: ScalingConfig, chosen: Sequence[CellRecord]) -> tuple[float, Sequence[CellRecord]]:
    """The monotonic time after which no model begins, and the order of models: with such a time, the cheapest first.

    Those that branch off others keep their order.
    """
    if config.hours is None:
        return math.inf, chosen
    order = chosen if config.scale.branch else sorted(chosen, key=lambda cell: cell["core_hours"])
    return time.monotonic() + 3600 * config.hours, order


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


def _run_here(config: ScalingConfig, steps: Mapping[str, int], chosen: Sequence[CellRecord]) -> dict[str, str]:
    """Trains and evaluates here the models that no other process holds; returns the reasons of failures by name."""
    cells = {cell.name: cell for cell in grid_cells(config)}
    failed: dict[str, str] = {}
    end_s, order = _deadline(config, chosen)
    for record in order:
        if time.monotonic() >= end_s:
            break
        try:
            with folder_lock(cell_folder(config, record["name"]), work="trained", remedy=_REMEDY):
                if finished(config, record) is None:
                    own = with_branch(config, record, steps, [*cells.values()])
                    _run_cell(config, cells[record["name"]], record, own)
        except HeldError as error:
            say(f"{record['name']} is left to its process: {error}")
        except (StoppedError, StorageError):
            raise
        except LstError as error:
            # The driver of a child takes its last line for the reason.
            if len(chosen) == 1:
                raise
            failed[record["name"]] = " ".join(str(error).split())
            say(f"{record['name']} has failed: {failed[record['name']]}")
    return failed


def _run_cell(config: ScalingConfig, cell: Cell, record: CellRecord, own: Config) -> None:
    """Trains and evaluates one model; its point comes last."""
    data = open_data_of(config)
    if cell_fingerprint(own, data) != record["made_from"]:
        raise UserError(
            f"{cell.name}: its options have changed since the plan was made: plan again with lst scale plan"
        )
    run = RunFolder.of(own)
    hand_over(own, data, fitted_folder(config), run.model(own.name))
    train(own)
    clear_partial_files(run.root, run.eval_result(own.name).parent)
    trained = open_trained(run, own.name, data, own.verify_models)
    result = evaluate_model(cell.config(record["steps"], is_evaluation=True), run, trained, PartSounds(data))
    point = PointFile(version=1, made_from=record["made_from"], row=_row(record, result))
    write_json(point_path(config, cell.name), point)


def _row(cell: CellRecord, result: EvalResult) -> dict[str, str | float]:
    """A row of ``points.csv``."""
    row: dict[str, str | float] = {
        "arm": cell["arm"],
        "size": cell["size"],
        "seed": cell["seed"],
        "strategy": cell["strategy"],
        "N": cell["N"],
        "N_non_embedding": cell["N_non_embedding"],
        "D": cell["units"] + cell["text_bytes"],
        "D_units": cell["units"],
        "D_text_bytes": cell["text_bytes"],
        "C": cell["flops"],
        "speech_bits": result["bits"]["bits_per_unit"],
        "text_bits": result["bits"]["bits_per_byte"],
    }
    for direction, cloze in result["cloze"].items():
        row |= _share(f"{direction}/cloze", cloze["mean"]["accuracy"], cloze["num_items"])
    for direction, score in result.get("questions", {}).items():
        for stratum, found in score["strata"].items():
            headline = headline_accuracy(score, stratum)["accuracy"]
            row |= _share(f"{direction}/{stratum}", headline, found["num_items"])
    return row


def _share(of: str, accuracy: float, num_items: int) -> dict[str, float]:
    return {f"accuracy/{of}": accuracy, f"items/{of}": num_items}
