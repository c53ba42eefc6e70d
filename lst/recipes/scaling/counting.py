"""Counts what the models of a grid will use. The models of a size, a budget and a seed are a group, and follow from the
first of them::

    first arm ──steps that spend the budget──▶ Spent ──control──▶ steps of the other arms

Groups do not depend on each other: ``jobs`` processes count them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.parallel import ordered_map
from lst.parallel.commands import jobs_and_threads
from lst.progress import Progress
from lst.recipes.scaling.grid import Cell
from lst.recipes.training.control import Spent, controlled, spent, with_steps
from lst.runs import FittedPatching

# Where a count of a curriculum's steps begins; it is repeated until the number stays.
FIRST_STEPS = 1000


@dataclass(frozen=True)
class _Arm:
    """A model to count."""

    name: str
    config: Config
    patching: FittedPatching


@dataclass(frozen=True)
class _Group:
    """Models of which the first one's budget decides the others' steps."""

    arms: Sequence[_Arm]
    budget: float
    unit: str
    control: str


def counted(
    config: ScalingConfig,
    cells: Sequence[Cell],
    configs: Mapping[str, Config],
    data: PreparedData,
    patchings: Mapping[str, FittedPatching],
) -> dict[str, Spent]:
    """What each cell uses, by its name.

    Args:
        config: the command's; ``jobs`` processes count. With ``jobs=0`` this one does.
        cells: of the grid; the first of each group is of the first arm.
        configs: of the cells, by name.
        data: of all cells.
        patchings: likewise, with what is fitted for them.
    """
    grid, counts = config.scale, dict[str, Spent]()
    arms_of = (list(group) for _, group in itertools.groupby(cells, lambda cell: (cell.size, cell.budget, cell.seed)))
    groups = [
        _Group(
            [_Arm(cell.name, configs[cell.name], patchings[cell.name]) for cell in group],
            group[0].budget,
            grid.budget,
            grid.control,
        )
        for group in arms_of
    ]
    jobs = 1 if config.jobs == 0 else jobs_and_threads(config.jobs, config.threads)[0]
    with Progress(len(cells), "counting batches", "model") as progress:
        for found in ordered_map(functools.partial(_count, data), groups, min(jobs, len(groups)), are_long=True):
            counts |= found
            progress.advance(len(found))
    return counts


def _count(data: PreparedData, group: _Group) -> dict[str, Spent]:
    first, *others = group.arms
    reference = _of_budget(first, data, group)
    return {first.name: reference} | {
        arm.name: controlled(arm.config, data, arm.patching, reference, group.control) for arm in others
    }


def _of_budget(arm: _Arm, data: PreparedData, group: _Group) -> Spent:
    if group.unit == "steps":
        return spent(with_steps(arm.config, round(group.budget)), data, arm.patching)
    wanted = Spent(FIRST_STEPS, patches=round(group.budget), tokens=round(group.budget), flops=group.budget)
    return controlled(arm.config, data, arm.patching, wanted, group.unit)
