"""A user's own YAML: from ``--config-dir`` or by its path, with every mistake in it named and nothing in it obeyed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from lst.cli import main
from lst.configs.compose import SYNTHETIC, build_config
from lst.errors import ProblemsError

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def problems_of(*words: str) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        build_config(words)
    return raised.value.problems


def test_a_choice_from_the_users_folder(tmp_path: Path, write: Write) -> None:
    write("model/mine.yaml", "defaults: [lst_debug, _self_]\nglobal_layers: 3\n")
    write("train/slow.yaml", "max_steps: 77\nwarmup_steps: 7\n")
    config = build_config([f"--config-dir={tmp_path}", "model=mine", "train=slow", "train.rows=5"])
    assert (config.model.global_layers, config.model.global_dim) == (3, 32), "the shipped file it builds on is read"
    assert (config.train.max_steps, config.train.rows) == (77, 5)


def test_a_file_by_its_path_and_in_an_arm(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("far away/mine.v2.yaml", "defaults: [lst_debug, _self_]\nglobal_layers: 3\n")
    assert build_config([f"model={path}"]).model.global_layers == 3
    config = build_config([f"arms.mine=[model={path},patching=static]"])
    assert build_config(config.arms["mine"]).model.global_layers == 3
    monkeypatch.chdir(tmp_path)
    assert build_config(["model=far away/mine.v2.yaml"]).model.global_layers == 3


def test_an_experiment_and_a_start_of_the_users(tmp_path: Path, write: Write) -> None:
    write("experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /model: lst_tiny\ntrain: {rows: 3}\n")
    write("start.yaml", "defaults: [config, _self_]\nseed: 9\n")
    config = build_config([f"--config-dir={tmp_path}", "--config-name=start", "experiment=mine", "patching=static"])
    assert (config.seed, config.train.rows, config.model.global_dim) == (9, 3, 128)
    assert config.patching.strategy == "static", "groups of the shipped start can be chosen"


def test_flags_are_taken_as_hydra_has_them(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("conf/start.yaml", "defaults: [config, _self_]\nseed: 9\n")
    monkeypatch.chdir(tmp_path)
    for words in (
        "--config-dir conf --config-name start",
        "--config-dir=conf --config-name=start.yaml",
        "-cd conf -cn start",
    ):
        assert main(["train", *shlex.split(words), "--cfg", "job"]) == 0
        assert "\nseed: 9\n" in capsys.readouterr().out


def test_own_files_of_synthetic_tasks(write: Write) -> None:
    path = write(
        "mine.yaml",
        "# @package _global_\nname: mine\nmodel: {global_mixers: [h3], encoder_layers: 0, decoder_layers: 0}\n",
    )
    assert SYNTHETIC.build([f"model={path}"]).name == "mine"


def test_every_mistake_in_every_file_is_named(tmp_path: Path, write: Write) -> None:
    write(
        "model/mine.yaml", "global_layes: 3\ninit_std: .nan\n_target_: os.system\nglobal_dim: {_target_: os.getcwd}\n"
    )
    write("train/mine.yaml", "rows: ${oc.env:HOME}\nmax_steps: ???\ntrain.clip_norm: 3\n")
    write("patching/mine.yaml", "- a list\n")
    found = problems_of(
        f"--config-dir={tmp_path}", "model=mine", "train=mine", "patching=mine", "sead=3", "train.beta1=x"
    )
    text = "\n".join(found)
    for part in (
        "model/mine.yaml: unknown key 'model.global_layes' (did you mean global_layers?)",
        "model/mine.yaml: model._target_: configurations call no code",
        "model/mine.yaml: model.global_dim._target_: configurations call no code",
        "train/mine.yaml: train.rows: ${…} is not resolved here",
        "train/mine.yaml: train.max_steps: ??? is no value",
        "train/mine.yaml: unknown key 'train.train.clip_norm'",
        "patching/mine.yaml: must be a mapping of options",
        "unknown option 'sead' (did you mean seed?)",
    ):
        assert part in text
    assert len(found) == 8


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("seed: 1\nrows: [3", "line 2: expected ',' or ']'"),
        ("rows: 3\nrows: 4", "line 2: found duplicate key rows"),
        ("rows: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("defaults: ['${oc.env:HOME}']", "defaults: ${…} is not resolved here"),
        ('rows: "$\\x7boc.env:HOME}"', "train.rows: ${…} is not resolved here"),
        ("hydra: {searchpath: [/etc]}", "unknown key 'train.hydra'"),
        ("arms: {a: [x=1]}", "unknown key 'train.arms'"),
        ("rows: two", "train.rows=two"),
        ("rows: 0", "train.rows=0: must be 1 or more"),
        ("rows: .inf", "train.rows=inf"),
        ("learning_rate: .inf", "train.learning_rate=inf: must be a finite number"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(
    content: str, expected: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/secret/of/the/environment")
    path = write("mine.yaml", content)
    assert main(["train", f"train={path}"]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "1 problem\n" in told
    assert "secret" not in told
    assert "Traceback" not in told


def test_an_experiment_without_a_package_is_told_how(tmp_path: Path, write: Write) -> None:
    write("experiment/mine.yaml", "seed: 3\n")
    (problem,) = problems_of(f"--config-dir={tmp_path}", "experiment=mine")
    assert "write '# @package _global_' on its first line" in problem


def test_files_that_are_not_there_or_hide_a_shipped_one(tmp_path: Path, write: Write) -> None:
    write("model/lst_debug.yaml", "global_layers: 3\n")
    write("model/mine.yaml", "global_layers: 3\n")
    found = problems_of(
        f"--config-dir={tmp_path}", "--config-name=none", "model=lst_debug", f"train={tmp_path}/no.yaml"
    )
    assert len(found) == 3
    for part, problem in zip(("rename yours", "there is no such file", "there is no none.yaml"), found, strict=True):
        assert part in problem
    (problem,) = problems_of(f"--config-dir={tmp_path}", "model=mina")
    assert problem.endswith("mine (did you mean mine?)"), "the user's files are among the choices"
    (problem,) = problems_of("--config-dir=/no/such/folder")
    assert problem == "--config-dir=/no/such/folder: there is no such folder"


@pytest.mark.parametrize(
    "word",
    [
        "train.rows=${oc.env:HOME}",
        "train.rows=$\\{oc.env:HOME\\}",
        "arms.a=[name=${oc.env:HOME}]",
        "model=${oc.env:HOME}",
        "run_dir=${oc.env:HOME}",
        "name=${seed}",
        "train.rows=???",
        "run_dir=???",
    ],
)
def test_overrides_refer_to_nothing(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/secret/of/the/environment")
    command = "quickstart" if word.startswith("arms.") else "train"
    assert main([command, word]) == 2
    told = capsys.readouterr().err
    assert "write the value itself" in told or "??? is no value" in told
    assert "1 problem\n" in told
    assert "secret" not in told


def test_targets_are_refused_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model._target_=os.system", "train={_target_: os.system}"]) == 2
    told = capsys.readouterr().err
    assert "2 problems" in told
    assert "model._target_: configurations call no code; remove the key" in told
