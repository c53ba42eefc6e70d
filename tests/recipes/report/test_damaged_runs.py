"""Damaged files of a run: the report ends in one line that names the file and what to do."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from damage import error_of
from made_run import make_run

from lst.configs.compose import build_config
from lst.evaluation.results import read_result
from lst.recipes.report.record import _eval_options, _read_model
from lst.runs import RunFolder
from lst.runs.formats import read_metrics
from lst.storage import read_json

VALUES: list[Any] = [None, "text", -1, 10**30, math.nan, [1], {"a": 1}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damaged") / "run"
    make_run(root)
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The files of the models alone."""
    for name in ("models", "eval"):
        shutil.copytree(made / name, tmp_path / "run" / name)
    return tmp_path / "run"


def assert_refused(load: Callable[[], object], path: Path, case: object) -> None:
    told = error_of(load)
    assert path.name in told, (case, told)
    assert "\n" not in told, case
    assert len(told) < 800


@pytest.mark.parametrize(
    "key", ["bits", "cloze", "options", "weights_sha256", "made_from", "num_parameters", "version"]
)
def test_a_damaged_result_is_one_line(run: Path, key: str) -> None:
    path = run / "eval/static.json"
    whole = read_json(path, dict[str, Any], "", "")
    for value in VALUES:
        fits = (isinstance(whole.get(key), str) and value == "text") or (key == "options" and value == {"a": 1})
        if not fits and not (key == "bits" and isinstance(value, dict)):
            path.write_text(json.dumps({**whole, key: value}))
            assert_refused(lambda: read_result(path), path, value)
    del whole["cloze"]["S→S"]
    path.write_text(json.dumps(whole))
    assert_refused(lambda: read_result(path), path, "a direction is missing")


@pytest.mark.parametrize("option", [{"context_share": 7}, {"context_share": "half"}, {"max_items": -3}])
def test_options_of_a_result_are_checked(option: dict[str, Any]) -> None:
    whole = asdict(build_config([]).eval)
    told = error_of(lambda: _eval_options({**whole, **option}, RunFolder(Path("here"))))
    assert next(iter(option)) in told
    assert "here/eval" in told


@pytest.mark.parametrize("name", ["metrics.jsonl", "items", "settings.json", "versions.json", "config.json"])
def test_damaged_files_beside_a_model_are_one_line(run: Path, name: str) -> None:
    folder = run / "models/static"
    place = {"items": run / "eval/static.items.jsonl", "config.json": folder / "final/config.json"}
    path = place.get(name, folder / name)
    for content in (
        "[1]\n",
        "null\n",
        "[" * 100_000 + "\n",
        "\xff{}\n",
        '{"a": 1, "a": 2}\n',
        '{"data": 1, "step": 1, "b": NaN}\n',
    ):
        path.write_text(content, encoding="latin-1")
        assert_refused(lambda: _read_model(RunFolder(run), "static", 0), path, content[:20])
    path.unlink()
    path.mkdir()
    assert path.name in error_of(lambda: _read_model(RunFolder(run), "static", 0))


def test_metrics_are_rows_of_steps_and_of_validations(made: Path) -> None:
    steps, validations = read_metrics(made / "models/static/metrics.jsonl")
    assert [row["step"] for row in steps] == [*range(1, 61)]
    assert [row["step"] for row in validations] == [20, 40, 60]
    assert read_metrics(made / "absent.jsonl") == ([], [])
