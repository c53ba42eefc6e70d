"""The record of a run's commands, written by processes that end at the same time."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from lst.configs.compose import build_config
from lst.errors import UserError
from lst.model.checkpoint import WEIGHTS_FILE
from lst.runs import folder


def test_records_of_trainings_that_end_together_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [build_config([f"run_dir={tmp_path}", f"name=m{number}"]) for number in range(4)]
    read = folder._recorded_commands

    def slow_read(path: Path) -> dict[str, list[str]]:
        found = read(path)
        # Time for another to read what this one is about to replace.
        time.sleep(0.1)
        return found

    monkeypatch.setattr(folder, "_recorded_commands", slow_read)
    threads = [threading.Thread(target=folder.record_command, args=(one, "train", [one.name])) for one in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorded = json.loads((tmp_path / "commands.json").read_text())
    assert recorded == {"version": 1} | {f"train m{number}": [f"m{number}"] for number in range(4)}
    assert [path.name for path in tmp_path.iterdir()] == ["commands.json"], "no lock is left behind"


def test_a_record_that_a_killed_command_staged_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".commands.0123456789ab.partial.json").write_text("{")
    (tmp_path / ".commands_of_others.0123456789ab.partial.json").write_text("{")
    folder.record_command(build_config([f"run_dir={tmp_path}"]), "eval", [])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"commands.json", ".commands_of_others.0123456789ab.partial.json"}


def test_a_list_of_prepared_folders_is_refused_with_the_way_to_several_corpora() -> None:
    with pytest.raises(UserError, match=r"data_dir=\[a,b\]: one folder .* lst prepare corpus=\[NAME=PLACE,…\]"):
        folder.RunFolder.of(build_config(["data_dir=[a,b]"]))


def test_a_pipe_in_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / WEIGHTS_FILE)
    assert folder.has_finite_weights(tmp_path), "that it is no file is found when it is opened"
