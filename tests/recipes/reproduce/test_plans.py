"""Every shipped plan: its data and each model of its grids compose, and its arms are those that pages ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lst.configs.compose import MAIN, REPRODUCE, SYNTHETIC
from lst.recipes.reproduce.claims import CLAIMS
from lst.recipes.reproduce.grids import grids_of
from lst.recipes.scaling.grid import checked_configs, grid_cells


@pytest.mark.parametrize("plan", ["law=full", "law=quick", "lst=confirmatory", "lst=wider"])
def test_models_of_shipped_plans_compose(plan: str, tmp_path: Path) -> None:
    config = REPRODUCE.build([plan, f"out={tmp_path}"])
    own = config.law if plan.startswith("law") else config.lst
    asks = MAIN.build([*own.prepare, f"run_dir={tmp_path / 'run'}"]).data.num_questions
    assert asks == (0 if plan.startswith("law") else 500)
    grids = {**own.grids, **getattr(own, "repeated", {})}
    for grid in grids_of(config, grids):
        first = grid.config.scale.seeds[:1]
        grid.config.scale.seeds, grid.config.scale.budgets = first, grid.config.scale.budgets[:1]
        assert checked_configs(grid_cells(grid.config)), grid.name


def test_the_law_has_sizes_budgets_and_a_centre(tmp_path: Path) -> None:
    config = REPRODUCE.build([f"out={tmp_path}"])
    law, centre = (grid.config.scale for grid in grids_of(config, config.law.grids))
    assert (len(law.sizes), len(law.budgets), list(law.arms)) == (5, 5, ["baseline", "static-4"])
    assert law.budgets[-1] / law.budgets[0] >= 30
    assert centre.budgets[0] in law.budgets
    assert set(centre.sizes) <= set(law.sizes)
    assert len({*law.seeds, *centre.seeds}) >= 3
    (repeated,) = grids_of(config, config.law.repeated)
    assert repeated.config.scale.budgets == law.budgets


def test_the_wider_plan_has_every_arm_that_claims_ask_for(tmp_path: Path) -> None:
    config = REPRODUCE.build(["lst=wider", f"out={tmp_path}"])
    grids = {grid.name: grid.config.scale for grid in grids_of(config, config.lst.grids)}
    for claim in CLAIMS:
        assert {claim.arm, claim.base} <= set(grids[claim.grid].arms), claim.text
        assert len(grids[claim.grid].sizes) >= 1 + claim.is_growth
        if claim.flops_grid:
            assert claim.base in grids[claim.flops_grid].arms
            assert list(grids[claim.flops_grid].sizes) == list(grids[claim.grid].sizes)
    assert len(grids["compute"].seeds) == len(grids["flops"].seeds) == 5


def test_trainings_of_the_synthetic_tasks_compose(tmp_path: Path) -> None:
    for name, words in REPRODUCE.build([f"out={tmp_path}"]).h3.trainings.items():
        assert SYNTHETIC.build(list(words)).task.name in ("associative_recall", "induction_head", "listops"), name
