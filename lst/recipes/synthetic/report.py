"""Report of the synthetic tasks: one HTML page, and the same tables as Markdown, of all that a run holds."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lst.configs.synthetic_schema import TASK_SIZES, TaskConfig
from lst.recipes.report.page import Section, number_text, page
from lst.recipes.report.plots import standalone_svg
from lst.recipes.synthetic.plots import SeedCurve, seed_curves_plot
from lst.recipes.synthetic.results import SyntheticResult
from lst.runs.formats import read_record
from lst.runs.versions import versions
from lst.storage import fingerprint, read_jsonl, write_text

RESULT_FILE = "result.json"
TITLES = {
    "associative_recall": "Associative recall",
    "induction_head": "Induction head",
    "listops": "ListOps",
}
# Accuracy of the last token in %, of the published models (arXiv 2212.14052, table 1): 2 layers of 32.
PUBLISHED: dict[str, dict[str, float]] = {
    "induction_head": {"random": 5.0, "s4d": 35.6, "gss": 6.8, "h3": 100.0, "attention": 100.0},
    "associative_recall": {"random": 25.0, "s4d": 86.0, "gss": 78.0, "h3": 99.8, "attention": 100.0},
}
PUBLISHED_SIZES = {
    "induction_head": {"length": 30, "vocabulary": 20, "train_sequences": 5000, "test_sequences": 500},
    "associative_recall": {"length": 20, "vocabulary": 10, "train_sequences": 5000, "test_sequences": 500},
}
# Layers and width.
PUBLISHED_SHAPE = (2, 32)
PUBLISHED_NAMES = {"random": "random", "s4d": "S4D", "gss": "GSS", "h3": "H3", "attention": "attention"}
PUBLISHED_SPEED = (
    "Published, over the whole Long Range Arena on a GPU: S4 trains 2.9 times as fast as the Transformer, S4 with "
    "FlashConv 5.8 times (arXiv 2212.14052)."
)
MISSING = "–"


@dataclass(frozen=True)
class Arm:
    """Trainings of one model that differ in their seed only.

    Attributes:
        name: the model's label in the run.
        results: ``result.json`` of each seed, in the order of the seeds.
        curves: the metrics of each.
    """

    name: str
    results: Sequence[SyntheticResult]
    curves: Sequence[SeedCurve]

    @property
    def first(self) -> SyntheticResult:
        """The result of the first seed."""
        return self.results[0]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the first seed; the others differ in the seed only."""
        return dict(self.first["settings"])

    def mean(self, key: str) -> float:
        """Mean of a number of the results over the seeds."""
        numbers: Sequence[Mapping[str, Any]] = self.results
        return float(np.mean([result[key] for result in numbers]))

    @property
    def median_step_s(self) -> float:
        """Median over the seeds of the median duration of a step."""
        return float(np.median([result["timing"]["median_step_s"] for result in self.results]))


@dataclass(frozen=True)
class PlainTable:
    """A table of texts, for HTML, Markdown or the terminal; the first cell of a row names a model."""

    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def text(self) -> str:
        """Lines with columns of equal width."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def found_results(run: Path) -> dict[str, list[Arm]]:
    """Everything that has finished under a run's folder: the arms of each task, by name."""
    groups: defaultdict[tuple[str, str, str], list[tuple[SyntheticResult, SeedCurve]]] = defaultdict(list)
    for path in run.glob(f"*/*/seed-*/{RESULT_FILE}"):
        result = read_record(
            path, SyntheticResult, "the result of a training", f"Delete {path.parent} and train again."
        )
        settings = {key: value for key, value in result["settings"].items() if key != "seed"}
        alike = fingerprint([settings, result["steps"] if not result["stopped_early"] else 0])
        curve = _curve(result, read_jsonl(path.parent / "metrics.jsonl", dict[str, Any]))
        groups[result["task"], result["model"], alike].append((result, curve))
    found: defaultdict[str, list[Arm]] = defaultdict(list)
    for key in sorted(groups):
        results, curves = zip(*sorted(groups[key], key=lambda pair: pair[0]["seed"]), strict=True)
        found[key[0]].append(Arm(key[1], results, curves))
    return {task: found[task] for task in TASK_SIZES if task in found}


def _curve(result: SyntheticResult, rows: list[dict[str, Any]]) -> SeedCurve:
    rows = [row for row in rows if row["step"] <= result["steps"]]
    losses = [row for row in rows if "loss" in row]
    scores = [row for row in rows if "test_accuracy" in row]
    return SeedCurve(
        result["model"],
        np.array([row["step"] for row in losses]),
        np.array([row["loss"] for row in losses]),
        np.array([row["step"] for row in scores]),
        np.array([row["test_accuracy"] for row in scores]),
    )


