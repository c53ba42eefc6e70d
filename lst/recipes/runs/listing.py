"""``lst runs list``: every model of the runs below some folders, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from lst.configs.comparison_schema import ComparisonConfig
from lst.errors import UserError, one_line, raise_problems
from lst.evaluation.results import DIRECTIONS
from lst.recipes.runs.formats import FolderProblem, ModelLine, RunsFile
from lst.recipes.runs.read import found_models, read_model
from lst.storage import expanded, write_json

# Where runs lie unless something else is said.
DEFAULT_FOLDER = "runs"
HEADS = ("  model", "state", "strategy", "seed", "size", "steps", "tokens", "FLOPs", "loss", "bits/unit", "bits/byte")


def list_runs(config: ComparisonConfig) -> str:
    """Lists the models of all runs below the folders; writes ``out`` where it is given.

    Raises:
        UserError: a folder is absent, or none holds a run.
    """
    found = runs_below(_folders(config))
    if config.out is not None:
        write_json(Path(expanded(config.out)), found)
    return json.dumps(found, indent=2) if config.json else runs_as_text(found)


def list_plan(config: ComparisonConfig) -> list[str]:
    """The plan of ``lst runs list``, as lines of text."""
    lines = [f"runs list: would look below {', '.join(map(str, _folders(config)))}"]
    return [*lines, *([f"  would write {config.out}"] if config.out else [])]


def _folders(config: ComparisonConfig) -> list[Path]:
    places = config.runs or [DEFAULT_FOLDER]
    missing = [place for place in places if not Path(expanded(place)).is_dir()]
    raise_problems(
        "folders",
        [f"{place}: there is no such folder" for place in missing],
        "Name folders that hold runs: lst runs FOLDER…; lst runs diff A B compares two.",
    )
    return [Path(expanded(place)) for place in places]


def runs_below(folders: Sequence[Path]) -> RunsFile:
    """The models of all runs in and below folders, each once.

    Raises:
        UserError: there is nothing that looks like a run.
    """
    models: dict[Path, ModelLine] = {}
    problems: dict[str, FolderProblem] = {}
    for found in (one for folder in folders for one in found_models(folder)):
        if isinstance(found, tuple):
            run, name = found
            models.setdefault((run / name).resolve(), read_model(run, name))
        else:
            problems.setdefault(found["folder"], found)
    if not models and not problems:
        raise UserError(f"no run in or below {', '.join(map(str, folders))}: a run's folder has models/NAME/")
    return {
        "version": 1,
        "folders": list(map(str, folders)),
        "models": list(models.values()),
        "problems": list(problems.values()),
    }


def runs_as_text(found: RunsFile) -> str:
    """A table with a line for each model below the name of its run, and what is wrong with it."""
    columns = (*HEADS, *DIRECTIONS) if any(model["accuracy"] for model in found["models"]) else HEADS
    rows = {id(model): _cells(model)[: len(columns)] for model in found["models"]}
    widths = [max(map(len, column)) for column in zip(columns, *rows.values(), strict=True)]
    lines = [_joined(columns, widths)] if rows else []
    for run, models in groupby(found["models"], key=lambda model: model["run"]):
        lines.append(one_line(run))
        for model in models:
            lines.append(_joined(rows[id(model)], widths))
            lines += [f"    ! {one_line(problem)}" for problem in model["problems"]]
    lines += [one_line(f"{one['folder']}: {one['problem']}") for one in found["problems"]]
    states = [model["state"] for model in found["models"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"{len(states)} models{counts and f': {counts}'}")
    if len(columns) > len(HEADS):
        lines.append(
            "accuracies in %, of all questions by the headline score, with c of cloze items by the mean a token"
        )
    if any(model["bits_per_unit"] is not None and not model["is_evaluated"] for model in found["models"]):
        lines.append("~ bits on the held-out documents of the training; lst eval measures whole utterances")
    return "\n".join(lines)


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells of a line; the first three are names, the others numbers."""
    texts = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*texts, *numbers]).rstrip()


def _cells(model: ModelLine) -> list[str]:
    about = "" if model["is_evaluated"] else "~"
    mark = "c" if model["asked"] == "cloze" else ""
    return [
        f"  {one_line(model['name'])}",
        model["state"],
        one_line(model["strategy"]) or "–",
        _number(model["seed"], "d"),
        short_number(model["num_parameters"]),
        f"{_number(model['steps'], ',d')}/{_number(model['max_steps'], ',d')}",
        short_number(model["tokens"]),
        _number(model["training_flops"], ".2e"),
        _number(model["loss"], ".3f"),
        *(about * (model[key] is not None) + _number(model[key], ".3f") for key in ("bits_per_unit", "bits_per_byte")),
        *(
            f"{100 * share:.1f}{mark}" if (share := model["accuracy"].get(direction)) is not None else "–"
            for direction in DIRECTIONS
        ),
    ]


def _number(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)


def short_number(value: float | None) -> str:
    """Three digits and a letter.

    >>> short_number(1_016_320), short_number(999), short_number(None)
    ('1.02M', '999', '–')
    """
    if value is None:
        return "–"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"
