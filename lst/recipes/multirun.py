"""``lst COMMAND --multirun``: each combination of values as a child process of ``lst``, or a line of a SLURM script.

Runs get distinct places by one rule: the option that names a command's results gets the swept values added. With
``train.rows=2,4`` that is ``name=curriculum-rows-2`` and ``name=curriculum-rows-4`` for ``lst train``, and another
``run_dir=`` for ``lst quickstart``. Commands that read a run and write into it need another ``run_dir=`` for each run.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from lst.configs.command_line import MultirunOptions
from lst.configs.compose import Job, is_file_name
from lst.configs.reads import reads_of, words_read_by
from lst.configs.sweep import SweptRun, swept_runs
from lst.errors import ProblemsError, raise_problems
from lst.parallel.commands import ChildCommand, FinishedCommand, run_commands
from lst.progress import show
from lst.storage import fingerprint, write_text

FAILED_EXIT = 2
# Longer values are cut, and told apart by a fingerprint.
_MAX_VALUE = 40
# They give runs distinct places themselves, or belong to one place.
_PLACES = ("run_dir", "part")


@dataclass(frozen=True)
class SweptCommand:
    """A command and where its results go.

    Attributes:
        name: such as ``train``.
        job: what configures it.
        output: the option that names its results; empty for a command that prints them.
        reads_run: it writes into the run that it reads, so ``output`` cannot be changed.
    """

    name: str
    job: Job[Any]
    output: str
    reads_run: bool = False


def multirun(command: SweptCommand, words: Sequence[str], options: MultirunOptions) -> int:
    """Runs every combination, prints a table of them, and returns 0, or 2 if any has failed.

    Args:
        command: to run.
        words: overrides, some with several values.
        options: of the multirun.

    Raises:
        UserError: an option of one of the runs is wrong, or two runs would write to one place; nothing has run.
    """
    children = plan_runs(command, words)
    if options.slurm is not None:
        write_text(Path(options.slurm), slurm_script(command.name, children, options))
        show(f"{options.slurm}: {len(children)} runs; submit it with: sbatch {shlex.quote(options.slurm)}")
        return 0
    threads = options.threads if options.threads or "OMP_NUM_THREADS" in os.environ else 1
    finished = sorted(run_commands(children, options.jobs or 1, threads), key=lambda done: done.number)
    show(results_table(finished))
    return FAILED_EXIT if any(done.exit_code for done in finished) else 0


def plan_runs(command: SweptCommand, words: Sequence[str]) -> list[ChildCommand]:
    """The child process of each run; every configuration is built, so that mistakes show before the first run.

    Raises:
        UserError: an option is wrong, or two runs would write to one place.
    """
    children: list[ChildCommand] = []
    places: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    # Logs are written into run_dir=, also of a command that reads none.
    reads = reads_of(command.name).and_also(["run_dir"])
    for run in swept_runs(command.job, words):
        title = _label(run.swept) or command.name
        try:
            config = command.job.build(run.words, reads)
            log = Path(config.run_dir) / "multirun" / f"{command.name.replace(' ', '-')}-{title}.log"
            placed, place = _placed(command, run, config)
        except ProblemsError as error:
            problems += error.problems
            continue
        if place and (other := places.setdefault(place, title)) is not title:
            problems.append(
                f"{other} and {title} would both write to {command.output}={place[-1]}: give each run another "
                f"{command.output}=, as in {command.output}=one,two"
            )
        placed = words_read_by(command.name, placed, command.job.options)
        children.append(ChildCommand(title, (sys.executable, "-m", "lst", *command.name.split(), *placed), log))
    # Most mistakes are in every run.
    raise_problems("multirun", list(dict.fromkeys(problems)), f"See lst {command.name} --help for all options.")
    return children


def _placed(command: SweptCommand, run: SweptRun, config: Any) -> tuple[list[str], tuple[str, ...]]:
    """The words of a run with a place for its results, and that place; empty where it writes nothing."""
    # Prepared data goes to data_dir= where that is given.
    is_data = command.name == "prepare" and config.data_dir is not None
    output = "data_dir" if is_data else command.output
    value = attrgetter(output)(config) if output else None
    if value is None:
        return run.words, ()
    words = run.words
    label = _label({key: value for key, value in run.swept.items() if key not in (output, *_PLACES)})
    if label and not command.reads_run:
        value = _with_label(output, value, label)
        words = [*(word for word in words if not word.startswith(f"{output}=")), f"{output}={value}"]
        command.job.build(words)
    return words, ("" if output == "run_dir" else config.run_dir, getattr(config, "part", None) or "", value)


def slurm_script(command: str, children: Sequence[ChildCommand], options: MultirunOptions) -> str:
    """A job array with one line a run. What the cluster asks for (partition, time, GPUs) is given to ``sbatch``."""
    threads = options.threads or "${SLURM_CPUS_PER_TASK:-1}"
    cases = [f"{number}) exec {shlex.join(child.words)} ;;" for number, child in enumerate(children)]
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name=lst-{command.replace(' ', '-')}",
            f"#SBATCH --array=0-{len(children) - 1}{f'%{options.jobs}' if options.jobs else ''}",
            "set -eu",
            f"cd {shlex.quote(os.getcwd())}",
            f"export OMP_NUM_THREADS={threads}",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *cases,
            "esac",
            "",
        ]
    )


def results_table(finished: Sequence[FinishedCommand]) -> str:
    """One line a run: its name, how it ended, how long it took, and its log."""
    width = max([len("run"), *(len(done.command.label) for done in finished)])
    rows = [f"{'run':<{width}}  {'result':<10}  {'time':>8}  log"]
    for done in finished:
        result = "done" if done.exit_code == 0 else f"failed ({done.exit_code})"
        rows.append(f"{done.command.label:<{width}}  {result:<10}  {done.duration_s:>6,.0f} s  {done.command.log}")
    num_failed = sum(done.exit_code != 0 for done in finished)
    return "\n".join([*rows, f"{len(finished)} runs, {num_failed} failed"])


def _label(swept: dict[str, str]) -> str:
    """Keys and values in signs that names may have, such as ``learning_rate-1e-3-rows-4``."""
    return "-".join(f"{key.rpartition('.')[2]}-{_safe(value)}" for key, value in swept.items())


def _safe(value: str) -> str:
    name = Path(value).stem if is_file_name(value) and value.endswith((".yaml", ".yml")) else value
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return safe if len(safe) <= _MAX_VALUE else f"{safe[:_MAX_VALUE]}-{fingerprint({'value': value})[:8]}"


def _with_label(output: str, value: str, label: str) -> str:
    if output in ("out", "check.json"):
        path = Path(value)
        return str(path.with_name(f"{path.stem}-{label}{path.suffix}"))
    return f"{value.rstrip('/')}-{label}"
