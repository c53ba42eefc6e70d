"""Recognition and reading aloud by adapted models: error rates, steps, and differences, a table a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lst.evaluation.adapted_results import (
    MODEL,
    AdaptedAnswers,
    AdaptedResult,
    ErrorRates,
    RateDifference,
    read_adapted,
    word_error_difference,
)
from lst.recipes.report.page import Section
from lst.recipes.report.questions import ShownModel
from lst.recipes.report.record import RunRecord

Answered = Sequence[tuple[ShownModel, AdaptedAnswers]]


@dataclass(frozen=True)
class AdaptedRow:
    """Errors of a model, or of what bounds it.

    Attributes:
        model: whose result this is.
        result: of the model.
        source: ``model``, ``resynthesis`` or ``recording``.
        rates: of the source.
        against: words against the base; None of the base itself, and of what bounds a model.
    """

    model: ShownModel
    result: AdaptedResult
    source: str
    rates: ErrorRates
    against: RateDifference | None

    @property
    def stopped(self) -> float:
        """Share of the answers that stopped by themselves."""
        return self.result["ended_by"].get("stop", 0) / max(self.result["num_utterances"], 1)


@dataclass(frozen=True)
class AdaptedTable:
    """Models that were asked the same.

    Attributes:
        first: result of the first of them; gives task, split and what counted errors.
        base: that others are compared with.
        rows: of the table.
    """

    first: AdaptedResult
    base: ShownModel
    rows: Sequence[AdaptedRow]


@dataclass(frozen=True, kw_only=True)
class AdaptationSection(Section):
    """Every task that models were asked; ``titles`` are those of the tasks."""

    tables: Sequence[AdaptedTable]
    titles: dict[str, str]


TITLES = {"asr": "Recognition: words of speech", "tts": "Reading aloud: speech of words"}


def adaptation_sections(
    answered: Answered, num_samples: int, seed: int, base: ShownModel | None = None
) -> list[AdaptationSection]:
    """A section of the error rates of some models, if there are any.

    Args:
        answered: each model and what it answered.
        num_samples, seed: of the resampling of utterances.
        base: with which others are compared where it answered; else it is the first without patches, else the first.
    """
    groups: dict[tuple[str, str, str], list[tuple[ShownModel, AdaptedAnswers]]] = defaultdict(list)
    for model, own in answered:
        groups[own.result["task"], own.result["split"], own.result["data"]].append((model, own))
    if not groups:
        return []
    tables = [_table(group, num_samples, seed, base) for group in groups.values()]
    return [AdaptationSection("adaptation", "Recognition and reading aloud", tables=tables, titles=TITLES)]


def adaptation_of_run(run: RunRecord) -> list[AdaptationSection]:
    """The section of a run: the results of its models as they are now."""
    found = [
        (model, own)
        for model in run.models
        for path in run.folder.eval_adapted_results(model.name)
        if (own := read_adapted(path)).result["weights_sha256"] == model.weights_sha256
    ]
    return adaptation_sections(found, run.config.eval.bootstrap_samples, run.config.seed)


def _table(group: Answered, num_samples: int, seed: int, wanted: ShownModel | None) -> AdaptedTable:
    plain = next((one for one in group if one[1].result["strategy"] == "none"), group[0])
    base, of_base = next((one for one in group if one[0] is wanted), plain)
    rows = []
    for model, own in group:
        compared = None if model is base else word_error_difference(of_base, own, num_samples, seed)
        for source, rates in own.result["sources"].items():
            rows.append(AdaptedRow(model, own.result, source, rates, compared if source == MODEL else None))
    return AdaptedTable(group[0][1].result, base, rows)
