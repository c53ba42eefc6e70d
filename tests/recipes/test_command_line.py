"""The command line as a user meets it: help, mistakes, dry runs, and the whole pipeline on a few seconds of speech."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from lst.cli import main
from lst.commands import COMMANDS, recipe_of


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    is_of_run = not command.startswith(("tokenizer", "scale", "runs", "compare", "reproduce"))
    assert (f"run_dir=runs/{'synthetic' if command == 'synthetic' else 'quickstart'}" in out) == is_of_run
    assert len([line for line in out.splitlines() if "=" in line]) >= 8


def test_mistakes_are_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["trian"], "did you mean train?"),
        (["train", "train.max_stps=3"], "did you mean train.max_steps?"),
        (["train", "--fast"], "unknown flag --fast; flags are --dry-run, --cfg job, --config-dir DIR"),
        (["train", "--dryrun"], "unknown flag --dryrun: did you mean --dry-run?"),
        (["prepare", "--num-workers=2"], "unknown flag --num-workers=2: write num_workers=2"),
        (["tokenizer", "convert-units", "--trust"], "unknown flag --trust: write tokenizer.trust=true"),
        (["train", "--patching", "static"], "unknown flag --patching: write patching=static"),
        (["train", "-s", "3"], "unknown flag -s: write seed=3"),
        (["synthetic", "-lr", "1e-3"], "unknown flag -lr: write train.learning_rate=1e-3"),
        (["train", "--learning-rate", "--dry-run"], "write train.learning_rate=…"),
        (["train", "--config-dir"], "--config-dir needs a value: write --config-dir DIR"),
        (["train", "jobs=2"], "jobs=2 is an option of --multirun: add -m"),
        (["train", "-m", "jobs=two"], "jobs=two: must be a whole number"),
        (["train", "-m", "jobs=0"], "jobs=0: must be 1 or more"),
        (["train", "-m", "--cfg", "job"], "leave -m out"),
        (["train", "--cfg", "all"], "--cfg job"),
        (["prepare", "corpus=/no/such/folder"], "/no/such/folder"),
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert expected in err
        assert "Traceback" not in err
        if words[0] == "train" and len(words) > 1 and words[1].startswith("-"):
            assert err.count("\n") == 1


def test_flags_of_other_tools_are_all_answered_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--patching", "static", "seed=3", "-s", "3", "--fast", "--name=x"]) == 2
    err = capsys.readouterr().err
    for part in ("write patching=static", "write seed=3", "unknown flag --fast;", "write name=x", "4 problems"):
        assert part in err


def test_help_and_import_are_quick_because_no_torch_is_imported() -> None:
    for code in (
        "import lst",
        "import lst.cli; lst.cli.main(['--help'])",
        "import lst.cli; lst.cli.main(['train', '--help'])",
    ):
        check = f"import sys; {code}; sys.exit(sum(name in sys.modules for name in ('torch', 'numpy', 'lightning')))"
        assert subprocess.run([sys.executable, "-c", check], stdout=subprocess.DEVNULL).returncode == 0, code


def test_cfg_job_prints_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "seed=5", "--cfg", "job"]) == 0
    assert "\nseed: 5\n" in capsys.readouterr().out


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("quickstart", "prepare", "card", "train", "eval", "report"):
        assert main([command, "experiment=smoke", f"run_dir={tmp_path / 'r'}", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "GFLOP a step" in out
    assert "disk about" in out
    assert not (tmp_path / "r").exists()


def test_quickstart_end_to_end(tmp_path: Path) -> None:
    """From stories to a report, as a user starts it; again, and nothing is done twice; then continuations."""
    run = tmp_path / "run"
    base = [sys.executable, "-m", "lst"]
    overrides = ["experiment=smoke", f"run_dir={run}", "num_workers=1"]

    def call(*words: str) -> str:
        environment = {**os.environ, forked.NESTED: "1"}
        done = forked.run([*base, *words], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    out = call("quickstart", *overrides)
    assert f"report: {run / 'report.html'}" in out
    assert (run / "report.html").read_text().lower().startswith("<!doctype html>")
    results = [json.loads((run / "eval" / f"{name}.json").read_text()) for name in ("baseline", "static", "curriculum")]
    for result in results:
        assert set(result["cloze"]) == {"S→S", "T→T", "S→T", "T→S"}
        assert 0 < result["bits"]["bits_per_unit"] < 20
    again = call("quickstart", *overrides)
    for line in ("prepared data is whole", "baseline is trained: nothing to do", "static is evaluated: nothing to do"):
        assert line in again
    spoken = call(
        "generate",
        *overrides[:2],
        "generate.text=Anna went",
        "generate.modality=speech",
        "name=static",
        "generate.max_new_tokens=6",
    )
    units = spoken.splitlines()[1].removeprefix("continuation: ").split()
    assert all(0 <= int(unit) < 20 for unit in units)
    audio = next(json.loads(line)["path"] for line in (run / "data" / "manifest.jsonl").read_text().splitlines())
    written = call(
        "generate",
        *overrides[:2],
        f"generate.audio={audio}",
        "generate.modality=text",
        "name=baseline",
        "generate.max_new_tokens=4",
    )
    assert "continuation:" in written


def test_generate_needs_one_prompt(smoke_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "experiment=smoke", f"run_dir={smoke_data}"]) == 2
    assert "give one prompt" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "train --help"])
def test_a_reader_that_has_enough_is_no_error(words: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m lst {words} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 where it was read before it ended


def test_without_an_output_it_still_works() -> None:
    command = f"{sys.executable} -m lst train --help >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_paths_that_cannot_be_what_they_are_for_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = [
        "run_dir=s3://bucket/run",
        f"text={tmp_path}",
        f"export.folder={tmp_path}/file",
        "out=local:///u",
        f"check.json={tmp_path}",
        "tokenizer.codebook=gs://b/units.safetensors",
    ]
    assert main(["prepare", *words]) == 2
    told = capsys.readouterr().err
    for part in (
        "run_dir=s3://bucket/run is a URL: a path of this machine is needed; for prepared data there is",
        f"text={tmp_path}: a file of this machine is needed; folders and URLs are for corpus=none",
        f"export.folder={tmp_path}/file is a file: name a folder",
        "out=local:///u is a URL",
        f"check.json={tmp_path} is a folder",
        "tokenizer.codebook=gs://",
    ):
        assert part in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_its_plan_name_a_recipe_that_is_there(command: str) -> None:
    for place in (COMMANDS[command].recipe, COMMANDS[command].plan_recipe):
        recipe = recipe_of(place)
        assert set(inspect.signature(recipe).parameters) <= {"config", "overrides", "peak"}, place
