"""``lst compare``: writes the page of some runs, and its numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from lst.configs.comparison_schema import ComparisonConfig
from lst.configs.schema import CONTAMINATION
from lst.errors import LstError, UserError
from lst.evaluation.contamination import KINDS, TextKind, read_contamination
from lst.evaluation.results import StratumSummary
from lst.recipes.compare.browser import items_section
from lst.recipes.compare.compared import TaskGroup, base_of, compare_all, group_tasks, order_of, verdict_lines
from lst.recipes.compare.entries import Answers, Entry, read_entries
from lst.recipes.compare.formats import CompareFile, ContaminationRecord, RunComparison, TaskModel, TaskRecord
from lst.recipes.compare.plots import Point, speech_against_text
from lst.recipes.report.adaptation import adaptation_sections
from lst.recipes.report.page import Section, page
from lst.recipes.report.plots import DIRECTION_NAMES
from lst.recipes.report.questions import STRATUM_NAMES
from lst.recipes.runs.diff import models_of
from lst.runs import RunFolder
from lst.storage import expanded, write_json, write_text

DEFAULT_PAGE = "comparison.html"
HTML_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True)
class ModelsSection(Section):
    """All models: how large, what they spent, what they reach; and what could not be read."""

    entries: Sequence[Entry]
    base: Entry
    problems: Sequence[str]


@dataclass(frozen=True)
class TaskRow:
    """A model in one direction, by stratum; ``compared`` is None for the base and for what is not compared."""

    entry: Entry
    answers: Answers
    direction: str
    score: str
    cells: Sequence[StratumSummary | None]
    compared: RunComparison | None
    order: int
    num_directions: int

    @property
    def num_items(self) -> int:
        """Items of all strata: those that the comparison with the base is about."""
        return max(cell["num_items"] for cell in self.cells if cell)


@dataclass(frozen=True, kw_only=True)
class TaskSection(Section):
    """A task: its table, and speech against text.

    Attributes:
        group: the task.
        strata: heads of the columns by stratum.
        rows: of the table.
        base: that others are compared with.
        no_items: why no single items are shown; empty where some are, or none are asked for.
    """

    group: TaskGroup
    strata: Mapping[str, str]
    rows: Sequence[TaskRow]
    base: Entry
    no_items: str
    directions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SeenSection(Section):
    """What of the items occurs in the training of each run."""

    found: Sequence[tuple[str, ContaminationRecord]]
    kinds: Mapping[TextKind, str]


def compare_runs(config: ComparisonConfig) -> str:
    """Writes the page of ``out`` and its numbers as JSON beside it; returns the verdict as text.

    Raises:
        UserError: no folder is given, one holds no model, none of the models can be read, or ``base`` is none of them.
    """
    models, out = _models(config), _page(config)
    entries, problems = read_entries(models)
    if not entries:
        raise UserError("no finished model can be read:", *problems)
    base, groups = base_of(entries, config.base), group_tasks(entries)
    comparisons = compare_all(groups, base, config.bootstrap_samples, config.seed)
    seen, more = _contamination(entries)
    found: CompareFile = {
        "version": 1,
        "verdict": verdict_lines(entries, comparisons),
        "base": base.name,
        "models": {entry.name: entry.line for entry in entries},
        "tasks": [_task_record(group) for group in groups],
        "comparisons": comparisons,
        "adapted": [{"label": entry.name, "result": own.result} for entry in entries for own in entry.adapted],
        "contamination": seen,
        "problems": [*problems, *more],
    }
    sections = [_models_section(entries, base, found["problems"])]
    for number, group in enumerate(groups, 1):
        items = items_section(group, number, config.num_items, config.seed)
        sections.append(_task_section(group, number, base, comparisons, items.problem))
        sections += [items] if items.questions else []
    answered = [(entry, own) for entry in entries for own in entry.adapted]
    sections += adaptation_sections(answered, config.bootstrap_samples, config.seed, base)
    if seen:
        shown = [(f"{Path(one['run']).name}: {one['of']}", one) for one in seen]
        sections.append(SeenSection("contamination", "Contamination", template="seen.html", found=shown, kinds=KINDS))
    written = datetime.now(timezone.utc)
    write_json(out.with_suffix(".json"), found)
    write_text(out, page("lst.recipes.compare", "compare.html", sections, found=found, written=written))
    return "\n".join([*found["verdict"], *(f"! {one}" for one in found["problems"]), f"page: {out.resolve()}"])


def compare_plan(config: ComparisonConfig) -> list[str]:
    """The plan of ``lst compare``, as lines of text."""
    models, out = _models(config), _page(config)
    lines = [f"compare: {len(models)} models", *(f"  {run / 'models' / name}" for run, name in models)]
    return [*lines, f"  would write {out} and {out.with_suffix('.json').name}"]


def _models(config: ComparisonConfig) -> list[tuple[Path, str]]:
    """Run and name of every model that is asked for, each once."""
    if not config.runs:
        raise UserError("name the runs to compare: lst compare RUN RUN… out=page.html")
    found = [(run, name) for place in config.runs for name, run in models_of(place).items()]
    return list({(run.resolve(), name): (run, name) for run, name in found}.values())


def _page(config: ComparisonConfig) -> Path:
    out = Path(expanded(config.out or DEFAULT_PAGE))
    if out.suffix.lower() not in HTML_SUFFIXES:
        raise UserError(f"out={out}: the page is HTML: write out={out.name}.html")
    return out


def _contamination(entries: Sequence[Entry]) -> tuple[list[ContaminationRecord], list[str]]:
    """What was looked for beside the evaluations of each run, and what could not be read."""
    found: list[ContaminationRecord] = []
    problems: list[str] = []
    for run in dict.fromkeys(entry.run for entry in entries):
        folder = RunFolder(run)
        own = [folder.contamination()] if folder.contamination().exists() else []
        for path in [*own, *folder.eval_benchmarks(CONTAMINATION)]:
            try:
                of = path.name.partition("@")[2].rpartition("-")[0] or "its held-out data"
                found.append({"run": str(run), "of": of, "found": read_contamination(path)})
            except LstError as error:
                problems.append(str(error))
    return found, problems


def _task_record(group: TaskGroup) -> TaskRecord:
    models: list[TaskModel] = [
        {"label": entry.name, "data": answers.data, "directions": {**answers.directions}}
        for entry, answers in group.members
    ]
    return {"title": group.heading, "kind": group.kind, "chance": group.chance, "models": models}


def _models_section(entries: Sequence[Entry], base: Entry, problems: Sequence[str]) -> Section:
    return ModelsSection("models", "Models", entries=entries, base=base, problems=problems)


def _task_section(
    group: TaskGroup, number: int, base: Entry, comparisons: Sequence[RunComparison], no_items: str
) -> TaskSection:
    strata: dict[str, None] = {}
    for _, answers in group.members:
        for found in answers.directions.values():
            strata |= dict.fromkeys((found["stratum"], *found["strata"]))
    compared = {(one["second"], one["direction"]): one for one in comparisons if one["task"] == group.heading}
    rows = []
    for entry, answers in group.members:
        for direction in (one for one in group.directions if one in answers.directions):
            own = answers.directions[direction]
            cells = {own["stratum"]: own, **own["strata"]}
            one = compared.get((entry.name, direction))
            rows.append(
                TaskRow(
                    entry,
                    answers,
                    direction,
                    own["score"],
                    [cells.get(stratum) for stratum in strata],
                    one,
                    order_of(one) if one else 0,
                    len(answers.directions),
                )
            )
    points = [
        Point(
            entry.name,
            entry.line["strategy"],
            entry.colour,
            entry.line["num_parameters"] or 1,
            answers.directions["T→T"],
            answers.directions["S→S"],
        )
        for entry, answers in group.members
        if {"T→T", "S→S"} <= answers.directions.keys()
    ]
    plots = {"scatter": speech_against_text(points, group.chance, f"scatter-{number}")} if points else {}
    return TaskSection(
        f"task-{number}",
        group.heading,
        plots=plots,
        template="task.html",
        group=group,
        strata={stratum: STRATUM_NAMES.get(stratum, stratum) for stratum in strata},
        rows=rows,
        base=group.base(base),
        no_items=no_items,
        directions=DIRECTION_NAMES,
    )
