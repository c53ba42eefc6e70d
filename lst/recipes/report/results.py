"""The report's results: accuracies and bits, what the training cost, how it went, and single cloze items."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lst.configs.compose import MAIN
from lst.configs.reads import words_read_by
from lst.data.documents import span_frames
from lst.data.utterance import Utterance
from lst.evaluation import DIRECTIONS
from lst.evaluation.cloze import ending_start, item_credits
from lst.evaluation.results import BITS_COLUMNS, NO_CLOZE, BitsColumn, ClozeRow, Direction, EvalResult
from lst.recipes.report.page import Section
from lst.recipes.report.plots import DIRECTION_NAMES, Curve, accuracy_plot, curves_plot, smoothing_window
from lst.recipes.report.record import ModelRecord, RunRecord
from lst.runs.formats import ValidationRow

FEW_ITEMS = 200
NUM_SHOWN_ITEMS = 4
SHOWN_DIRECTIONS: tuple[Direction, ...] = ("T→T", "S→S")
VERDICTS = {1.0: "right", 0.5: "tie", 0.0: "wrong"}


class CorpusResults(NamedTuple):
    """Results on one corpus.

    Attributes:
        corpus: its description.
        is_own: it is the run's own; the text and the plot are of it.
        rows: models and their results.
        best: best value of each column of bits; a column whose values are equal or do not compare has none.
    """

    corpus: str
    is_own: bool
    rows: Sequence[tuple[ModelRecord, EvalResult]]
    best: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ResultsSection(Section):
    """Cloze accuracy in four directions and bits.

    Attributes:
        waiting: models that are trained but not evaluated.
        eval_command: evaluates them.
        directions: names of the directions, by sign.
        num_items: different numbers of items that models were evaluated on, rising.
        num_units: different numbers of held-out units that models read, rising; repeated units may be read once.
        has_few_items: whether the intervals are wide for want of items.
        corpora: results by corpus, the run's own first.
        left_out: model, utterance or item, and why it is no part of the numbers.
        no_cloze: said of a corpus whose held-out speech has no words.
        above_chance: directions in which each model is surely better than chance.
    """

    waiting: Sequence[str]
    eval_command: str
    directions: Mapping[str, str]
    num_items: Sequence[int]
    num_units: Sequence[int]
    has_few_items: bool
    corpora: Sequence[CorpusResults]
    left_out: Sequence[tuple[str, str, str]]
    bits_columns: Mapping[str, BitsColumn]
    no_cloze: str
    above_chance: Mapping[str, Sequence[str]]


def results_section(run: RunRecord) -> ResultsSection:
    """Cloze accuracy in four directions and bits, as a table and as a plot."""
    results = run.results
    asked = {name: result for name, result in results.items() if result["cloze"]}
    num_items = sorted({result["cloze"][d]["num_items"] for result in asked.values() for d in DIRECTIONS})
    num_units = sorted({result["bits"]["num_units"] for result in results.values()})
    return ResultsSection(
        "results",
        "Results",
        run.badge,
        plots={"accuracy": accuracy_plot(asked, run.colours)} if asked else {},
        waiting=[model.name for model in run.models if model.name not in results],
        eval_command=shlex.join(["lst", "eval", *words_read_by("eval", run.overrides, MAIN.options)]),
        directions=DIRECTION_NAMES,
        num_items=num_items,
        num_units=num_units,
        has_few_items=min(num_items, default=FEW_ITEMS) < FEW_ITEMS,
        corpora=_by_corpus(run),
        left_out=[
            (model.name, one["id"], one["reason"])
            for model in run.models
            for result in (model.result, *model.other_results)
            if result is not None
            for one in result.get("left_out", [])
        ],
        bits_columns=BITS_COLUMNS,
        no_cloze=NO_CLOZE,
        above_chance={
            name: [direction for direction in DIRECTIONS if result["cloze"][direction]["mean"]["low"] > 0.5]
            for name, result in asked.items()
        },
    )


def _by_corpus(run: RunRecord) -> list[CorpusResults]:
    """A table for each corpus that models were evaluated on: their own first, then others by their fingerprint."""
    tables: dict[str, list[tuple[ModelRecord, EvalResult]]] = {}
    for model in run.evaluated:
        assert model.result is not None
        tables.setdefault("", []).append((model, model.result))
    for data in sorted({result["data"] for model in run.models for result in model.other_results}):
        tables[data] = [
            (model, result) for model in run.models for result in model.other_results if result["data"] == data
        ]
    return [
        CorpusResults(
            rows[0][1].get("corpus", run.data.index["description"]),
            not data,
            rows,
            _best_bits([result for _, result in rows]),
        )
        for data, rows in tables.items()
    ]


def _best_bits(results: Sequence[EvalResult]) -> dict[str, float]:
    """The best value of each column in which there is a choice; numbers a unit of different units do not compare."""
    has_same_units = len({result["bits"]["num_units"] for result in results}) == 1
    bits: dict[str, list[float]] = {
        key: [result["bits"][key] for result in results if result["bits"][key] is not None]  # type: ignore[literal-required]
        for key, column in BITS_COLUMNS.items()
        if has_same_units or not column.is_a_unit
    }
    return {
        key: max(values) if BITS_COLUMNS[key].more_is_better else min(values)
        for key, values in bits.items()
        if len(set(values)) > 1
    }


@dataclass(frozen=True, kw_only=True)
class CostSection(Section):
    """What each training used; ``slots`` are the patch slots of each model whose metrics are known."""

    slots: Mapping[str, int]


def cost_section(run: RunRecord) -> CostSection:
    """What each training used, and on what terms the models compare."""
    slots = {model.name: model.cost["slots"] for model in run.models if model.cost}
    return CostSection("cost", "Cost", run.badge, slots=slots)


@dataclass(frozen=True, kw_only=True)
class CurvesSection(Section):
    """How loss and held-out bits fell; losses are averaged over ``window`` steps.

    ``last_by_source`` holds the last validation of each model whose data has several sources.
    """

    window: int = 1
    last_by_source: Mapping[str, ValidationRow] = field(default_factory=dict)


def curves_section(run: RunRecord) -> CurvesSection:
    """How loss and held-out bits fell."""
    curves = [curve for model in run.models if (curve := training_curve(model)) is not None]
    if not curves:
        return CurvesSection("curves", "Learning curves")
    window = smoothing_window(max(len(curve.losses) for curve in curves))
    plots = {"curves": curves_plot(curves, run.colours)}
    last = {model.name: model.validations[-1] for model in run.models if model.steps and model.validations}
    last = {name: row for name, row in last.items() if "valid_bits_per_unit_by_source" in row}
    return CurvesSection("curves", "Learning curves", run.badge, plots=plots, window=window, last_by_source=last)


def training_curve(model: ModelRecord) -> Curve | None:
    """The curve of one model; None where its metrics are gone."""
    train = model.steps
    if not train:
        return None
    flops = {row["step"]: row["training_flops"] for row in train}
    valid = [row for row in model.validations if row["step"] in flops]
    return Curve(
        model.name,
        np.array([row["step"] for row in train], float),
        np.array([row["loss"] for row in train], float),
        np.array([row["training_flops"] for row in train], float),
        np.array([row["step"] for row in valid], float),
        np.array([flops[row["step"]] for row in valid], float),
        np.array([row.get("valid_bits_per_unit", math.nan) for row in valid], float),
        np.array([row.get("valid_bits_per_byte", math.nan) for row in valid], float),
    )


class CutText(NamedTuple):
    """The words of an utterance before and after the place where its ending begins."""

    id: str
    speaker: str
    context: str
    ending: str


class Score(NamedTuple):
    """Mean log-likelihoods of both endings, nats a token, and the verdict: ``right``, ``wrong`` or ``tie``."""

    true_nats: float
    false_nats: float
    verdict: str


@dataclass(frozen=True)
class Item:
    """A cloze item and what models gave its endings.

    Attributes:
        id: of the utterance.
        scores: per model one of each direction that is shown; None where the model has none.
        own, other: the utterance, and the one with the false ending; None where the evaluation was of other data.
        is_same_cut: whether the ending that was scored is the one shown.
    """

    id: str
    scores: Sequence[tuple[ModelRecord, Sequence[Score | None]]]
    own: CutText | None = None
    other: CutText | None = None
    is_same_cut: bool = True


@dataclass(frozen=True, kw_only=True)
class ItemsSection(Section):
    """A few cloze items of ``num_items``, with the directions whose scores they show; ``no_cloze`` says why none is."""

    directions: Sequence[str] = SHOWN_DIRECTIONS
    num_items: int
    items: Sequence[Item]
    no_cloze: str = ""


def cloze_section(run: RunRecord) -> ItemsSection:
    """A few items with what each model gave their endings."""
    utterances = {utterance.id: utterance for utterance in run.valid}
    first = next((model.items for model in run.models if model.items), [])
    ids = [row["utterance"] for row in first if row["direction"] == SHOWN_DIRECTIONS[0]]
    places = np.unique(np.linspace(0, len(ids) - 1, NUM_SHOWN_ITEMS).round().astype(int))
    items = [_item(run, utterances, ids[place]) for place in places] if ids else []
    is_impossible = bool(run.evaluated) and not any(result["cloze"] for result in run.results.values())
    return ItemsSection(
        "items",
        "Cloze items",
        run.badge if ids else "",
        num_items=len(ids),
        items=items,
        no_cloze=NO_CLOZE if is_impossible else "",
    )


def _item(run: RunRecord, utterances: dict[str, Utterance], utterance_id: str) -> Item:
    rows = {
        model.name: {row["direction"]: row for row in model.items if row["utterance"] == utterance_id}
        for model in run.models
    }
    scores = [
        (model, [_score(row) if (row := rows[model.name].get(direction)) else None for direction in SHOWN_DIRECTIONS])
        for model in run.models
    ]
    item = Item(utterance_id, [(model, found) for model, found in scores if any(found)])
    own = utterances.get(utterance_id)
    other_ids = {rows[name][d]["other"] for name in rows for d in SHOWN_DIRECTIONS if d in rows[name]}
    other = utterances.get(min(other_ids))
    if own is None or other is None or len(other_ids) > 1:
        return item
    return Item(
        item.id,
        item.scores,
        _cut(own, run.config.eval.context_share),
        _cut(other, run.config.eval.context_share),
        _same_cut(own, ending_start(own, run.config.eval.context_share), next(iter(rows.values())).get("S→S")),
    )


def _cut(utterance: Utterance, context_share: float) -> CutText:
    start = ending_start(utterance, context_share)
    words = [word.text for word in utterance.words]
    return CutText(utterance.id, utterance.speaker, " ".join(words[:start]), " ".join(words[start:]))


def _same_cut(utterance: Utterance, start: int, row: ClozeRow | None) -> bool:
    """Whether the spoken ending has as many units as were scored."""
    if row is None:
        return True
    first, last = span_frames(utterance, start, len(utterance.words))
    return bool(last - first == row["true_tokens"])


def _score(row: ClozeRow) -> Score:
    true = row["true_nats"] / max(row["true_tokens"], 1)
    false = row["false_nats"] / max(row["false_tokens"], 1)
    return Score(true, false, VERDICTS[float(item_credits([row], "mean")[0])])
