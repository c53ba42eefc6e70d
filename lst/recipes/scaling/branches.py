"""``scale.branch=true``: of each size, arm and seed the longest training goes its whole way; the others branch off it.

::

    longest budget   warm-up ── stable ──┬──────┬───── decay
    the others                           └─ …   └─ …          one decay each

A branch has the weights, bit for bit, of a training from step 0. So a model whose checkpoint to branch off is not there
is trained from step 0 and gets the same point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.recipes.scaling.grid import Cell
from lst.recipes.scaling.plan_file import CellRecord
from lst.recipes.training.branch import branch_problems
from lst.recipes.training.checkpoints import MARKER_FILE, checkpoint_folder
from lst.recipes.training.train import training_settings
from lst.runs import RunFolder
from lst.storage import flat_settings


def trunks(config: ScalingConfig, steps: Mapping[str, int], cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cell that each cell branches off, by name; cells that do not are left out.

    Args:
        config: of the command.
        steps: of each cell.
        cells: of the grid.
    """
    if not config.scale.branch:
        return {}
    longest: dict[tuple[str, str, int], Cell] = {}
    for cell in sorted(cells, key=lambda cell: steps[cell.name]):
        longest[cell.size, cell.arm, cell.seed] = cell
    pairs = {cell.name: longest[cell.size, cell.arm, cell.seed] for cell in cells}
    return {name: trunk for name, trunk in pairs.items() if trunk.name != name}


def grid_branch_problems(
    trunk_of: Mapping[str, Cell], configs: Mapping[str, Config], data: PreparedData
) -> list[tuple[str, str]]:
    """Names of cells that cannot branch off their longest training, each with a reason."""
    settings = {name: flat_settings({**training_settings(config, data)}) for name, config in configs.items()}
    return [
        (name, f"scale.branch: {problem}")
        for name, trunk in trunk_of.items()
        for problem in branch_problems(configs[name].train.first_decay_step, settings[trunk.name], settings[name])
    ]


def with_branch(config: ScalingConfig, record: CellRecord, steps: Mapping[str, int], cells: Sequence[Cell]) -> Config:
    """The configuration of a cell's training: where it branches off, or what others need to branch off it."""
    trunk_of = trunks(config, steps, cells)
    by_name = {cell.name: cell for cell in cells}
    own = by_name[record["name"]].config(record["steps"])
    branches = [name for name, trunk in trunk_of.items() if trunk.name == record["name"]]
    keep_at = sorted({by_name[name].config(steps[name]).train.first_decay_step for name in branches})
    train = replace(own.train, keep_at=[*own.train.keep_at, *keep_at])
    trunk = trunk_of.get(record["name"])
    # A training that has begun goes on as it began.
    if trunk is not None and not (RunFolder.of(own).model(own.name) / "settings.json").exists():
        longest = trunk.config(steps[trunk.name])
        checkpoints = RunFolder.of(longest).model(longest.name) / "checkpoints"
        source = checkpoint_folder(checkpoints, own.train.first_decay_step)
        if (source / MARKER_FILE).exists():
            train = replace(train, branch_from=str(source))
    return replace(own, train=train)