def language_table(task: str, arms: Sequence[Arm]) -> PlainTable:
    """Accuracies of a synthetic language beside the published ones, and what they took."""
    header = ["model", "published, %", "this run, %", "each seed, %", "99 % at step", "steps", "rate", "s a seed"]
    rows = []
    for model, accuracy in PUBLISHED[task].items():
        ours = [arm for arm in arms if arm.name == model]
        if not ours:
            rows.append([PUBLISHED_NAMES[model], f"{accuracy:.1f}", *[MISSING] * (len(header) - 2)])
        rows += [_language_row(arm, f"{accuracy:.1f}" if _has_published_sizes(task, arm) else MISSING) for arm in ours]
    rows += [_language_row(arm, MISSING) for arm in arms if arm.name not in PUBLISHED[task]]
    return PlainTable(header, rows)


def _has_published_sizes(task: str, arm: Arm) -> bool:
    model = arm.settings["model"]
    of_task = all(arm.settings["task"][size] == value for size, value in PUBLISHED_SIZES[task].items())
    return of_task and (model["global_layers"], model["global_dim"]) == PUBLISHED_SHAPE


def _language_row(arm: Arm, published: str) -> list[str]:
    return [
        arm.name,
        published,
        f"{100 * arm.mean('accuracy'):.1f}",
        _each_seed(arm),
        ", ".join(number_text(result["learnt_at_step"], ",") for result in arm.results),
        _steps(arm),
        f"{arm.settings['train']['learning_rate']:g}",
        f"{np.mean([result['timing']['training_s'] for result in arm.results]):,.0f}",
    ]


def _each_seed(arm: Arm) -> str:
    return ", ".join(f"{100 * result['accuracy']:.1f}" for result in arm.results)


def _steps(arm: Arm) -> str:
    return ", ".join(dict.fromkeys(f"{result['steps']:,}" for result in arm.results))


def listops_table(arms: Sequence[Arm]) -> PlainTable:
    """Accuracy and speed on ListOps; a speed is set against the Transformer's on the same work alone."""
    header = [
        "model",
        "accuracy, %",
        "each seed, %",
        "tokens",
        "batch",
        "steps",
        "rate",
        "ms a step",
        "steps/s",
        "speed",
    ]
    transformers = {_work(arm): arm.median_step_s for arm in arms if arm.name == "attention"}
    rows = []
    for arm in arms:
        base = transformers.get(_work(arm))
        rows.append(
            [
                arm.name,
                f"{100 * arm.mean('accuracy'):.1f}",
                _each_seed(arm),
                f"{arm.first['num_tokens']:,}",
                str(arm.settings["train"]["batch_sequences"]),
                _steps(arm),
                f"{arm.settings['train']['learning_rate']:g}",
                f"{1000 * arm.median_step_s:,.1f}",
                f"{1 / arm.median_step_s:,.2f}",
                f"{base / arm.median_step_s:.2f}×" if base else MISSING,
            ]
        )
    return PlainTable(header, rows)


def _work(arm: Arm) -> tuple[Any, ...]:
    """What has to be the same for two speeds to be compared."""
    model = arm.settings["model"]
    return (
        arm.first["num_tokens"],
        arm.settings["train"]["batch_sequences"],
        model["global_dim"],
        model["global_layers"],
        arm.first["timing"]["threads"],
    )


def task_table(task: str, arms: Sequence[Arm]) -> PlainTable:
    """The table of one task."""
    return listops_table(arms) if task == "listops" else language_table(task, arms)


def results_as_text(found: dict[str, list[Arm]]) -> str:
    """Every table, for the terminal."""
    return "\n\n".join(f"{TITLES[task]}\n{task_table(task, arms).text()}" for task, arms in found.items())


@dataclass(frozen=True, kw_only=True)
class TaskSection(Section):
    """The results of one task.

    Attributes:
        task: what it asks for.
        table: of the models.
        notes: how the numbers are to be read.
        curves_file: the plot as a file beside the page.
    """

    task: str
    table: PlainTable
    notes: Sequence[str]
    curves_file: str

    def markdown(self) -> str:
        """The section in Markdown."""
        plot = f"![Accuracy and loss over steps]({self.curves_file})"
        parts = [f"## {self.title}", self.task, self.table.markdown(), *self.notes, plot]
        return "\n\n".join(parts)


def _task_section(task: str, arms: Sequence[Arm], colours: dict[str, int]) -> TaskSection:
    chance = TaskConfig(**arms[0].settings["task"]).chance
    return TaskSection(
        task.replace("_", "-"),
        TITLES[task],
        template="task.html",
        plots={"curves": seed_curves_plot(task, [curve for arm in arms for curve in arm.curves], colours, chance)},
        task=_what(task, arms[0]),
        table=task_table(task, arms),
        notes=_notes(task, arms),
        curves_file=f"curves-{task}.svg",
    )


