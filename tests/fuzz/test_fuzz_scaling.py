"""Files of scaling that are read back, tables of points, plans and results: read right, or named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from damage import BYTE_EDITS, JSON_EDITS, VALUES, Damage, Edit, Pristine, damages, edits
from fuzzing import shorter, told
from hypothesis import given
from hypothesis import strategies as st

from lst.cli import main
from lst.configs.compose import SCALING
from lst.configs.reads import reads_of
from lst.configs.scaling_schema import ScalingConfig
from lst.recipes.scaling.fit import fit_plan
from lst.recipes.scaling.plan import planned
from lst.recipes.scaling.points import write_points
from lst.recipes.scaling.run import run_as_text, scale_run
from lst.storage import write_json

GRID = """
words: [experiment=smoke]
sizes: {a: [model.global_dim=32]}
arms:
  baseline: [model=baseline_debug, patching=none]
  static: ["model=lst_debug", patching=static]
budgets: [3]
"""
# Two budgets and four sizes, by the law 2 + 30 / N^0.3 + 40 / D^0.3.
ROWS = [
    {"arm": "static", "seed": 0, "N": n, "D": d, "C": 6 * n * d, "loss": 2 + 30 / n**0.3 + 40 / d**0.3}
    for n in (1e5, 3e5, 1e6, 4e6)
    for d in (1e6, 1e7)
]

NAMED = {**dict.fromkeys(("N", "N_non_embedding", "D", "D_units", "D_text_bytes", "C"), 1), "seed": 0}
NAMED |= dict.fromkeys(("arm", "size", "strategy"), "x")


@pytest.fixture(scope="module")
def grid(made: Pristine) -> Pristine:
    """A plan of two models, and their results."""
    folder = made.folder.parent / "grid"
    folder.with_name("grid.yaml").write_text(GRID)
    words = words_of(folder, made)
    assert main(["scale", "plan", *words]) == 0
    for cell in json.loads((folder / "plan.json").read_text())["cells"]:
        row = {key: cell[key] for key in ("arm", "size", "seed", "strategy", "N", "N_non_embedding")}
        row |= {"D": 300, "D_units": 200, "D_text_bytes": 100, "C": cell["flops"], "speech_bits": 4.5}
        point = {"version": 1, "made_from": cell["made_from"], "row": row}
        write_json(folder / "cells" / cell["name"] / "point.json", point)
    return Pristine(folder)


@pytest.fixture(scope="module")
def config(made: Pristine, grid: Pristine) -> ScalingConfig:
    """Of the commands that read the grid."""
    return build("scale run", *words_of(grid.folder, made))


def words_of(folder: Path, made: Pristine) -> list[str]:
    return [f"scale={folder}.yaml", f"out={folder}", f"data_dir={made.folder}/data"]


def build(command: str, *words: str) -> ScalingConfig:
    return SCALING.build(words, reads_of(command, False))


@shorter
@given(data=st.data())
def test_damaged_grids(grid: Pristine, config: ScalingConfig, data: st.DataObject) -> None:
    one = damages(grid.names, grid.contents)
    found: list[Damage] = data.draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda damage: damage.file))
    try:
        for damage in found:
            damage.do(grid.folder)
        told(lambda: run_as_text(config, planned(config), {}), grid.folder)
    finally:
        grid.restore()


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("plan.json", {"cells": []}, "names other models than its grid has"),
        ("point.json", {"row": {}}, "row.arm is missing"),
        ("point.json", {"row": {**NAMED, "speech_bits": "low"}}, "row.speech_bits must be a number, not 'low'"),
    ],
)
def test_grids_of_others(
    grid: Pristine, config: ScalingConfig, file: str, changes: dict[str, object], said: str
) -> None:
    path = next(grid.folder.rglob(file))
    try:
        write_json(path, {**json.loads(path.read_bytes()), **changes})
        assert said in told(lambda: scale_run(config, []), path)
    finally:
        grid.restore()


def test_a_plan_leads_to_no_other_folder(grid: Pristine, config: ScalingConfig) -> None:
    path = grid.folder / "plan.json"
    try:
        plan = json.loads(path.read_bytes())
        plan["cells"][0]["name"] = "../../outside"
        write_json(path, plan)
        assert "names other models than its grid has" in told(lambda: scale_run(config, []), path)
        assert not (grid.folder.parent / "outside").exists()
    finally:
        grid.restore()


def cells() -> st.SearchStrategy[dict[str, object]]:
    """A row that is good at first, in which a value is another."""
    changed = st.dictionaries(st.sampled_from(sorted(ROWS[0])), st.sampled_from(VALUES), max_size=1)
    return st.builds(lambda row, change: {**row, **change}, st.sampled_from(ROWS), changed)


def written(suffix: str, rows: list[dict[str, object]], path: Path) -> bytes:
    if suffix == ".json":
        return json.dumps({"version": 1, "points": rows}).encode()
    write_points(
        path, [{key: str(value).encode(errors="replace").decode() for key, value in one.items()} for one in rows]
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def to_fit() -> ScalingConfig:
    """Changed by each example."""
    return build("scale fit", "points=x", "out=/nowhere")


@shorter
@given(
    suffix=st.sampled_from([".csv", ".json"]),
    rows=st.lists(cells(), min_size=4, max_size=9),
    changes=st.lists(edits((*BYTE_EDITS, *JSON_EDITS)), max_size=2),
)
def test_points(
    to_fit: ScalingConfig,
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    rows: list[dict[str, object]],
    changes: list[Edit],
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz_points{suffix}"
    content = written(suffix, rows, path)
    for change in changes:
        content = change.apply(content)
    path.write_bytes(content)
    to_fit.points = str(path)
    told(lambda: fit_plan(to_fit), path.name)
