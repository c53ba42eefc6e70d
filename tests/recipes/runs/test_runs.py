"""``lst runs list`` and ``lst runs diff``: whole, broken, foreign and hostile folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_run import make_run

from lst.cli import main
from lst.errors import printable
from lst.recipes.runs.listing import short_number
from lst.recipes.runs.read import TAIL_BYTES, last_rows
from lst.storage.locks import folder_lock

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\r\x08\x7f\x9b31m\u202egnp.exe\u2028\nlst: all is well"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two trained models: ``a``, and ``b`` in a folder below."""
    top = tmp_path_factory.mktemp("runs")
    make_run(top / "a")
    shutil.copytree(top / "a", top / "below" / "b")
    return top


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main(["runs", *words, "json=true"]) == 0
    return json.loads(capsys.readouterr().out)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_model_is_listed_with_what_it_spent_and_reached(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, str(runs))
    assert [(Path(model["run"]).name, model["name"]) for model in found["models"]] == [
        *(("a", "baseline"), ("a", "static")),
        *(("b", "baseline"), ("b", "static")),
    ]
    assert found["problems"] == []
    static = found["models"][1]
    result = json.loads((runs / "a/eval/static.json").read_text())
    rows = [json.loads(line) for line in (runs / "a/models/static/metrics.jsonl").read_text().splitlines()]
    assert static["state"] == "finished"
    assert static["steps"] == 60
    assert (static["tokens"], static["training_flops"]) == (rows[-2]["tokens"], rows[-2]["training_flops"])
    assert static["num_parameters"] == result["num_parameters"]
    assert static["bits_per_unit"] == result["bits"]["bits_per_unit"]
    assert static["accuracy"]["S→S"] == result["cloze"]["S→S"]["mean"]["accuracy"]
    assert (static["strategy"], static["seed"], static["problems"]) == ("static", 3, [])
    for words in (["runs", "list", str(runs)], ["runs", f"runs={runs}", f"out={runs}/list.json"]):
        assert main(words) == 0
        table = capsys.readouterr().out
        assert f"{100 * static['accuracy']['S→S']:.1f}c" in table
        assert "4 models: 4 finished" in table
    assert json.loads((runs / "list.json").read_text()) == found