def write_synthetic_report(run: Path) -> Path:
    """Writes ``report.html``, ``report.md`` and the curves of each task; returns the page's path."""
    found = found_results(run)
    name, lead, commands = run.resolve().name, _lead(found), _commands(found)
    colours = {arm: index for index, arm in enumerate(sorted({arm.name for arms in found.values() for arm in arms}))}
    sections = [_task_section(task, arms, colours) for task, arms in found.items()]
    for section in sections:
        write_text(run / section.curves_file, standalone_svg(section.plots["curves"]))
    texts = [
        f"# {name}: synthetic languages and ListOps",
        lead,
        *(section.markdown() for section in sections),
        "## Make it again",
        "\n".join(["```", *commands, "```"]),
    ]
    write_text(run / "report.md", "\n\n".join(texts) + "\n")
    html = page(
        "lst.recipes.synthetic",
        "synthetic.html",
        [*sections, Section("reproduce", "Make it again")],
        name=name,
        lead=lead,
        colours=colours,
        commands=commands,
        versions=versions(),
        written=datetime.now(timezone.utc),
    )
    write_text(run / "report.html", html)
    return run / "report.html"


def _lead(found: dict[str, list[Arm]]) -> str:
    models = sorted({arm.name for arms in found.values() for arm in arms})
    num_trainings = sum(len(arm.results) for arms in found.values() for arm in arms)
    return (
        f"{num_trainings} training{'s' if num_trainings != 1 else ''} of small models ({', '.join(models)}) on "
        "sequences made by rules. They test whether a layer can recall and compare, without a corpus."
    )


def _what(task: str, arm: Arm) -> str:
    """What the task asks for."""
    sizes = arm.settings["task"]
    if task == "listops":
        return (
            f"Nested lists of digits and operators of {sizes['min_length']:,} to {sizes['max_length']:,} tokens; the "
            f"model says the digit that they are worth. {sizes['train_sequences']:,} training sequences, "
            f"{sizes['test_sequences']:,} others to test on. Loss on the answer alone."
        )
    rules = {
        "induction_head": "A random sequence holds one marker; it ends with the marker again, and the model says what "
        "followed the first one.",
        "associative_recall": "Pairs of a key and its value under a map of the sequence's own; it ends with one of the "
        "keys, and the model says its value.",
    }
    return (
        f"{rules[task]} Length {sizes['length']}, vocabulary {sizes['vocabulary']}; {sizes['train_sequences']:,} "
        f"training sequences, {sizes['test_sequences']:,} others to test on. Loss on all tokens; the last is scored."
    )


def _notes(task: str, arms: Sequence[Arm]) -> list[str]:
    """How the numbers are to be read."""
    sizes = dict.fromkeys(f"{arm.name} {arm.first['parameters']:,}" for arm in arms)
    notes = [
        "Accuracies are those of the last step, means over seeds; rate is the learning rate. Parameters: "
        f"{', '.join(sizes)}."
    ]
    shares = {result["settings"]["train"]["decay_share"] for arm in arms for result in arm.results}
    if len(shares) == 1 and (share := shares.pop()):
        notes.append(f"The rate falls to zero over the last {share:.0%} of the steps.")
    if any(result["stopped_early"] for arm in arms for result in arm.results):
        notes.append("Some trainings were ended by the test accuracy that train.stop_at names, which flatters them.")
    if task == "listops":
        majority = 100 * float(np.mean([arm.mean("majority_accuracy") for arm in arms]))
        return [
            *notes,
            f"A guess is right in 10 % of the cases, naming always the commonest answer in {majority:.0f} %.",
            "Speed is against attention, by the median of the training steps of this run on a CPU, for models with the "
            "same tokens, batch, width, layers and threads; trainings took turns on the machine, not steps. "
            + PUBLISHED_SPEED,
        ]
    notes.append(
        "Published: arXiv 2212.14052, table 1, with a learning rate of 5e-4, "
        f"{'400' if task == 'induction_head' else '200'} passes over 5,000 sequences. Seconds are those of the "
        "training steps on this run's CPU."
    )
    if other := [arm.name for arm in arms if not _has_published_sizes(task, arm)]:
        notes.append(f"Of other sizes than published, so not to be compared with it: {', '.join(other)}.")
    return notes


def _commands(found: dict[str, list[Arm]]) -> list[str]:
    """Each command once that made a result."""
    words = [result["command"] for arms in found.values() for arm in arms for result in arm.results]
    return list(dict.fromkeys(shlex.join(["lst", "synthetic", *overrides]) for overrides in words))
