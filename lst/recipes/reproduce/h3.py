"""``lst reproduce h3``: synthetic languages and ListOps, several models and seeds, on one page.

::

    out/runs/                      a run of lst synthetic: results, and its own report
    out/logs/NAME.log              output of each training
    out/h3.json, h3.html           the page, and its numbers; written last
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from lst.configs.compose import SYNTHETIC
from lst.configs.reads import READS
from lst.configs.reproduce_schema import ReproduceConfig
from lst.configs.schema import name_problems
from lst.configs.synthetic_schema import SyntheticConfig
from lst.errors import ProblemsError, raise_problems
from lst.parallel.commands import ChildCommand, jobs_and_threads, run_commands
from lst.recipes.report.page import page
from lst.recipes.reproduce.formats import H3File, H3Record
from lst.recipes.reproduce.grids import raise_failures
from lst.recipes.scaling.page import ScalingSection
from lst.recipes.scaling.tables import NONE, Table
from lst.recipes.synthetic.report import PUBLISHED, TITLES
from lst.recipes.synthetic.results import SyntheticResult
from lst.recipes.synthetic.synthetic import RESULT_FILE, plan, seed_folder, synthetic
from lst.runs.formats import read_record
from lst.storage import write_json, write_text

H3_FILE, PAGE_FILE = "h3.json", "h3.html"


@dataclass(frozen=True)
class Training:
    """A training of ``lst synthetic``: its configuration, and the words that give it."""

    config: SyntheticConfig
    words: list[str]

    def results(self) -> list[SyntheticResult]:
        """Those of the seeds that are finished."""
        places = [seed_folder(self.config, seed) / RESULT_FILE for seed in self.config.seeds]
        found = [
            read_record(place, SyntheticResult, "the result of a training", f"Delete {place.parent} and train again.")
            for place in places
            if place.exists()
        ]
        steps = self.config.train.max_steps
        return [result for result in found if result["stopped_early"] or result["steps"] == steps]

    @property
    def is_finished(self) -> bool:
        """Whether every seed is."""
        return len(self.results()) == len(self.config.seeds)


def h3(config: ReproduceConfig) -> str:
    """Trains what is not trained, and writes the page of what there is; returns a summary.

    Raises:
        UserError: the plan is wrong, or trainings have failed; the page has all others.
    """
    trainings = _trainings(config)
    failed = [] if config.page_only else _train(config, trainings)
    found = H3File(
        version=1,
        missing=[name for name, one in trainings.items() if not one.is_finished],
        trained=[_record(name, one.config, own) for name, one in trainings.items() if (own := one.results())],
    )
    out = Path(config.out)
    sections = _sections(found)
    html = page("lst.recipes.reproduce", PAGE_FILE, sections, found=found, written=datetime.now(timezone.utc))
    write_text(out / PAGE_FILE, html)
    write_json(out / H3_FILE, found)
    raise_failures(failed)
    tables = [table.text() for section in sections for table in section.tables]
    missing = [f"not finished: {', '.join(found['missing'])}"] if found["missing"] else []
    return "\n\n".join([*tables, *missing, f"page: {out / PAGE_FILE}; numbers: {out / H3_FILE}"])


def h3_plan(config: ReproduceConfig) -> list[str]:
    """The plan of ``lst reproduce h3``, as lines of text; a step's time is measured on a few that are thrown away."""
    lines = []
    for name, one in _trainings(config).items():
        lines += (
            [f"{name}: nothing to do"] if one.is_finished else [f"{name}:", *(f"  {line}" for line in plan(one.config))]
        )
    return lines