def test_states_and_faults_are_told_beside_what_can_be_read(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = runs / "a" / "models"
    shutil.rmtree(models / "static" / "final")
    (models / "baseline/final/model.safetensors").write_bytes(b"half")
    (runs / "a/eval/baseline.json").write_text("{")
    (models / "foreign" / "weights").mkdir(parents=True)
    (models / "begun").mkdir()
    (models / "begun" / "metrics.jsonl").write_text('{"step": "x"}\n')
    change(runs / "below/b/eval/static.json", weights_sha256="0" * 64)
    (runs / "empty" / "models").mkdir(parents=True)
    shutil.copytree(runs / "a" / "data", runs / "prepared" / "data")
    (runs / "loop").symlink_to(runs)
    found = listed(capsys, str(runs))
    by_name = {(Path(model["run"]).name, model["name"]): model for model in found["models"]}
    static = by_name["a", "static"]
    assert (static["state"], static["steps"], static["num_parameters"]) == ("stopped", 60, None)
    assert static["bits_per_unit"] == pytest.approx(5 - 60 / 99), "of the training, without an evaluation"
    assert static["is_evaluated"] is False
    damaged = by_name["a", "baseline"]
    assert damaged["state"] == "damaged"
    assert len(damaged["problems"]) == 2
    assert "settings is missing" in " ".join(by_name["a", "begun"]["problems"])
    assert "metrics.jsonl" in " ".join(by_name["a", "begun"]["problems"])
    assert "other weights" in by_name["b", "static"]["problems"][0]
    assert {Path(one["folder"]).name for one in found["problems"]} == {"foreign", "empty", "prepared"}
    assert len(by_name) == 5, "a link is not followed"
    with folder_lock(models / "static"):
        found = listed(capsys, str(runs))
    assert {model["state"] for model in found["models"] if model["name"] == "static"} == {"running", "finished"}
    assert main(["runs", str(runs)]) == 0
    assert "~4.394" in capsys.readouterr().out


def test_nothing_of_a_run_is_interpolated_or_obeyed_by_the_terminal(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    model = runs / "a" / "models" / "static"
    text = f"${{oc.env:SECRET}} {HOSTILE}"
    settings = json.loads((model / "settings.json").read_text())
    change(model / "settings.json", patching={**settings["patching"], "strategy": text}, note=text)
    change(model / "versions.json", torch=text)
    (model / "config.yaml").write_text("a: ${oc.env:SECRET}\nb: !!python/object/apply:os.system [false]\n")
    model.rename(model.with_name("a\x1b[2J\nlst: all is well"))
    name = "a\x1b[2J\nlst: all is well"
    for words in (
        ["runs", str(runs)],
        ["runs", "diff", str(model.with_name(name)), str(runs / "below/b/models/static")],
    ):
        for form in ("json=true", "json=false"):
            assert main([*words, form]) == 0
            told = capsys.readouterr().out
            assert "oc.env:SECRET" in told
            assert "hunter2" not in told
            assert printable(told) == told
            assert not any(line.startswith("lst: all is well") for line in told.splitlines())


def test_differences_are_told_by_kind(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = runs / "a", runs / "below" / "b"
    assert main(["runs", "diff", str(a), str(b)]) == 0
    assert capsys.readouterr().out.count("no difference") == 8
    settings = json.loads((b / "models/static/settings.json").read_text())
    change(b / "models/static/settings.json", train={**settings["train"], "learning_rate": 0.5}, data="other")
    change(b / "models/static/versions.json", torch="9.9")
    bits = json.loads((b / "eval/static.json").read_text())["bits"]
    change(b / "eval/static.json", bits={**bits, "bits_per_unit": 9.25})
    (b / "data/index.json").unlink()
    shutil.copytree(a / "models/static", a / "models/only_here")
    found = listed(capsys, "diff", str(a), str(b))
    (pair,) = (one for one in found["pairs"] if "static" in one["a"])
    assert found["only_a"] == ["only_here"]
    rate = settings["train"]["learning_rate"]
    assert pair["settings"] == [{"key": "train.learning_rate", "a": rate, "b": 0.5}]
    assert pair["data"][0] == {"key": "fingerprint", "a": settings["data"], "b": "other"}
    assert pair["code"] == [{"key": "torch", "a": "0.0.1", "b": "9.9"}]
    assert [(one["key"], one["b"]) for one in pair["results"]] == [("bits_per_unit", 9.25)]
    words = ["runs", "diff", str(a / "models/baseline"), str(a / "models/static/final")]
    assert main(words) == 0
    assert "patching.strategy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["lsit"], "lst runs FOLDER…"),
        (["diff", "a"], "1 folders are given, two are compared"),
        (["diff", "a", "nowhere"], "nowhere holds no model"),
        (["diff", "a", "a/models"], "a/models holds no model"),
        (["list", "a/data"], "no run in or below a/data"),
        (["list", "s3://bucket/runs"], "is a URL: a path of this machine is needed"),
        (["a", "seed=3"], "lst runs list does not read seed"),
    ],
)
def test_mistakes_are_one_line(
    made: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    assert main(["runs", *words]) == 2
    assert expected in capsys.readouterr().err


def test_folders_are_taken_as_they_are_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = runs / "a run's [b], {c}"
    (runs / "a").rename(odd)
    assert main(["runs", str(odd), str(runs / "below"), "--dry-run"]) == 0
    assert f"{odd}, {runs / 'below'}" in capsys.readouterr().out
    assert len(listed(capsys, str(odd), str(odd / ".." / "below"))["models"]) == 4
    assert len(listed(capsys, str(odd), str(runs))["models"]) == 4, "each once"


def test_the_end_of_long_metrics_is_enough(tmp_path: Path) -> None:
    row = {"step": 1, "loss": 1.0, "learning_rate": 0.1, "tokens": 1, "patches": 1, "slots": 1, "packing_waste": 0.0}
    row |= {"speech_tokens": 1, "cut_documents": 0, "training_flops": 1.0}
    valid = {"step": 1, "valid_bits_per_unit": 2.0, "valid_bits_per_byte": 1.0}
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({**row, "step": step}) for step in range(TAIL_BYTES // 150)]
    path.write_text("\n".join(["damaged", *lines, json.dumps(valid), lines[-1]]) + '\n{"half')
    step, validation = last_rows(path)
    assert step is not None
    assert step["step"] == len(lines) - 1
    assert validation == valid
    assert last_rows(tmp_path / "absent") == (None, None)


def test_numbers_are_short() -> None:
    assert [short_number(value) for value in (7e9, 124_000_000, 5_120, 12)] == ["7G", "124M", "5.12k", "12"]
