"""``--dry-run`` finds what the command itself would refuse before its work, writes nothing, and speaks plain units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_run import make_overrides, make_run

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.prepare import prepare
from lst.errors import UserError
from lst.runs import RunFolder
from lst.runs.preparing import prepare_options
from lst.storage import write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "run"
    make_run(root)
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train patching=static name=static train.max_steps=60", "was begun with other settings"),
        ("train patching=static name=new model.max_patches=55 train.row_patches=55", "longer than model.max_patches"),
        ("eval", "models cannot be evaluated: 1 problem\n  - baseline: "),
        ("eval eval.min_words=500", "cloze needs two held-out utterances"),
        ("report data_dir=/no/data", "the index of the prepared data is missing"),
        ("generate name=static", "give one prompt"),
        ("generate name=nosuch generate.text=a", "no trained model 'nosuch'"),
        ("generate name=static generate.text=a generate.audio=b", "b does not exist"),
        ("generate name=static generate.audio=/no/such.wav", "/no/such.wav"),
        ("export export.format=ctm export.folder=RUN/taken", "train.ctm cannot be written (is a folder)"),
        ("quickstart model=lst_tiny", "each arm of quickstart chooses its own"),
    ],
)
def test_what_the_command_refuses_its_plan_refuses(
    words: str, expected: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "models/baseline/final/model.safetensors").write_bytes(b"cut")
    (run / "taken/train.ctm").mkdir(parents=True)
    settings = RunFolder(run).model("static") / "settings.json"
    write_json(settings, {**json.loads(settings.read_text()), "seed": 7})
    before = files_of(run)
    command, *options = words.replace("RUN", str(run)).split()
    assert main([command, f"run_dir={run}", *options, "--dry-run"]) == 2
    assert expected in capsys.readouterr().err
    assert files_of(run) == before


def test_a_plan_refuses_data_of_other_settings_and_names_all_of_them(
    smoke_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment=smoke", f"run_dir={smoke_data}", "seed=9", "tokenizer.num_units=30"]
    assert main(["prepare", *words, "--dry-run"]) == 2
    plan = capsys.readouterr().err
    assert "was prepared with other settings: 2 problems" in plan
    assert main(["prepare", *words]) == 2
    assert capsys.readouterr().err == plan


def test_files_that_options_name_are_opened_before_speech_is_synthesised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lst.data.prepare.gather.spoken_files", lambda *_: pytest.fail("synthesised"))
    words = ["experiment=smoke", f"run_dir={tmp_path}/run", "tokenizer.text_model=/no/text.model"]
    words += ["data.align.method=ctc", "data.align.checkpoint=/no/ctc", "tokenizer.codebook=/no/units.safetensors"]
    config = build_config(words)
    with pytest.raises(UserError) as refused:
        prepare(tmp_path / "run/data", prepare_options(config))
    for path in ("/no/text.model", "/no/ctc", "/no/units.safetensors"):
        assert path in str(refused.value)
    assert main(["prepare", *words, "--dry-run"]) == 2
    assert str(refused.value) in capsys.readouterr().err


def test_a_text_of_faulty_lines_is_refused_by_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("one line\n")
    words = [f"text={tmp_path}/text.txt", f"run_dir={tmp_path}/run", "--dry-run"]
    assert main(["prepare", *words]) == 2
    assert "at least two are needed" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["fit-units", "fit-text", "convert-units", "score-units", "show"])
def test_plans_of_tokenizers_name_all_that_is_missing(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", action, "--dry-run"]) == 2
    plan = capsys.readouterr().err
    assert main(["tokenizer", action]) == 2
    assert capsys.readouterr().err == plan


def test_plans_say_what_is_read_and_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["check"], f"check: prepared data in {run}/data (sizes and hashes of every sample)"),
        (["check", f"corpus={run}/audio", "check.json=a.json"], "would write a.json"),
        (["export", f"export.folder={run}/out"], f"would write {run}/out/train.on_the_fly of 2 utterances"),
        (["eval"], f"parameters, would write {run}/eval/static.json"),
        (["report"], f"would write {run}/report.html of baseline, static"),
        (["generate", "name=static", "generate.text=a lake"], "generate: static, "),
        (["card"], f"write {run}/data/card.html"),
    ):
        assert main([words[0], f"run_dir={run}", *words[1:], "--dry-run"]) == 0
        assert expected in capsys.readouterr().out


def test_plans_have_plain_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model=lst_1b", "train.rows=2", f"run_dir={tmp_path}/run", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "disk about 41 GB" in out
    assert "days" in out or "hours" in out
    assert "peak memory of a device about 30 GB (an estimate" in out
    assert "it waits for prepared data" in out


def test_plans_of_made_runs_take_their_options(run: Path) -> None:
    assert main(["train", *make_overrides(run)[:2], "name=more", "patching=static", "seed=3", "--dry-run"]) == 0


def test_a_plan_for_many_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LST-7B on 64 GPUs: what a device holds, what it sends, days and cost; what does not fit is said."""
    words = "model=lst_7b train.devices=8 train.num_nodes=8 train.precision=bf16-mixed train.rows=4"
    words += " train.row_patches=2048 train.batch_patches=1048576 train.max_steps=100000"
    words += " data.num_streams=64 plan.device_tflops=989 plan.utilisation=0.4 plan.price_an_hour=2.5"
    sharded = f"{words} train.strategy=fsdp train.recompute_every=1"
    assert main(["train", *sharded.split(), f"run_dir={tmp_path}/run", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "8 × 8 devices, fsdp: 1 copy of the model, each on 64; a step is 2 rounds of 4 × 2048 patches" in out
    assert "100,000 steps × 1,048,576 patches" in out
    assert "blocks that are gathered" in out
    assert "days if all that is sent is hidden" in out
    assert "at plan.price_an_hour=2.5 a device" in out
    assert "THAT IS MORE" not in out
    assert main(["train", *words.split(), f"run_dir={tmp_path}/run", "--dry-run"]) == 0
    assert "THAT IS MORE than a device has (plan.device_memory_gb=80)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
