"""The models of some runs, and what each answered. What is damaged is named and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lst.errors import LstError
from lst.evaluation.accuracy import item_credits
from lst.evaluation.adapted_results import AdaptedAnswers, read_adapted
from lst.evaluation.benchmark import BenchmarkResult
from lst.evaluation.cloze import item_credits as cloze_credits
from lst.evaluation.results import DIRECTIONS, ClozeRow, Direction, DirectionSummary, EvalResult, ItemKind, ItemRow
from lst.evaluation.summary import CHANCE, direction_summary, model_summary
from lst.recipes.runs.formats import ModelLine
from lst.recipes.runs.read import ReadModel, read_model
from lst.runs import RunFolder
from lst.runs.formats import read_record
from lst.storage import read_jsonl


@dataclass(frozen=True)
class Answers:
    """What a model answered on one set of items.

    Attributes:
        kind: questions, cloze or benchmark.
        title: description of the corpus, or name of the benchmark.
        data: fingerprint of the items with their units.
        items: fingerprint of their ids and words; empty where that was not recorded.
        chance: the accuracy of guessing.
        directions: accuracies with their intervals.
        credits: by direction and item, what counts as right.
        rows: of single endings, or of cloze items.
        result: of which they are a part; None for a benchmark.
        folder: of the benchmark, as it was scored; empty where that is not recorded, and for other kinds.
    """

    kind: ItemKind
    title: str
    data: str
    items: str
    chance: float
    directions: Mapping[Direction, DirectionSummary]
    credits: Mapping[Direction, Mapping[str, float]]
    rows: Sequence[ItemRow] | Sequence[ClozeRow]
    result: EvalResult | None = None
    folder: str = ""


@dataclass(frozen=True)
class Entry:
    """A model on the page.

    Attributes:
        name: its label: RUN/MODEL, as short as it is clear.
        colour: index of the colour of its patching strategy.
        run: folder of its run.
        line: what is listed of it.
        answers: what it was asked; none before ``lst eval``.
        adapted: what it wrote or said, where it was adapted to that.
    """

    name: str
    colour: int
    run: Path
    line: ModelLine
    answers: tuple[Answers, ...]
    adapted: tuple[AdaptedAnswers, ...] = ()


def read_entries(models: Sequence[tuple[Path, str]]) -> tuple[list[Entry], list[str]]:
    """The finished models among some, each given by run and name, and what could not be read."""
    problems: list[str] = []
    found: list[tuple[Path, ModelLine, tuple[Answers, ...], tuple[AdaptedAnswers, ...]]] = []
    for run, name in models:
        line = read_model(run, name)
        problems += [f"{run}, {name}: {one}" for one in line["problems"]]
        if line["num_parameters"] is None:
            problems.append(f"{run}, {name}: it is {line['state']}, not a finished model, and is left out")
            continue
        model = ReadModel(RunFolder(run), name)
        found.append((run, line, tuple(_answers(model, line)), tuple(_adapted(model, line))))
        problems += [f"{run}, {name}: {one}" for one in model.problems]
    labels = _labels([(run, line["name"]) for run, line, *_ in found])
    strategies = list(dict.fromkeys(line["strategy"] for _, line, *_ in found))
    entries = [
        Entry(label, strategies.index(line["strategy"]), run, line, answers, adapted)
        for label, (run, line, answers, adapted) in zip(labels, found, strict=True)
    ]
    return entries, list(dict.fromkeys(problems))


def _labels(models: Sequence[tuple[Path, str]]) -> list[str]:
    """Names of models with as many folders before them as tell them apart."""
    if len({run for run, _ in models}) == 1:
        return [name for _, name in models]
    parts = [(*run.parts[1:], name) for run, name in models]
    depth = 2
    while depth < max(map(len, parts)) and len({own[-depth:] for own in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(own[-depth:]) for own in parts]


def _answers(model: ReadModel, line: ModelLine) -> list[Answers]:
    """All that a model was asked; what cannot be read is noted in ``model.problems``."""
    found: list[Answers] = []
    result = model.result(line["weights_sha256"]) if model.run.eval_result(model.name).exists() else None
    if result is not None:
        asked: tuple[ItemKind, ...] = ("questions", "cloze")
        kinds = [kind for kind in asked if result.get(kind)]
        found += [one for kind in kinds if (one := model.tried(lambda kind=kind: _own(model, result, kind), None))]  # type: ignore[misc]
    for path in model.run.eval_benchmarks(model.name):
        one = model.tried(lambda path=path: _benchmark(path, line["weights_sha256"]), None)  # type: ignore[misc]
        found += [one] if one is not None else []
    return found


def _adapted(model: ReadModel, line: ModelLine) -> list[AdaptedAnswers]:
    """All that an adapted model wrote or said; what cannot be read is noted in ``model.problems``."""

    def read(path: Path) -> AdaptedAnswers:
        found = read_adapted(path)
        _check_weights(path, line["weights_sha256"], found.result["weights_sha256"], "eval.task=")
        return found

    paths = model.run.eval_adapted_results(model.name)
    return [one for path in paths if (one := model.tried(lambda path=path: read(path), None))]  # type: ignore[misc]


def _check_weights(path: Path, now: str, of_result: str, option: str) -> None:
    if now not in ("", of_result):
        raise LstError(f"{path} is of other weights: run lst eval {option} again")


def _own(model: ReadModel, result: EvalResult, kind: ItemKind) -> Answers:
    run, name = model.run, model.name
    if kind == "questions":
        rows: list[ItemRow] | list[ClozeRow] = read_jsonl(run.eval_questions(name), ItemRow)
        credits = {
            direction: item_credits([row for row in rows if row["direction"] == direction], score["headline"])  # type: ignore[misc]
            for direction, score in result["questions"].items()
        }
    else:
        rows = read_jsonl(run.eval_items(name), ClozeRow)
        credits = {direction: _cloze_credits(rows, direction) for direction in DIRECTIONS}
    if not rows:
        model.problems.append(f"the rows of {kind} of {name} are gone: it is in tables, and compared with none")
    summary = model_summary(result, kind)["directions"]
    return Answers(
        kind,
        result.get("corpus", "held-out data"),
        result.get("data", ""),
        result.get("items", {}).get(kind, ""),
        CHANCE,
        summary,
        credits,  # type: ignore[arg-type]
        rows,
        result,
    )


def _cloze_credits(rows: Sequence[ClozeRow], direction: Direction) -> dict[str, float]:
    """Credits by item: the pair of utterances whose endings are told apart."""
    own = [row for row in rows if row["direction"] == direction]
    names = [f"{row['utterance']} or {row['other']}" for row in own]
    return dict(zip(names, cloze_credits(own, "mean").tolist(), strict=True))


def _benchmark(path: Path, weights_sha256: str) -> Answers:
    result = read_record(path, BenchmarkResult, "the evaluation", f"Delete {path} and run lst eval again.")
    _check_weights(path, weights_sha256, result["weights_sha256"], "eval.benchmark=")
    rows = read_jsonl(path.with_suffix(".items.jsonl"), ItemRow)
    scores = result["directions"]
    return Answers(
        "benchmark",
        result["benchmark"],
        result["data"],
        result.get("items", ""),
        result["chance"],
        {direction: direction_summary(score) for direction, score in scores.items()},  # type: ignore[misc]
        {
            direction: item_credits([row for row in rows if row["direction"] == direction], score["headline"])  # type: ignore[misc]
            for direction, score in scores.items()
        },
        rows,
        folder=result.get("folder", ""),
    )
