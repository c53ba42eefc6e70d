"""The cells of a grid: every size with every budget, seed and arm, each a training of its own.

::

    scale.words + arm's words + size's words + seed=… name=ARM run_dir=OUT/cells/CELL data_dir=…   ──▶ Config
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from lst.configs.compose import MAIN
from lst.configs.reads import READS, reads_of
from lst.configs.scaling_schema import GridConfig, ScalingConfig
from lst.configs.schema import Config, name_problems
from lst.data.prepared import PreparedData
from lst.errors import ProblemsError, raise_problems
from lst.recipes.scaling.plan_file import cell_folder
from lst.recipes.training.train import training_settings
from lst.storage import fingerprint

SIZE_MARK = "<size>"
# While the number of steps is not known: no warm-up is longer.
ANY_STEPS = 1_000_000_000
# What the plan sets for each cell.
_OF_PLAN = ("run_dir", "data_dir", "name", "seed", "train.max_steps", "train.resume_from", "train.branch_from")
# Raised when the same options and data would give other points.
_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """A model of the grid: its place, and the words of its training without the number of steps."""

    name: str
    size: str
    arm: str
    budget: float
    seed: int
    words: tuple[str, ...]

    def config(self, steps: int = ANY_STEPS, is_evaluation: bool = False) -> Config:
        """Its configuration; held-out items are drawn from one seed in all evaluations."""
        words = [word for word in self.words if not (is_evaluation and word.startswith("seed="))]
        return MAIN.build([*words, f"train.max_steps={steps}"])


def grid_cells(config: ScalingConfig) -> list[Cell]:
    """All cells of a grid: sizes, budgets, seeds and arms, the last changing fastest.

    Raises:
        UserError: the grid is empty or contradicts itself; every problem is named.
    """
    grid = config.scale
    raise_problems("the grid", _grid_problems(config), "See lst scale plan --help, and the guide on scaling.")
    cells = []
    for size, budget, seed, arm in itertools.product(grid.all_sizes, grid.budgets, grid.seeds, grid.arms):
        name = f"{arm}-{size}-{_budget_name(budget)}-seed{seed}"
        own = [word.replace(SIZE_MARK, size) for word in [*grid.words, *grid.arms[arm], *grid.all_sizes[size]]]
        places = [f"run_dir={cell_folder(config, name)}", f"data_dir={config.data_dir}"]
        words = (*own, f"seed={seed}", f"name={arm}", *places)
        cells.append(Cell(name, size, arm, budget, seed, words))
    return cells


def checked_configs(cells: Sequence[Cell]) -> dict[str, Config]:
    """The configuration of each cell by its name; the number of steps is still to come.

    Raises:
        UserError: an option of a cell is wrong; a problem that cells share is named once.
    """
    configs: dict[str, Config] = {}
    found: list[tuple[str, str]] = []
    for cell in cells:
        try:
            configs[cell.name] = cell.config()
        except ProblemsError as error:
            found += [(cell.name, problem) for problem in error.problems]
    raise_for_cells(found, len(cells))
    return configs


def raise_for_cells(found: Iterable[tuple[str, str]], num_cells: int) -> None:
    """Raises ``UserError`` for problems of cells, (name, problem), each problem once."""
    names: dict[str, list[str]] = {}
    for name, problem in found:
        names.setdefault(problem, []).append(name)
    lines = [
        f"{problem} ({', '.join(own[:3])}{f' and {len(own) - 3} more' if len(own) > 3 else ''})"
        for problem, own in names.items()
    ]
    failed = {name for own in names.values() for name in own}
    raise_problems(f"{len(failed)} of {num_cells} models cannot be trained", lines, "Nothing has begun.")


def cell_fingerprint(config: Config, data: PreparedData) -> str:
    """Of all that decides a cell's point."""
    return fingerprint([_VERSION, training_settings(config, data), asdict(config.eval)])


def _grid_problems(config: ScalingConfig) -> list[str]:
    grid = config.scale
    found = (
        [] if config.data_dir else ["data_dir is missing: give prepared data, as of lst prepare run_dir=RUN: RUN/data"]
    )
    found += [
        f"scale.{key} is empty: {what}"
        for key, values, what in (
            ("sizes", grid.all_sizes, "name them in scale=FILE.yaml, or list scale.depths=[2,3,4] of model=family"),
            ("arms", grid.arms, "name them in scale=FILE.yaml, or scale.arms.NAME=[patching=static]"),
            ("budgets", grid.budgets, "list them, as in scale.budgets=[100,300]"),
            ("seeds", grid.seeds, "list them, as in scale.seeds=[0]"),
        )
        if not values
    ]
    sizes = [*grid.sizes, *(f"d{depth}" for depth in grid.depths)]
    listed = {"budgets": [*map(_budget_name, grid.budgets)], "seeds": [*map(str, grid.seeds)], "sizes": sizes}
    for key, values in listed.items():
        found += [
            f"scale.{key}: {value} is there twice" for value in sorted({v for v in values if values.count(v) > 1})
        ]
    if grid.budget == "steps":
        found += [f"scale.budgets: {one:g} is no number of steps" for one in grid.budgets if one < 1 or one % 1]
    found += [f"scale.sizes: {wrong}" for size in grid.sizes for wrong in name_problems(size)]
    found += [f"scale.arms: {wrong}" for arm in grid.arms for wrong in name_problems(arm)]
    return found + _word_problems(grid)


def _word_problems(grid: GridConfig) -> list[str]:
    """Words that the plan sets itself, or that neither training nor evaluation reads."""
    places = {"scale.words": grid.words}
    places |= {f"scale.sizes.{name}": words for name, words in grid.sizes.items()}
    places |= {f"scale.arms.{name}": words for name, words in grid.arms.items()}
    found = []
    for place, words in places.items():
        for word in words:
            key = word.partition("=")[0]
            unread = reads_of("train").unread(word, MAIN.options)
            if key in _OF_PLAN:
                found.append(f"{place}: {word}: the plan sets {key} for each model")
            elif unread and READS["eval"].unread(word, MAIN.options):
                found.append(f"{place}: {unread}")
    return found


def _budget_name(budget: float) -> str:
    return re.sub(r"e\+?", "e", f"{budget:.12g}")