def _trainings(config: ReproduceConfig) -> dict[str, Training]:
    """The trainings of the plan by name.

    Raises:
        UserError: an option of one is wrong, two would share a folder, or there is none; all are named.
    """
    found, problems = dict[str, Training](), [] if config.h3.trainings else ["h3.trainings: there is none"]
    folders: dict[Path, str] = {}
    for name, own in config.h3.trainings.items():
        problems += [f"h3.trainings: {wrong}" for wrong in name_problems(name)]
        words = [*own, f"run_dir={Path(config.out) / 'runs'}"]
        try:
            built = SYNTHETIC.build(words, READS["synthetic"])
        except ProblemsError as error:
            problems += [f"h3.trainings.{name}: {problem}" for problem in error.problems]
            continue
        folder = seed_folder(built, 0).parent
        if (other := folders.setdefault(folder, name)) != name:
            problems.append(f"h3.trainings: {other} and {name} would both train in {folder}: give one a name=NAME")
        found[name] = Training(built, words)
    raise_problems("the plan", problems, "Nothing has begun.")
    return found


def _train(config: ReproduceConfig, trainings: Mapping[str, Training]) -> list[str]:
    """Trains what is not finished, a child process a training; returns what has failed, a line each."""
    jobs, threads = jobs_and_threads(config.jobs, config.threads)
    end_s = None if config.hours is None else time.monotonic() + 3600 * config.hours
    logs = Path(config.out) / "logs"
    commands = [
        ChildCommand(name, (sys.executable, "-m", "lst", "synthetic", *one.words), logs / f"{name}.log")
        for name, one in trainings.items()
        if not one.is_finished
    ]

    def is_early(command: ChildCommand) -> bool:
        return end_s is None or time.monotonic() < end_s

    if config.jobs == 0:
        for command in filter(is_early, commands):
            synthetic(trainings[command.label].config, trainings[command.label].words)
        return []
    return [
        f"{done.command.label}: exit status {done.exit_code}: {done.last_line}; its output: {done.command.log}"
        for done in run_commands(commands, jobs, threads, is_early)
        if done.exit_code != 0
    ]


def _record(name: str, config: SyntheticConfig, results: list[SyntheticResult]) -> H3Record:
    first = results[0]
    return H3Record(
        training=name,
        task=config.task.name,
        model=config.label,
        num_tokens=first["num_tokens"],
        steps=max(result["steps"] for result in results),
        parameters=first["parameters"],
        accuracies={str(result["seed"]): 100 * result["accuracy"] for result in results},
        published=PUBLISHED.get(config.task.name, {}).get(config.name.partition("_")[0]),
        chance=100 * config.task.chance,
        step_s=float(np.median([result["timing"]["median_step_s"] for result in results])),
    )


def _sections(found: H3File) -> list[ScalingSection]:
    """A section a task."""
    return [
        ScalingSection(
            task.replace("_", "-"),
            TITLES[task],
            template="section.html",
            lead=_lead(task),
            tables=[_task_table([one for one in found["trained"] if one["task"] == task])],
        )
        for task in dict.fromkeys(one["task"] for one in found["trained"])
    ]


def _lead(task: str) -> str:
    if task == "listops":
        return (
            "Nested lists of digits and operators; the model says the digit that they are worth. A few steps teach no "
            "model ListOps: the table is of the time of a step, on this machine."
        )
    return (
        "Accuracy of the last token on other sequences, in %, of each seed. Published are those of arXiv 2212.14052, "
        "table 1, after more steps at a lower rate."
    )


def _task_table(records: list[H3Record]) -> Table:
    header = ["model", "accuracy of each seed, %", "mean", "published", "chance", "parameters", "steps", "ms a step"]
    rows = [
        [
            one["model"],
            ", ".join(f"{accuracy:.1f}" for accuracy in one["accuracies"].values()),
            f"{np.mean(list(one['accuracies'].values())):.1f}",
            NONE if one["published"] is None else f"{one['published']:g}",
            f"{one['chance']:.3g}",
            f"{one['parameters']:,}",
            f"{one['steps']:,}",
            f"{1000 * one['step_s']:,.1f}",
        ]
        for one in records
    ]
    return Table("", header, rows)
