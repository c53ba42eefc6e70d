"""``lst scale plan`` and ``lst scale run``: a grid is planned, trained, killed, shared and fitted."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import forked
import pytest
from repository import ROOT

import lst.recipes.scaling.run as scale_run
from lst.cli import main
from lst.configs.compose import SCALING
from lst.errors import ProblemsError, UserError
from lst.parallel import ordered
from lst.parallel.commands import ChildCommand
from lst.recipes.scaling.plan import make_plan
from lst.recipes.scaling.plan_file import PlanFile, plan_path
from lst.recipes.scaling.points import read_points
from lst.storage import read_json

GRID = """
words: [experiment=smoke, eval.bootstrap_samples=100, eval.max_items=2, train.checkpoint_every=2, train.eval_every=99]
sizes:
  a: [model.global_dim=32]
  b: [model.global_dim=48]
arms:
  baseline: [model=baseline_debug, patching=none]
  static: ["model=lst_debug", patching=static]
budgets: [3, 4]
control: flops
"""
# A model that trains in no time: it holds the lock, notes that it ran, and takes over the point of another folder.
CHILD = """
import sys
from pathlib import Path
from lst.storage.locks import HeldError, folder_lock
done, folder, notes = map(Path, sys.argv[1:])
point = folder / "point.json"
try:
    with folder_lock(folder):
        if not point.exists():
            with open(notes, "a") as file:
                print(folder.name, file=file, flush=True)
            point.write_bytes((done / "cells" / folder.name / "point.json").read_bytes())
except HeldError:
    pass
"""


def words_of(out: Path, data: Path, grid: Path, *more: str) -> list[str]:
    return [f"scale={grid}", f"out={out}", f"data_dir={data}", *more]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def done(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory, grid: Path) -> Path:
    """The grid, planned and run without interruption."""
    out = tmp_path_factory.mktemp("done") / "out"
    words = words_of(out, smoke_data / "data", grid)
    assert main(["scale", "plan", *words]) == 0
    assert main(["scale", "run", *words, "jobs=0"]) == 0
    return out


@pytest.fixture
def shared(done: Path, smoke_data: Path, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a run of the planned grid in a new folder, whose children are ``CHILD``."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "plan.json").write_bytes(plan_path_of(done).read_bytes())
    notes = tmp_path / "started.txt"

    def commands(config: object, overrides: object, cells: list[dict[str, str]]) -> list[ChildCommand]:
        program = (sys.executable, "-c", CHILD, str(done))
        return [
            ChildCommand(cell["name"], (*program, str(out / "cells" / cell["name"]), str(notes)), tmp_path / "log")
            for cell in cells
        ]

    monkeypatch.setattr(scale_run, "_commands", commands)
    monkeypatch.setattr(scale_run, "LOOK_S", 0.1)
    return words_of(out, smoke_data / "data", grid, "jobs=1")


def plan_path_of(out: Path) -> Path:
    return plan_path(SCALING.build([f"out={out}"]))


def driver(words: list[str]) -> int:
    """Begins ``lst scale run`` in a fork; it trains nothing itself."""
    process = os.fork()
    if process == 0:
        os._exit(main(["scale", "run", *words]))
    return process


def test_steps_spend_what_the_first_arm_spends_to_the_nearest_step(done: Path) -> None:
    plan = read_json(plan_path_of(done), PlanFile, "the plan", "")
    assert len(plan["cells"]) == 8
    for first, other in zip(plan["cells"][::2], plan["cells"][1::2], strict=True):
        assert (first["arm"], other["arm"]) == ("baseline", "static")
        assert first["steps"] == first["budget"]
        assert abs(other["flops"] - first["flops"]) <= 0.75 * other["flops"] / other["steps"]
        assert other["N"] > other["N_non_embedding"] > 0
        assert other["units"] + other["text_bytes"] > 0
    assert plan["core_hours"] == pytest.approx(sum(cell["core_hours"] for cell in plan["cells"]))


def test_counts_do_not_depend_on_the_number_of_processes(
    done: Path, smoke_data: Path, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work goes to the pool and back as bytes, as it does to processes, whose start would take seconds here."""
    pools: list[int] = []

    class NotedPool:
        def __init__(self, num_workers: int, module: str) -> None:
            pools.append(num_workers)

        def __enter__(self) -> NotedPool:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, *call: Any) -> Future[Any]:
            function, *arguments = pickle.loads(pickle.dumps(call))  # noqa: S301 - bytes made in the same line
            future = Future[Any]()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(ordered, "WorkerPool", NotedPool)
    monkeypatch.setattr(ordered, "START_S", 0.0)
    words = words_of(tmp_path / "out", smoke_data / "data", grid, "jobs=2")
    plan = make_plan(SCALING.build(words))
    assert pools == [2]
    alone = read_json(plan_path_of(done), PlanFile, "the plan", "")
    counts = ("name", "steps", "patches", "tokens", "flops", "units", "text_bytes")
    assert [[cell[key] for key in counts] for cell in plan["cells"]] == [
        [cell[key] for key in counts] for cell in alone["cells"]
    ]


