"""The grids of a reproduction: prepared data, plans, trainings that go on where they stopped, and what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lst.configs.compose import MAIN, SCALING
from lst.configs.reads import READS
from lst.configs.reproduce_schema import ReproduceConfig
from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import name_problems
from lst.data.prepared import PreparedData
from lst.errors import LstError, StoppedError, StorageError, raise_problems
from lst.parallel.commands import jobs_and_threads
from lst.progress import say
from lst.recipes.prepare import prepare_plan, prepare_run
from lst.recipes.reproduce.formats import Ran
from lst.recipes.scaling.cells import finished
from lst.recipes.scaling.plan import make_plan, plan_as_text, planned
from lst.recipes.scaling.plan_file import CellRecord, PointFile, cell_folder
from lst.recipes.scaling.run import scale_run


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of ``lst scale``.

    Attributes:
        name: of the grid, and of its folder in ``out``.
        config: of ``lst scale``.
        words: that give it to child processes.
    """

    name: str
    config: ScalingConfig
    words: list[str]


@dataclass(frozen=True)
class Trained:
    """A model of a plan: its grid, its record there, its point where it is finished, and the folder of its run."""

    grid: str
    cell: CellRecord
    point: PointFile | None
    folder: Path

    @property
    def row(self) -> dict[str, str | float]:
        """Its row of the table of points."""
        assert self.point is not None
        return self.point["row"]


def grids_of(config: ReproduceConfig, plan: Mapping[str, Sequence[str]]) -> list[Grid]:
    """The grids of a plan: names, and options of ``lst scale`` of each.

    Raises:
        UserError: there is none, a name is no folder's, or a grid is wrong.
    """
    raise_problems("grids", [wrong for name in plan for wrong in name_problems(name)] if plan else ["there is none"])
    found = []
    for name, own in plan.items():
        words = [*own, f"out={Path(config.out) / name}", f"data_dir={data_folder(config) / 'data'}"]
        grid = SCALING.build(words, READS["scale run"])
        found.append(Grid(name, replace(grid, jobs=config.jobs, threads=config.threads), words))
    return found


def data_folder(config: ReproduceConfig) -> Path:
    """The run whose prepared data all models share."""
    return Path(config.out) / "run"


def prepare_data(config: ReproduceConfig, words: Sequence[str]) -> PreparedData:
    """Prepares what is not prepared, and opens it."""
    run = MAIN.build([*words, f"run_dir={data_folder(config)}"])
    if not config.page_only:
        prepare_run(run)
    return PreparedData(data_folder(config) / "data")


def dry_run(config: ReproduceConfig, words: Sequence[str], plan: Mapping[str, Sequence[str]]) -> list[str]:
    """What would be prepared and trained, as lines of text; the plans need prepared data."""
    grids = grids_of(config, plan)
    lines = prepare_plan(MAIN.build([*words, f"run_dir={data_folder(config)}"]))
    if not (data_folder(config) / "data" / "index.json").exists():
        return [*lines, f"grids {', '.join(grid.name for grid in grids)}: planned when the data is prepared"]
    for grid in grids:
        lines += [f"{grid.name}:", *plan_as_text(make_plan(grid.config)).splitlines()]
    return lines


def train_grids(config: ReproduceConfig, grids: Sequence[Grid]) -> list[str]:
    """Trains what is not finished; says first how long that takes. Returns what has failed, a line a grid.

    A model that several grids have is trained in the first of them alone.
    """
    jobs, _ = jobs_and_threads(config.jobs, config.threads)
    own = {grid.name: [cell for home, cell in places if home is grid] for grid, places in _homes(grids).items()}
    to_do = [cell for grid in grids for cell in own[grid.name] if finished(grid.config, cell) is None]
    core_hours = sum(cell["core_hours"] for cell in to_do)
    say(
        f"{len(to_do)} models to train, about {core_hours:,.2f} hours of one core: "
        f"{core_hours / jobs:,.2f} hours with jobs={jobs}; evaluations come on top"
    )
    begun_s, failed = time.monotonic(), []
    for grid in grids:
        hours = None if config.hours is None else config.hours - (time.monotonic() - begun_s) / 3600
        if hours is not None and hours <= 0:
            break
        cells = [cell["name"] for cell in own[grid.name]]
        try:
            if cells:
                scale_run(replace(grid.config, hours=hours, cells=cells), grid.words)
        except (StoppedError, StorageError):
            raise
        except LstError as error:
            failed.append(f"{grid.name}: {' '.join(str(error).split())}")
    return failed


def trained_models(grids: Sequence[Grid]) -> list[Trained]:
    """All models of the plans, finished or not; one that several grids have is in all of them."""
    return [
        Trained(grid.name, cell, finished(home.config, own), cell_folder(home.config, own["name"]))
        for grid, places in _homes(grids).items()
        for cell, (home, own) in zip(planned(grid.config)["cells"], places, strict=True)
    ]


def _homes(grids: Sequence[Grid]) -> dict[Grid, list[tuple[Grid, CellRecord]]]:
    """For each cell of each grid, the first grid that has this model, and its cell there."""
    first: dict[str, tuple[Grid, CellRecord]] = {}
    return {
        grid: [first.setdefault(cell["made_from"], (grid, cell)) for cell in planned(grid.config)["cells"]]
        for grid in grids
    }


def what_ran(models: Sequence[Trained]) -> list[Ran]:
    """What of each grid is finished, and which models are missing."""
    found = []
    for name in dict.fromkeys(one.grid for one in models):
        own = [one for one in models if one.grid == name]
        missing = [one.cell["name"] for one in own if one.point is None]
        found.append(Ran(grid=name, num_models=len(own), num_finished=len(own) - len(missing), missing=missing))
    return found


def raise_failures(failed: Sequence[str]) -> None:
    """Raises ``ProblemsError`` for grids with models that have failed; the page is written by then."""
    raise_problems("some models failed", list(failed), "The page has the others. The same command goes on from here.")
