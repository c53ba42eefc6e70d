"""``plan.json``: what ``lst scale plan`` writes, and ``point.json``: what ``lst scale run`` leaves for each model.

::

    OUT/plan.json                  PlanFile
    OUT/fitted/                    what patchings are fitted with, see ``lst.runs.fitted_patching``
    OUT/cells/CELL/                the run of one model: models/, eval/
    OUT/cells/CELL/point.json      PointFile: written last, so a model that has one is finished
    OUT/logs/CELL.log              output of its training and evaluation
    OUT/points.csv                 all points; see ``lst.recipes.scaling.points``
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from lst.configs.scaling_schema import ScalingConfig
from lst.storage import Count


class CellRecord(TypedDict):
    """A model of the plan.

    Keys:
        name: of the cell, such as ``static-tiny-300-seed0``.
        size, arm, budget, seed: its place in the grid.
        strategy: of patching.
        N, N_non_embedding: parameters, all of them and without embeddings and head.
        steps, patches, tokens, flops: what the training will use, counted from its batches.
        units, text_bytes: units of speech and bytes of text among the tokens.
        core_hours: predicted time of the training on one core.
        made_from: fingerprint of all that decides its result.
    """

    name: str
    size: str
    arm: str
    budget: float
    seed: Count
    strategy: str
    N: Count
    N_non_embedding: Count
    steps: Count
    patches: Count
    tokens: Count
    flops: float
    units: Count
    text_bytes: Count
    core_hours: float
    made_from: str


class PlanFile(TypedDict):
    """``plan.json``.

    Keys:
        made_from: fingerprint of the data and of the grid.
        data: fingerprint of the prepared data.
        budget, control: units of the budgets, and what arms have in common.
        core_flops: operations a second in matrix products that one core reached when the plan was made.
        core_hours: of all cells together.
        cells: sizes, budgets, seeds and arms, the last changing fastest.
    """

    version: Literal[1]
    made_from: str
    data: str
    budget: str
    control: str
    core_flops: float
    core_hours: float
    cells: list[CellRecord]


class PointFile(TypedDict):
    """``point.json``: a row of ``points.csv``, and the fingerprint of what made it."""

    version: Literal[1]
    made_from: str
    row: dict[str, str | float]


def plan_path(config: ScalingConfig) -> Path:
    """The plan of ``out=``."""
    return Path(config.out) / "plan.json"


def fitted_folder(config: ScalingConfig) -> Path:
    """What is fitted for the patchings of all models, before they are counted."""
    return Path(config.out) / "fitted"


def cell_folder(config: ScalingConfig, name: str) -> Path:
    """The run of one model."""
    return Path(config.out) / "cells" / name


def point_path(config: ScalingConfig, name: str) -> Path:
    """The result of one model."""
    return cell_folder(config, name) / "point.json"


def log_path(config: ScalingConfig, name: str) -> Path:
    """The output of one model's training and evaluation."""
    return Path(config.out) / "logs" / f"{name}.log"
