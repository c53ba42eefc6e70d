"""Files of a run: versions of their formats, commands, and trained models as they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lst.errors import UserError
from lst.runs.fitted_patching import Threshold
from lst.runs.folder import RunFolder, recorded_words
from lst.runs.formats import TrainingSettings, read_record, versioned
from lst.storage import read_json, write_json


def test_a_file_without_a_version_has_version_1(tmp_path: Path) -> None:
    options: dict[str, Any] = {"interleave": {}, "mix": {}, "patching": {}, "model": {}, "loss": {}}
    numbers = {"seed": 3, "pack_buffer": 8, "num_streams": 2, "shuffle_shards": 4}
    record = {"data": "a1", **numbers, **options, "train": {"max_steps": 2}}
    for written in (record, versioned(record)):
        write_json(tmp_path / "settings.json", written)
        assert read_record(tmp_path / "settings.json", TrainingSettings, "the settings", "") == record
    assert read_json(tmp_path / "settings.json", dict[str, Any], "", "")["version"] == 1


def test_a_file_of_other_types_is_refused_with_the_place_in_it(tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {"data": "a1", "seed": "three"})
    with pytest.raises(UserError, match=r"(?s)the settings is damaged: .*interleave is missing.*Delete it\."):
        read_record(tmp_path / "settings.json", TrainingSettings, "the settings", "Delete it.")
    assert read_record(write(tmp_path, {"train a": ["name=a"]}), dict[str, list[str]], "it", "") == {
        "train a": ["name=a"]
    }
    with pytest.raises(UserError, match=r"'train a' must be a list"):
        read_record(write(tmp_path, {"train a": "name=a"}), dict[str, list[str]], "it", "")


def write(folder: Path, value: Any) -> Path:
    write_json(folder / "commands.json", value)
    return folder / "commands.json"


def test_later_versions_and_damaged_files_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for content, said in (
        ({"version": 2}, r"settings\.json has version 2, this project reads 1: use the release"),
        ([], r"the settings is damaged.*Delete it\."),
    ):
        write_json(path, content)
        with pytest.raises(UserError, match=said):
            read_record(path, TrainingSettings, "the settings", "Delete it.")


def test_commands_of_version_0_1_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert recorded_words(run) is None
    write_json(run.commands, {"prepare": ["seed=1"], "train a": ["name=a"]})
    assert recorded_words(run) == ["seed=1"]
    write_json(run.commands, versioned({"prepare": ["seed=1"], "quickstart": ["seed=2"]}))
    assert recorded_words(run) == ["seed=2"]


@pytest.mark.parametrize(
    "value", ["{}", '{"entropy_threshold": "2"}', '{"entropy_threshold": -1}', '{"version": 2}', "[]"]
)
def test_a_damaged_threshold_is_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "threshold.json"
    path.write_text(value)
    with pytest.raises(UserError, match=r"threshold\.json") as raised:
        read_json(path, Threshold, "the threshold", "Delete it.")
    assert "\n" not in str(raised.value)
    path.write_text('{"entropy_threshold": 1.5}')
    assert read_json(path, Threshold, "", "") == {"entropy_threshold": 1.5}, "as version 0.1 wrote it"