def test_points_count_what_the_trainings_used(done: Path) -> None:
    points = read_points(done / "points.csv")
    assert (len(points), points.arms, points.losses) == (8, ["baseline", "static"], ["speech_bits", "text_bits"])
    assert points.unused == []
    cells = read_json(plan_path_of(done), PlanFile, "the plan", "")["cells"]
    for place, cell in enumerate(cells):
        rows = (done / "cells" / cell["name"] / "models" / cell["arm"] / "metrics.jsonl").read_text().splitlines()
        last = [row for row in map(json.loads, rows) if "training_flops" in row][-1]
        assert (last["step"], last["tokens"], last["patches"]) == (cell["steps"], cell["tokens"], cell["patches"])
        assert points.numbers["C"][place] == pytest.approx(last["training_flops"], rel=1e-12)
        assert points.numbers["D_units"][place] <= last["speech_tokens"]


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_table(
    done: Path, smoke_data: Path, grid: Path, tmp_path: Path
) -> None:
    words = words_of(tmp_path / "out", smoke_data / "data", grid, "jobs=0")
    program = [sys.executable, str(ROOT / "tests/helpers/killed_grid.py"), "scale", "run", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = forked.run(program, capture_output=True, text=True, env=environment, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "out" / "points.csv").read_bytes() == (done / "points.csv").read_bytes()


def test_shorter_trainings_branch_off_the_longest_and_give_the_same_points(
    smoke_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "one.yaml"
    grid.write_text("sizes: {a: [model.global_dim=32]}\narms: {baseline: [model=baseline_debug, patching=none]}\n")
    options = [
        "scale.words=[experiment=smoke,eval.bootstrap_samples=100,eval.max_items=2,train.schedule=wsd,train.warmup_steps=1]",
        *("scale.budgets=[4,6,9]", "scale.budget=steps", "jobs=0"),
    ]
    plain, branched = tmp_path / "plain", tmp_path / "branched"
    assert main(["scale", "run", *words_of(plain, smoke_data / "data", grid, *options)]) == 0
    assert main(["scale", "run", *words_of(branched, smoke_data / "data", grid, *options, "scale.branch=true")]) == 0
    assert (branched / "points.csv").read_bytes() == (plain / "points.csv").read_bytes()
    for budget, begins in ((4, 3), (6, 5)):
        model = branched / f"cells/baseline-a-{budget}-seed0/models/baseline"
        resumed = json.loads((model / "settings.json").read_text())["resumed"]
        assert [(entry["step"], entry["changed"]["train.max_steps"]) for entry in resumed] == [(begins, budget)]
    hours = [read_json(plan_path_of(out), PlanFile, "", "")["core_hours"] for out in (plain, branched)]
    assert hours[0] > hours[1]


def test_depths_are_sizes_of_the_family_and_branches_need_a_stable_phase(
    smoke_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "depths.yaml"
    grid.write_text("depths: [2, 3]\narms: {baseline: [model=family, patching=none]}\nbudgets: [3, 4]\nbudget: steps\n")
    words = words_of(tmp_path / "out", smoke_data / "data", grid, "scale.words=[experiment=smoke]")
    assert main(["scale", "plan", *words, "scale.max_hours=1e-9"]) == 2
    told = capsys.readouterr().err
    assert "baseline-d2-3-seed0" in told
    assert "baseline-d3-4-seed0" in told
    assert main(["scale", "plan", *words, "scale.branch=true"]) == 2
    assert "scale.branch: train.schedule=cosine then: only wsd has a stable phase" in capsys.readouterr().err
    assert main(["scale", "plan", *words, "scale.depths=[2,2,40]"]) == 2
    assert "scale.depths=[2, 2, 40]: 40: allowed are 2 to 32" in capsys.readouterr().err


def test_two_drivers_share_the_work(shared: list[str], done: Path, tmp_path: Path) -> None:
    drivers = [driver(shared) for _ in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in drivers] == [0, 0]
    started = (tmp_path / "started.txt").read_text().split()
    assert sorted(started) == sorted(path.name for path in (done / "cells").iterdir()), "each model is trained once"
    assert (tmp_path / "out" / "points.csv").read_bytes() == (done / "points.csv").read_bytes()


def test_another_driver_goes_on_after_one_was_killed(shared: list[str], done: Path, tmp_path: Path) -> None:
    notes = tmp_path / "started.txt"
    first = driver(shared)
    while not notes.exists():
        assert os.waitpid(first, os.WNOHANG) == (0, 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(driver(shared), 0)[1]) == 0
    assert (tmp_path / "out" / "points.csv").read_bytes() == (done / "points.csv").read_bytes()


def test_a_model_that_fails_is_named_with_its_log(
    shared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = scale_run._commands

    def commands(*arguments: object) -> list[ChildCommand]:
        found = good(*arguments)  # type: ignore[arg-type]
        return [ChildCommand(found[0].label, (sys.executable, "-c", "exit('no memory')"), found[0].log), *found[1:]]

    monkeypatch.setattr(scale_run, "_commands", commands)
    assert main(["scale", "run", *shared]) == 2
    told = capsys.readouterr()
    assert "1 of 8 models failed" in told.err
    assert f"baseline-a-3-seed0: exit status 1: no memory; its output: {tmp_path / 'log'}" in told.err
    assert "FAILED" in told.out
    assert len(read_points(tmp_path / "out" / "points.csv")) == 7


def test_finished_models_are_not_trained_again(
    done: Path, smoke_data: Path, grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lst.recipes.scaling.cells.train", None)
    words = words_of(done, smoke_data / "data", grid)
    assert main(["scale", "run", *words]) == 0
    assert "8 of 8 points" in capsys.readouterr().out
    assert main(["scale", "run", *words, "--dry-run"]) == 0
    assert "8 of them are finished" in capsys.readouterr().out
    assert main(["scale", "run", *words, "scale.budgets=[3,5]"]) == 2
    assert "was made with other options" in capsys.readouterr().err


def test_no_model_begins_when_the_hours_are_over_and_the_cheapest_come_first(
    shared: list[str], done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scale", "run", *shared, "hours=1e-9"]) == 0
    assert "0 of 8 points" in capsys.readouterr().out
    assert main(["scale", "run", *shared, "hours=1"]) == 0
    costs = {cell["name"]: cell["core_hours"] for cell in read_json(plan_path_of(done), PlanFile, "", "")["cells"]}
    started = (tmp_path / "started.txt").read_text().split()
    assert started == sorted(costs, key=lambda name: costs[name])


def test_a_slurm_script_has_a_line_for_each_model(
    done: Path, smoke_data: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "grid.sh"
    assert main(["scale", "run", *words_of(done, smoke_data / "data", grid, f"slurm={script}", "jobs=3")]) == 0
    text = script.read_text()
    assert "#SBATCH --array=0-7%3\n" in text
    assert text.count("jobs=0") == 8
    assert "'cells=[static-b-4-seed0]'" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["scale.sizes.c=[model.global_dim=33]", "scale.arms.wide=[model.local_dim=33]"],
            ["model.global_dim=33", "model.local_dim=33", "and 3 more"],
        ),
        (
            ["scale.arms.pieces=[model=baseline_debug,patching=speech_bpe,patching.speech_bpe_size=3]"],
            ["4 of 12 models cannot be trained", "patching.speech_bpe_size=3 is too small"],
        ),
        (
            ["scale.words=[seed=3,generate.top_k=3]", "scale.budgets=[3,3,0.5]"],
            [
                "scale.words: seed=3: the plan sets seed for each model",
                "scale.words: generate.top_k=3: lst train does not read generate.top_k",
                "scale.budgets: 3 is there twice",
                "scale.budgets: 0.5 is no number of steps",
            ],
        ),
        (["scale.max_hours=1e-9"], ["core-hours, more than scale.max_hours=1e-09: raise it"]),
        (["scale.words=[experiment=smoke,train.warmup_steps=4]"], ["train.warmup_steps=4: must lie between 0 and"]),
        (["scale.control=tokens"], ["scale.control=tokens: allowed are steps, compute, data, flops"]),
        (["jobs=2"], ["lst scale plan does not read jobs"]),
    ],
)
def test_what_cannot_run_is_refused_all_at_once(
    words: list[str],
    expected: list[str],
    smoke_data: Path,
    grid: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["scale", "plan", *words_of(tmp_path / "out", smoke_data / "data", grid, *words)]) == 2
    told = capsys.readouterr().err
    for part in expected:
        assert part in told, told
    assert not (tmp_path / "out" / "plan.json").exists()


def test_an_empty_grid_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "plan", f"out={tmp_path}/out"]) == 2
    told = capsys.readouterr().err
    for part in ("data_dir is missing", "scale.sizes is empty", "scale.arms is empty", "scale.budgets is empty"):
        assert part in told


def test_ray_trains_what_children_would(
    done: Path, smoke_data: Path, grid: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("ray_session")
    out, cells = tmp_path / "out", ["baseline-a-3-seed0", "static-a-3-seed0"]
    out.mkdir()
    (out / "plan.json").write_bytes(plan_path_of(done).read_bytes())
    # One fails before it begins; the other is trained all the same.
    (out / "cells").mkdir()
    (out / "cells" / cells[1]).write_text("no folder")
    words = words_of(out, smoke_data / "data", grid, "executor=ray", f"cells=[{','.join(cells)}]")
    with pytest.raises(UserError, match="1 of 2 models failed") as raised:
        scale_run.scale_run(SCALING.build(words), words)
    assert cells[1] in str(raised.value)
    point = (out / "cells" / cells[0] / "point.json").read_bytes()
    assert point == (done / "cells" / cells[0] / "point.json").read_bytes()
    assert "3 steps of" in (out / "logs" / f"{cells[0]}.log").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["executor=ray", "slurm=grid.sh"], "slurm=grid.sh: no model would be trained on Ray"),
        (["executor=ray", "jobs=0"], "jobs=0: no model would be trained on Ray"),
        (["address=auto"], "address=auto is of a Ray cluster"),
    ],
)
def test_ray_excludes_other_ways(words: list[str], problem: str) -> None:
    with pytest.raises(ProblemsError, match=problem):
        SCALING.build(words)
