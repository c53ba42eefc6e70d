"""Format of the numbers beside the page of ``lst compare``: ``PAGE.json``."""

from __future__ import annotations

from typing import Literal, TypedDict

from lst.evaluation.adapted_results import AdaptedResult
from lst.evaluation.contamination import Contamination
from lst.evaluation.results import Direction, DirectionSummary, Share
from lst.recipes.runs.formats import ModelLine
from lst.storage import Count


class RunComparison(TypedDict):
    """A model against the base in one direction of a task.

    Keys:
        task: its title.
        first, second: labels of the base and of the model.
        is_paired: whether both answered the same items; only these are compared then.
        why: why it is not paired; empty where it is.
        num_items: that are compared; of an unpaired comparison, of the model that has fewer.
        difference, low, high: accuracy of ``second`` less that of ``first``, and its 95 % interval.
        p_value: McNemar's exact test; of an unpaired comparison, a z-test of two shares.
        p_holm: the same, corrected for all comparisons of the page.
    """

    task: str
    first: str
    second: str
    direction: Direction
    is_paired: bool
    why: str
    num_items: Count
    difference: float
    low: float
    high: float
    p_value: Share
    p_holm: Share


class TaskModel(TypedDict):
    """A model in a task: its label, the fingerprint of its items' data, and its accuracies by direction."""

    label: str
    data: str
    directions: dict[Direction, DirectionSummary]


class TaskRecord(TypedDict):
    """A task: what was asked, the accuracy of guessing, and every model that was asked."""

    title: str
    kind: str
    chance: Share
    models: list[TaskModel]


class ContaminationRecord(TypedDict):
    """What of the items of a run occurs in its training."""

    run: str
    of: str
    found: Contamination


class AdaptedRecord(TypedDict):
    """What a model that was adapted to recognition or to reading aloud reaches."""

    label: str
    result: AdaptedResult


class CompareFile(TypedDict):
    """``PAGE.json``.

    Keys:
        verdict: lines, as the page opens with.
        base: label of the model that others are compared with.
        models: by label; see ``lst runs list``.
        tasks, comparisons: of all models.
        adapted: of models that were adapted to recognition or to reading aloud.
        contamination: where it was looked for.
        problems: what could not be read, a line each.
    """

    version: Literal[1]
    verdict: list[str]
    base: str
    models: dict[str, ModelLine]
    tasks: list[TaskRecord]
    comparisons: list[RunComparison]
    adapted: list[AdaptedRecord]
    contamination: list[ContaminationRecord]
    problems: list[str]
