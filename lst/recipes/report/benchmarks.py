"""The report's spoken benchmarks, a table each; and what of all items occurs in the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lst.configs.schema import CONTAMINATION
from lst.evaluation.accuracy import ALL, headline_accuracy
from lst.evaluation.benchmark import BenchmarkResult
from lst.evaluation.contamination import KINDS, Contamination, TextKind, contamination_of, read_contamination
from lst.evaluation.results import Accuracy, DirectionScore
from lst.recipes.report.page import Section
from lst.recipes.report.plots import DIRECTION_NAMES
from lst.recipes.report.record import ModelRecord, RunRecord
from lst.runs.formats import read_record


class BenchmarkCell(NamedTuple):
    """The headline accuracy of a stratum, and the one by the mean a token."""

    headline: Accuracy
    mean: Accuracy


class BenchmarkRow(NamedTuple):
    """Accuracies of a model in one direction, by stratum, and the name of the headline score."""

    model: ModelRecord
    direction: str
    score: str
    cells: Sequence[BenchmarkCell]
    num_directions: int


@dataclass(frozen=True)
class BenchmarkTable:
    """Models on one benchmark.

    Attributes:
        result: of the first model; gives the name, chance and controls.
        strata: items of each stratum.
        rows: a row a model and direction.
        left_out: model, item, reason.
    """

    result: BenchmarkResult
    strata: Mapping[str, int]
    rows: Sequence[BenchmarkRow]
    left_out: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class BenchmarksSection(Section):
    """Every benchmark that models of the run were scored on; ``directions`` names directions by their sign."""

    tables: Sequence[BenchmarkTable]
    directions: Mapping[str, str]


def benchmark_results(run: RunRecord) -> dict[str, list[tuple[ModelRecord, BenchmarkResult]]]:
    """Results of the models as they are now, by fingerprint of the benchmark."""
    found: dict[str, list[tuple[ModelRecord, BenchmarkResult]]] = {}
    for model in run.models:
        for path in run.folder.eval_benchmarks(model.name):
            remedy = f"Delete {path} and run lst eval again."
            result = read_record(path, BenchmarkResult, "the evaluation", remedy)
            if result["weights_sha256"] == model.weights_sha256:
                found.setdefault(result["data"], []).append((model, result))
    return found


def benchmark_sections(run: RunRecord) -> list[Section]:
    """A section of benchmarks, if the models were scored on some."""
    tables = [_table(results) for results in benchmark_results(run).values()]
    if not tables:
        return []
    return [BenchmarksSection("benchmarks", "Spoken benchmarks", tables=tables, directions=DIRECTION_NAMES)]


def _table(results: Sequence[tuple[ModelRecord, BenchmarkResult]]) -> BenchmarkTable:
    first = results[0][1]
    strata = next(iter(first["directions"].values()))["strata"]
    rows = [
        BenchmarkRow(
            model,
            direction,
            score["headline"],
            [_cell(score, stratum) for stratum in strata],
            len(result["directions"]),
        )
        for model, result in results
        for direction, score in result["directions"].items()
    ]
    left_out = [(model.name, one["id"], one["reason"]) for model, result in results for one in result["left_out"]]
    return BenchmarkTable(first, {name: own["num_items"] for name, own in strata.items()}, rows, left_out)


def _cell(score: DirectionScore, stratum: str) -> BenchmarkCell:
    name = stratum if stratum in score["strata"] else ALL
    return BenchmarkCell(headline_accuracy(score, name), score["strata"][name]["mean"])


@dataclass(frozen=True, kw_only=True)
class ContaminationSection(Section):
    """What of the evaluation occurs in the training.

    Attributes:
        found: of the run's own data and of benchmarks, each with a name for people.
        kinds: names of the kinds of texts.
    """

    found: Sequence[tuple[str, Contamination]]
    kinds: Mapping[TextKind, str]


def contamination_sections(run: RunRecord) -> list[Section]:
    """A section of contamination, if it was looked for."""
    own = contamination_of(run.folder, run.data.fingerprint)
    found = [("held-out data of the run", own)] if own is not None else []
    for path in run.folder.eval_benchmarks(CONTAMINATION):
        found.append((path.name.partition("@")[2].rpartition("-")[0], read_contamination(path)))
    if not found:
        return []
    return [ContaminationSection("contamination", "Contamination", found=found, kinds=KINDS)]
