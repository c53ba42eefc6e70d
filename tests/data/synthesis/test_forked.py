"""Programs called in forked processes: each alone, stopped in time, and told apart from one that cannot be loaded."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lst.data.synthesis import forked
from lst.data.synthesis.engine_times import WAV_FILE
from lst.data.synthesis.engines import run_engine, run_program
from lst.data.synthesis.forked import call_program

PROGRAM = """
import json, os, sys, time
calls = 0
def main():
    global calls
    calls += 1
    what, *more = sys.argv[1:]
    if what == "tell":
        print(json.dumps([calls, os.getpid(), os.getcwd(), more, sys.stdin.read()]))
    elif what == "path":
        print(json.dumps(sys.path))
    elif what == "exit":
        sys.exit(more[0] if more[0] == "words" else int(more[0]))
    elif what == "raise":
        raise ValueError("this text is at fault")
    elif what == "crash":
        os.abort()
    elif what == "stay":
        time.sleep(60)
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "program.py").write_text(PROGRAM)
    return str(tmp_path / "program.py")


def told(program: str, folder: Path, *more: str) -> list:
    status, output = call_program(program, ["tell", *more], folder, 30)
    assert status == 0
    return json.loads(output)


def servers(program: str) -> list:
    return forked._IDLE[os.getpid(), program]


def test_each_call_has_a_process_of_its_own_and_one_server_is_enough(program: str, tmp_path: Path) -> None:
    first, second = told(program, tmp_path, "--", "ä\n"), told(program, tmp_path)
    assert first[0] == second[0] == 1, "no call sees what another one left"
    assert len({os.getpid(), servers(program)[0].pid, first[1], second[1]}) == 4
    assert first[2:] == [str(tmp_path), ["--", "ä\n"], ""], "its folder, its arguments, no input"
    assert len(servers(program)) == 1


@pytest.mark.parametrize("is_safe", [False, True], ids=["usual", "safe-path"])
def test_modules_beside_the_server_hide_no_others(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_safe: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mine'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    if is_safe:
        # Python leaves the script's folder out by itself (from 3.11 on).
        monkeypatch.setenv("PYTHONSAFEPATH", "1")
    path = json.loads(call_program(program, ["path"], tmp_path, 30)[1])
    assert path[0] == str(tmp_path / "mine")
    assert str(Path(forked.__file__).parent) not in path


def test_what_a_call_ends_with(program: str, tmp_path: Path) -> None:
    assert call_program(program, ["exit", "0"], tmp_path, 30) == (0, "")
    assert call_program(program, ["exit", "3"], tmp_path, 30) == (3, "")
    assert call_program(program, ["exit", "words"], tmp_path, 30) == (1, "words\n")
    status, output = call_program(program, ["raise"], tmp_path, 30)
    assert status == 1
    assert "this text is at fault" in output
    assert call_program(program, ["crash"], tmp_path, 30)[0] == -signal.SIGABRT
    with pytest.raises(TimeoutError):
        call_program(program, ["stay"], tmp_path, 0.2)
    assert told(program, tmp_path)[0] == 1, "the same server goes on"
    assert len(servers(program)) == 1


def test_a_server_that_has_ended_is_replaced(program: str, tmp_path: Path) -> None:
    told(program, tmp_path)
    servers(program)[0].kill()
    servers(program)[0].wait()
    assert told(program, tmp_path)[0] == 1
    assert len(servers(program)) == 1


def test_a_program_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ImportError('its library is missing')")
    for program, said in ((str(tmp_path / "broken.py"), "its library is missing"), ("no_such_program", "No module")):
        with pytest.raises(OSError, match=said):
            call_program(program, [], tmp_path, 30)


def test_a_program_that_loads_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "LOAD_LIMIT_S", 0.3)
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    with pytest.raises(TimeoutError):
        call_program(str(tmp_path / "slow.py"), [], tmp_path, 0.1)
    assert not servers(str(tmp_path / "slow.py"))


def _told_apart(program: str, folder: str) -> None:
    assert told(program, Path(folder))[0] == 1
    assert len(servers(program)) == 1


def test_threads_and_forked_processes_have_their_own_servers(program: str, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(8)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda folder: told(program, folder, folder.name), folders))
    assert [answer[3] for answer in answers] == [[folder.name] for folder in folders]
    assert 1 <= len(servers(program)) <= 3
    child = multiprocessing.get_context("fork").Process(target=_told_apart, args=(program, str(tmp_path)))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert told(program, tmp_path)[0] == 1


@pytest.mark.skipif(importlib.util.find_spec("py_nanotts") is None, reason="py-nanotts is not installed")
def test_a_fork_speaks_as_a_process_of_its_own(tmp_path: Path) -> None:
    sounds = []
    # Pico's pauses depend on what its process spoke before: another text in between must change nothing.
    for number, text in enumerate(
        ("One, two. And three?", "Something else, spoken in between.", "One, two. And three?")
    ):
        arguments = ["-v", "en-US", "-o", WAV_FILE, "--", text]
        for way in ("fork", "process"):
            folder = tmp_path / f"{number}-{way}"
            folder.mkdir()
            if way == "fork":
                sounds.append(run_program("py_nanotts.__main__", arguments, text, folder)[0])
            else:
                sounds.append(run_engine([sys.executable, "-m", "py_nanotts", *arguments], text, folder)[0])
    for number, other in ((0, 1), (2, 3), (4, 5), (0, 4)):
        np.testing.assert_array_equal(sounds[number], sounds[other])
