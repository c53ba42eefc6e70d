"""``--multirun``: two real trainings at once, names and places of runs, failures, and scripts for SLURM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

from lst.cli import main
from lst.commands import COMMANDS, job_of
from lst.configs.compose import build_config
from lst.errors import UserError
from lst.recipes.multirun import SweptCommand, plan_runs
from lst.storage import sha256


def swept(command: str) -> SweptCommand:
    what = COMMANDS[command]
    return SweptCommand(command, job_of(command), what.output, what.reads_run)


def planned(command: str, *words: str) -> list[list[str]]:
    """The words of each run, without the program."""
    return [list(child.words[3 + len(command.split()) :]) for child in plan_runs(swept(command), words)]


@pytest.fixture(scope="module")
def trained(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str, str]:
    """Options of two short trainings, and what the multirun of them said."""
    run = tmp_path_factory.mktemp("multirun") / "run"
    words = ["experiment=smoke", f"run_dir={run}", f"data_dir={smoke_data / 'data'}", "train.max_steps=3"]
    words += ["train.warmup_steps=1", "train.eval_every=3", "train.learning_rate=1e-3,3e-3"]
    done = forked.run(
        [sys.executable, "-m", "lst", "train", "-m", *words, "jobs=2"],
        capture_output=True,
        text=True,
        env={**os.environ, forked.NESTED: "1"},
    )
    assert done.returncode == 0, done.stderr
    return words, done.stdout, done.stderr


def test_two_trainings_at_once(trained: tuple[list[str], str, str]) -> None:
    words, out, err = trained
    run = Path(words[1].partition("=")[2])
    names = ["curriculum-learning_rate-0_001", "curriculum-learning_rate-0_003"]
    for name, rate in zip(names, (1e-3, 3e-3), strict=True):
        settings = json.loads((run / "models" / name / "settings.json").read_text())
        assert settings["train"]["learning_rate"] == rate
        assert (run / "models" / name / "final" / "model.safetensors").exists()
        log = (run / "multirun" / f"train-{name.partition('-')[2]}.log").read_text()
        assert f"{name}: " in log
    assert {f"train {name}" for name in names} <= set(json.loads((run / "commands.json").read_text()))
    rows = out.splitlines()
    assert [row.split()[:2] for row in rows[1:3]] == [[name.partition("-")[2], "done"] for name in names]
    assert rows[-1] == "2 runs, 0 failed"
    assert "[1/2] learning_rate-0_001: started" in err
    assert "[2/2] learning_rate-0_003: done" in err


@pytest.mark.usefixtures("forked_commands")
def test_results_do_not_depend_on_jobs_and_finished_runs_are_skipped(
    trained: tuple[list[str], str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, _, _ = trained
    run = Path(words[1].partition("=")[2])
    assert main(["train", "--multirun", *words]) == 0
    assert "2 runs, 0 failed" in capfd.readouterr().out
    for rate in ("0_001", "0_003"):
        assert "is trained: nothing to do" in (run / "multirun" / f"train-learning_rate-{rate}.log").read_text()
    one_at_a_time = [word for word in words if not word.startswith("run_dir=")] + [f"run_dir={tmp_path}"]
    assert main(["train", "-m", *one_at_a_time, "jobs=1"]) == 0
    for name in ("curriculum-learning_rate-0_001", "curriculum-learning_rate-0_003"):
        file = f"models/{name}/final/model.safetensors"
        assert sha256(run / file) == sha256(tmp_path / file)


@pytest.mark.usefixtures("forked_commands")
def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.txt").write_text("\n".join(f"the {n}th line of a small text" for n in range(300)))
    words = [f"text={tmp_path}/missing.txt,{tmp_path}/there.txt", f"out={tmp_path}/text.model", f"run_dir={tmp_path}"]
    assert main(["tokenizer", "fit-text", "-m", *words, "tokenizer.text_vocab_size=300", "jobs=2"]) == 2
    told = capfd.readouterr()
    first, second, last = told.out.splitlines()[1:]
    assert "failed (2)" in first
    assert " done " in second
    assert last == "2 runs, 1 failed"
    assert "missing.txt: there is no such file" in told.err
    assert len(list(tmp_path.glob("text-*.model"))) == 1


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("train", ["train.rows=2,4", "name=x"], [["train.rows=2", "name=x-rows-2"], ["train.rows=4", "name=x-rows-4"]]),
        ("train", ["name=a,b"], [["name=a"], ["name=b"]]),
        ("train", ["run_dir=a,b"], [["run_dir=a"], ["run_dir=b"]]),
        (
            "train",
            ["patching=entropy", "patching.entropy_size=2.5,3"],
            [
                ["patching=entropy", "patching.entropy_size=2.5", "name=curriculum-entropy_size-2_5"],
                ["patching=entropy", "patching.entropy_size=3", "name=curriculum-entropy_size-3"],
            ],
        ),
        ("quickstart", ["seed=0,1", "run_dir=r/"], [["seed=0", "run_dir=r-seed-0"], ["seed=1", "run_dir=r-seed-1"]]),
        ("prepare", ["part=0/2,1/2"], [["part=0/2"], ["part=1/2"]]),
        ("prepare", ["seed=0,1", "data_dir=d"], [["seed=0", "data_dir=d-seed-0"], ["seed=1", "data_dir=d-seed-1"]]),
        (
            "export",
            ["export.format=ctm,textgrid"],
            [
                ["export.format=ctm", "export.folder=export-format-ctm"],
                ["export.format=textgrid", "export.folder=export-format-textgrid"],
            ],
        ),
        (
            "tokenizer fit-units",
            ["tokenizer.num_units=50,100", "out=a/u.safetensors"],
            [
                ["tokenizer.num_units=50", "out=a/u-num_units-50.safetensors"],
                ["tokenizer.num_units=100", "out=a/u-num_units-100.safetensors"],
            ],
        ),
        ("generate", ["generate.top_k=1,2"], [["generate.top_k=1"], ["generate.top_k=2"]]),
        ("check", ["corpus=a,b"], [["corpus=a"], ["corpus=b"]]),
        ("eval", ["run_dir=a,b"], [["run_dir=a"], ["run_dir=b"]]),
        (
            "synthetic",
            ["model=h3,s4d", "run_dir=r"],
            [["model=h3", "run_dir=r-model-h3"], ["model=s4d", "run_dir=r-model-s4d"]],
        ),
    ],
)
def test_runs_get_places_of_their_own(command: str, words: list[str], expected: list[list[str]]) -> None:
    assert planned(command, *words) == expected


def test_files_and_long_values_give_short_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text("defaults: [lst_debug, _self_]\n")
    found = planned("train", f"model={tmp_path}/one.yaml,{tmp_path}/two.yaml")
    assert [words[-1] for words in found] == ["name=curriculum-model-one", "name=curriculum-model-two"]
    found = planned("train", f"data_dir={'a' * 99},{'a' * 98}b")
    assert len({words[-1] for words in found}) == 2
    assert all(len(words[-1]) < 80 for words in found)


@pytest.mark.parametrize(
    ("command", "words"),
    [("eval", ["eval.max_items=1,2"]), ("train", ["seed=1,1"]), ("train", ["data_dir=a.b,a_b"])],
)
def test_runs_that_would_share_a_place_are_refused(command: str, words: list[str]) -> None:
    with pytest.raises(UserError, match="would both write to"):
        planned(command, *words)


def test_a_mistake_in_any_run_shows_before_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", f"run_dir={tmp_path}/r", "train.rows=2,0,-1", "train.clip_norm=0"]) == 2
    told = capfd.readouterr().err
    for part in ("train.rows=0: must be 1 or more", "train.rows=-1", "train.clip_norm=0", "3 problems"):
        assert part in told, "of all runs, each once"
    assert not (tmp_path / "r").exists()


def test_a_dry_run_lists_the_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "-m", "seed=range(2)", f"run_dir={tmp_path}/a b", "--dry-run"]) == 0
    assert [shlex.split(line) for line in capsys.readouterr().out.splitlines()] == [
        ["lst", "train", f"seed={n}", f"run_dir={tmp_path}/a b", f"name=curriculum-seed-{n}"] for n in range(2)
    ]


def test_a_slurm_script_runs_one_line_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "runs.sh"
    words = ["seed=0,1", 'generate.text=it\'s $HOME, "so"', f"run_dir={tmp_path}/r"]
    assert main(["generate", "-m", *words, f"slurm={script}", "jobs=3"]) == 0
    assert f"sbatch {script}" in capsys.readouterr().out
    text = script.read_text()
    assert "#SBATCH --array=0-1%3\n" in text
    assert main(["generate", "-m", *words, f"slurm={tmp_path}/all.sh"]) == 0
    assert "#SBATCH --array=0-1\n" in (tmp_path / "all.sh").read_text()
    assert sum(line.endswith(";;") for line in text.splitlines()) == 2, "a line a run"
    # What the second line would run: the program is replaced by one that prints its arguments.
    shown = tmp_path / "shown.sh"
    shown.write_text(text.replace(f"exec {shlex.quote(sys.executable)} -m lst", "printf '%s\\n'"))
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", str(shown)], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == ["generate", "seed=1", *words[1:]]
    assert build_config(done.stdout.splitlines()[1:]).generate.text == 'it\'s $HOME, "so"'


def test_ctrl_c_ends_the_multirun_with_its_children(tmp_path: Path) -> None:
    words = ["num_workers=1", "seed=0,1", f"run_dir={tmp_path}/r", "jobs=2"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "lst", "prepare", "-m", *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    logs = [tmp_path / "r" / "multirun" / f"prepare-seed-{seed}.log" for seed in (0, 1)]
    deadline_s = time.monotonic() + 60
    while not all(log.exists() for log in logs):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGINT)
    told = parent.communicate(timeout=60)[1]
    assert parent.returncode == 130
    assert "the same command goes on from here" in told
    mine = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{tmp_path}/r-seed".encode() in _read(path)]
    assert mine == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
