"""``lst scale plan``: what every model of a grid will use, before the first is trained.

::

    grid ──cells──▶ first arm of a size, budget and seed: steps that spend the budget ──control──▶ steps of the others

A patching that is fitted to the speech is fitted here, so that its batches can be counted; its trainings take it over.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.errors import LstError, UserError
from lst.model.lst import LatentSpeechTextModel
from lst.parallel.machine import one_thread
from lst.recipes.scaling.branches import grid_branch_problems, trunks
from lst.recipes.scaling.counting import counted
from lst.recipes.scaling.grid import Cell, cell_fingerprint, checked_configs, grid_cells, raise_for_cells
from lst.recipes.scaling.plan_file import CellRecord, PlanFile, fitted_folder, plan_path
from lst.recipes.training.cluster_plan import peak_flops
from lst.recipes.training.control import Spent, with_steps
from lst.recipes.training.train import check_training
from lst.runs import FittedPatching, open_data
from lst.runs.fitted_patching import check_patching, fit_ahead
from lst.storage import fingerprint, read_json, write_json
from lst.storage.locks import waiting_lock


def scale_plan(config: ScalingConfig) -> str:
    """Writes ``plan.json`` and returns its table.

    Raises:
        UserError: the grid or a model of it is wrong, or the plan takes longer than ``scale.max_hours``.
    """
    with waiting_lock(Path(config.out) / "plan.lock"):
        plan = _make_plan(config, fitted_folder(config))
        write_json(plan_path(config), plan)
    return f"{plan_as_text(plan)}\n\nwritten to {plan_path(config)}; train these models with lst scale run"


def planned(config: ScalingConfig) -> PlanFile:
    """The plan of ``out=``, which is made where there is none.

    Raises:
        UserError: the plan is of other options, or cannot be made.
    """
    place = plan_path(config)
    # Workers that begin together make it once.
    with waiting_lock(Path(config.out) / "plan.lock"):
        if not place.exists():
            plan = _make_plan(config, fitted_folder(config))
            write_json(place, plan)
            return plan
    plan = read_json(place, PlanFile, "the plan", "Make it again with lst scale plan.")
    names = [cell.name for cell in grid_cells(config)]
    if plan["made_from"] != _made_from(config, open_data_of(config)):
        raise UserError(
            f"{place} was made with other options or other data: give the same ones, plan again with lst scale plan "
            "(models that stay as they are keep their results), or choose another out=FOLDER"
        )
    if [cell["name"] for cell in plan["cells"]] != names:
        # Files and folders are named by them.
        raise UserError(f"{place} was altered: it names other models than its grid has. Plan again with lst scale plan")
    return plan


def make_plan(config: ScalingConfig) -> PlanFile:
    """Checks and counts every cell; keeps nothing."""
    with tempfile.TemporaryDirectory() as fitted:
        return _make_plan(config, Path(fitted))


def _make_plan(config: ScalingConfig, fitted: Path) -> PlanFile:
    cells = grid_cells(config)
    configs = checked_configs(cells)
    data = open_data_of(config)
    patchings = _patchings(configs, data, fitted)
    counts = counted(config, cells, configs, data, patchings)
    configs = {name: with_steps(one, counts[name].steps) for name, one in configs.items()}
    trunk_of = trunks(config, {name: count.steps for name, count in counts.items()}, cells)
    _check_trainings(configs, data, patchings, grid_branch_problems(trunk_of, configs, data))
    with one_thread():
        core_flops = peak_flops()
    records = [
        _record(cell, configs[cell.name], data, patchings[cell.name], counts[cell.name], core_flops) for cell in cells
    ]
    for record in records:
        if record["name"] in trunk_of:
            # A branch is trained from its decay on.
            record["core_hours"] *= 1 - configs[record["name"]].train.first_decay_step / record["steps"]
    plan = PlanFile(
        version=1,
        made_from=_made_from(config, data),
        data=data.fingerprint,
        budget=config.scale.budget,
        control=config.scale.control,
        core_flops=core_flops,
        core_hours=sum(record["core_hours"] for record in records),
        cells=records,
    )
    if plan["core_hours"] > config.scale.max_hours:
        raise UserError(
            *plan_as_text(plan).splitlines(),
            f"the plan takes about {plan['core_hours']:,.2f} core-hours, more than "
            f"scale.max_hours={config.scale.max_hours:g}: raise it, or plan fewer or smaller models",
        )
    return plan


def open_data_of(config: ScalingConfig) -> PreparedData:
    """The prepared data of all cells."""
    return open_data(Config(data_dir=config.data_dir))


def plan_as_text(plan: PlanFile) -> str:
    """A line for each model, and the sum."""
    cells = plan["cells"]
    width = max(len(cell["name"]) for cell in cells)
    lines = [
        f"{'model':<{width}}{'N':>12}{'non-embed.':>12}{'steps':>9}{'tokens':>14}{'FLOPs':>11}{'core-hours':>12}",
        *(
            f"{cell['name']:<{width}}{cell['N']:>12,}{cell['N_non_embedding']:>12,}{cell['steps']:>9,}"
            f"{cell['tokens']:>14,}{cell['flops']:>11.3g}{cell['core_hours']:>12.3f}"
            for cell in cells
        ),
    ]
    return "\n".join(
        [
            *lines,
            f"{len(cells)} models, about {plan['core_hours']:,.2f} hours of one core for their training "
            f"({plan['core_flops'] / 1e9:,.0f} GFLOP/s in matrix products just now)",
            f"budgets count {plan['budget']} of the first arm; the others have equal {plan['control']}, to the nearest "
            "step",
        ]
    )


def _patchings(configs: Mapping[str, Config], data: PreparedData, fitted: Path) -> dict[str, FittedPatching]:
    """The patching of each cell; raises ``UserError`` for data that cannot be patched so."""
    found: list[tuple[str, str]] = []
    for name, config in configs.items():
        with _noted(name, found):
            check_patching(config.patching, data)
    raise_for_cells(found, len(configs))
    return {name: fit_ahead(config, data, fitted) for name, config in configs.items()}


@contextlib.contextmanager
def _noted(name: str, found: list[tuple[str, str]]) -> Iterator[None]:
    """Context manager that adds an error to the problems of cells."""
    try:
        yield
    except LstError as error:
        found.append((name, str(error)))


def _check_trainings(
    configs: Mapping[str, Config],
    data: PreparedData,
    patchings: Mapping[str, FittedPatching],
    found: list[tuple[str, str]],
) -> None:
    """Raises ``UserError`` for all that trainings would refuse before their first step, and what was found before."""
    for name, config in configs.items():
        found += [(name, problem) for problem in config.problems()]
        with _noted(name, found):
            check_training(config, data, patchings[name])
    raise_for_cells(found, len(configs))


def _record(
    cell: Cell, config: Config, data: PreparedData, patching: FittedPatching, used: Spent, core_flops: float
) -> CellRecord:
    with torch.device("meta"):
        model = LatentSpeechTextModel(config.model, patching.vocabulary.size)
    return CellRecord(
        name=cell.name,
        size=cell.size,
        arm=cell.arm,
        budget=cell.budget,
        seed=cell.seed,
        strategy=config.patching.strategy,
        N=model.num_parameters,
        N_non_embedding=model.num_non_embedding_parameters,
        core_hours=used.flops / (core_flops * config.plan.utilisation) / 3600,
        made_from=cell_fingerprint(config, data),
        steps=used.steps,
        patches=used.patches,
        tokens=used.tokens,
        flops=used.flops,
        units=used.units,
        text_bytes=used.text_bytes,
    )


def _made_from(config: ScalingConfig, data: PreparedData) -> str:
    """Fingerprint of what decides the plan; the ceiling does not."""
    return fingerprint([data.fingerprint, replace(config.scale, max_hours=1.0).recorded()])
