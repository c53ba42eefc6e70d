"""The models of a plan on Ray: a task trains and evaluates one, on a node that sees the same folders.

::

    cells ──a task each──▶ worker of Ray: run_here, output to the cell's log ──▶ reason of failure, or none
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch

from lst.configs.scaling_schema import ScalingConfig
from lst.errors import LstError, StoppedError
from lst.parallel import ExecutorOptions, run_tasks
from lst.parallel.commands import opened_log
from lst.recipes.scaling.cells import deadline, finished, run_here
from lst.recipes.scaling.plan import planned
from lst.recipes.scaling.plan_file import CellRecord, log_path
from lst.storage import absolute


@dataclass(frozen=True)
class _RayTask:
    """A model to train on some node of a Ray cluster; ``end_s`` is the time of day after which it does not begin."""

    config: ScalingConfig
    cell: CellRecord
    end_s: float


def run_on_ray(config: ScalingConfig, chosen: Sequence[CellRecord]) -> Generator[tuple[CellRecord, str], None, None]:
    """Has Ray train and evaluate the models that are not finished; yields each and why it failed, or nothing."""
    _, order = deadline(config, chosen)
    end_s = math.inf if config.hours is None else time.time() + 3600 * config.hours
    shared = replace(config, out=os.path.abspath(config.out), data_dir=str(absolute(config.data_dir or "")))
    tasks = [
        _RayTask(replace(shared, cells=[cell["name"]], executor="local", address=None, jobs=0), cell, end_s)
        for cell in order
        if finished(config, cell) is None
    ]
    jobs = config.jobs or os.cpu_count() or 1
    threads = config.threads or 1
    options = ExecutorOptions("ray", max(jobs * threads, threads), config.address, threads)
    with contextlib.closing(run_tasks(_run_ray_task, tasks, options)) as results:
        for done in results:
            cell, reason = done.value
            yield cell, reason and f"{reason}; its output: {log_path(config, cell['name'])}"


def _run_ray_task(task: _RayTask) -> tuple[CellRecord, str]:
    """Trains and evaluates one model in a worker of Ray; returns it and why it failed, with its output in its log."""
    if time.time() >= task.end_s:
        return task.cell, ""
    steps = {cell["name"]: cell["steps"] for cell in planned(task.config)["cells"]}
    log = log_path(task.config, task.cell["name"])
    # A task is called with one thread.
    torch.set_num_threads(task.config.threads or 1)
    with opened_log(log) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            run_here(task.config, steps, [task.cell])
        except StoppedError:
            raise
        except LstError as error:
            return task.cell, " ".join(str(error).split())
        except Exception as error:
            # As with child processes, a fault in one model does not end the others.
            traceback.print_exc()
            return task.cell, f"{type(error).__name__}: {' '.join(str(error).split())}"
    return task.cell, ""
