"""A run's folder from elsewhere is data: its record of commands chooses no place, no weights, no trust, no host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lst.configs.compose import build_config
from lst.errors import LstError, UserError
from lst.runs.folder import RunFolder, page_config
from lst.storage import write_json

HARMFUL = [
    "data_dir=/elsewhere",
    "run_dir=/elsewhere",
    "corpus=https://example.org/corpus.tsv",
    "text=/etc/passwd",
    "layout=manifest",
    "out=/elsewhere/out",
    "executor=ray",
    "address=ray://example.org:10001",
    "storage.allow_hosts=[localhost]",
    "storage.allow_protocols=[sftp]",
    "tokenizer.trust=true",
    "tokenizer.weights=hub:someone/model",
    "tokenizer.codebook=/elsewhere/units.safetensors",
    "tokenizer.text_model=/elsewhere/text.model",
    "tokenizer.device=cuda",
    "data.verify=size",
    "data.align.checkpoint=/elsewhere",
    "export.folder=/elsewhere",
    "check.json=/elsewhere/report.json",
    "verify_models=false",
    "generate.audio=/etc/passwd",
    "report.num_audio=500",
    "model=/elsewhere/mine.yaml",
    "patching=../../mine.yaml",
    "--config-dir=/elsewhere",
    "--config-name=mine",
    "nonsense=1",
    "no word",
]


def page_config_of(folder: Path, words: list[str], *overrides: str) -> Any:
    write_json(folder / "commands.json", {"version": 1, "prepare": words})
    all_words = [f"run_dir={folder}", *overrides]
    return page_config(build_config(all_words), all_words)


@pytest.mark.parametrize("word", HARMFUL)
def test_words_that_choose_more_than_numbers_are_left_where_they_are(word: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert page_config_of(tmp_path, [word, "seed=7"]) == build_config([f"run_dir={tmp_path}", "seed=7"])


def test_options_that_numbers_depend_on_are_taken_over_beneath_the_command_line(tmp_path: Path) -> None:
    words = [
        "experiment=smoke",
        "seed=7",
        "patching=static",
        "patching.static_size=3",
        "data.mix.by=documents",
        "card.title=a,b",
    ]
    assert page_config_of(tmp_path, words) == build_config([*words, f"run_dir={tmp_path}"])
    own = ["seed=8", "patching.static_size=5"]
    assert page_config_of(tmp_path, words, *own) == build_config([*words, f"run_dir={tmp_path}", *own])


@pytest.mark.parametrize(
    "key", ["seed", "card.title", "patching.static_size", "train.precision", "arms.a", "model.init"]
)
@pytest.mark.parametrize(
    "value", ["${oc.env:SECRET}", "$\\{oc.env:SECRET}", "[${oc.env:SECRET}]", "???", "'${run_dir}'"]
)
def test_nothing_recorded_reads_the_environment(
    key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    try:
        shown = str(page_config_of(tmp_path, [f"{key}={value}"]))
    except UserError as error:
        shown = str(error)
        assert str(tmp_path / "commands.json") in shown
        assert "Delete that file" in shown
    assert "s3cr3t" not in shown


def test_data_that_only_the_record_places_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names data_dir='s3://b/d', and places are taken from the command line alone"):
        page_config_of(tmp_path, ["data_dir=s3://b/d"])
    assert page_config_of(tmp_path, ["data_dir=s3://b/d"], "data_dir=/mine").data_dir == "/mine"


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    "\x00",
    "[" * 100_000,
    '{"prepare": 3}',
    '{"prepare": ["seed=1", 2]}',
    '{"version": 2}',
]
DAMAGED += ['{"prepare": [], "prepare": []}', '{"prepare": [NaN]}', '{"version": "1"}', '{"prepare": ["\\ud800"]}']


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_is_one_line(content: str, tmp_path: Path) -> None:
    path = RunFolder(tmp_path).commands
    path.write_text(content)
    with pytest.raises(LstError, match=r"commands\.json") as raised:
        page_config(build_config([f"run_dir={tmp_path}"]), [f"run_dir={tmp_path}"])
    assert "\n" not in str(raised.value)
    assert json.dumps(str(raised.value))
