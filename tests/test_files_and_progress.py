"""Files are whole or absent; progress is a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import errno
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from lst import progress as progress_module
from lst import storage
from lst.errors import DiskFullError, ProblemsError, UserError, raise_problems
from lst.progress import Progress
from lst.storage import check_free_space, fingerprint, read_json, read_jsonl, sha256, staged, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_half() -> None:
        with staged(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_said_with_the_way_out(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"is full: a\.txt was not written.*run_dir=FOLDER"):
        write_text(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for content in ("old", "new"):
        (tmp_path / ".folder.partial").mkdir()
        (tmp_path / ".folder.partial" / "left by a killed process").write_text("")
        with storage.staged_folder(folder) as staging:
            write_text(staging / content, content)
    with pytest.raises(DiskFullError, match="is full: folder was not written"), storage.staged_folder(folder):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_while_a_row_is_added_is_named(tmp_path: Path) -> None:
    storage.append_bytes(tmp_path / "new" / "a.jsonl", b"{}\n")
    with pytest.raises(DiskFullError, match=r"the disk that holds /dev is full: full was not written"):
        storage.append_bytes(Path("/dev/full"), b"{}\n")


def test_too_little_space_is_said_before_work_starts(tmp_path: Path) -> None:
    check_free_space(tmp_path / "not" / "there" / "yet", 1, "preparing")
    with pytest.raises(UserError, match="preparing needs about"):
        check_free_space(tmp_path, 1 << 60, "preparing")


def test_json_lines_of_a_killed_writer_are_read_up_to_the_break(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_jsonl(path, dict[str, Any]) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\nbroken\n{"a": 3}\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_jsonl(path, dict[str, Any])
    assert read_jsonl(tmp_path / "absent.jsonl", dict[str, Any]) == []


def test_missing_and_damaged_json_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the index is missing: .*Prepare again"):
        read_json(tmp_path / "x.json", dict[str, Any], "the index", "Prepare again.")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"the index is damaged.*Prepare again"):
        read_json(tmp_path / "x.json", dict[str, Any], "the index", "Prepare again.")
    write_json(tmp_path / "x.json", {"é": [1, None]})
    assert read_json(tmp_path / "x.json", dict[str, Any], "", "") == {"é": [1, None]}


def test_hashes(tmp_path: Path) -> None:
    write_text(tmp_path / "abc", "abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_all_problems_come_in_one_error() -> None:
    raise_problems("nothing", [])
    with pytest.raises(ProblemsError) as raised:
        raise_problems("manifest", [f"problem {n}" for n in range(50)], "Mend them.")
    text = str(raised.value)
    assert text.startswith("manifest: 50 problems")
    assert text.endswith("Mend them.")
    assert "and 20 more" in text
    assert len(raised.value.problems) == 50


def test_plain_lines_hold_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(100, "align", "utterance", initial=20, stream=stream) as progress:
        for _ in range(4):
            now[0] += 4.0
            progress.advance(10, note="loss 2.0")
    lines = stream.getvalue().splitlines()
    # 30 new ones in 12 s: 2.5 a second; 50 are left.
    assert lines[0] == "align: 50/100 utterances, 2.5 utterances/s, 20 s left, loss 2.0"
    assert len(lines) == 2


def test_short_work_prints_nothing() -> None:
    stream = io.StringIO()
    with Progress(3, "quick", stream=stream) as progress:
        progress.advance(3)
    assert stream.getvalue() == ""


def test_an_error_of_many_problems_reaches_another_process_whole() -> None:
    error = ProblemsError("manifest x", [f"row {number}" for number in range(40)], "Mend them.", max_shown=3)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.problems) == (str(error), error.problems)
    assert "37 more of them" in str(again)
