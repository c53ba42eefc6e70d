"""Forked commands of tests are what started ones are: output, status, signals, group, folder, environment, children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest

BOTH = pytest.mark.parametrize("how", [subprocess, forked], ids=["started", "forked"])
SHOW = """
import atexit, json, os, sys
atexit.register(lambda: print("at the exit"))
print(json.dumps({"words": sys.argv, "folder": os.getcwd(), "here": os.environ.get("HERE"), "read": sys.stdin.read(),
    "parent": os.getppid(), "is_leader": os.getpid() == os.getpgrp(), "group": os.getpgrp(), "name": __name__,
    "threads": __import__("torch").get_num_threads()}))
print("told", file=sys.stderr)
sys.exit(3)
"""


@BOTH
def test_what_a_process_sees_and_leaves(how: object, tmp_path: Path) -> None:
    environment = {**os.environ, "HERE": "ä", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", SHOW, "a b", "--c"]
    for is_session in (False, True):
        done = how.run(  # type: ignore[attr-defined]
            words,
            input="put in\n",
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            start_new_session=is_session,
        )
        line, last = done.stdout.splitlines()
        seen = json.loads(line)
        assert (done.returncode, done.stderr, last) == (3, "told\n", "at the exit")
        assert seen["words"] == ["-c", "a b", "--c"]
        assert (seen["folder"], seen["here"], seen["read"]) == (str(tmp_path), "ä", "put in\n")
        assert (seen["parent"], seen["is_leader"], seen["threads"]) == (os.getpid(), is_session, 1)
        assert is_session or seen["group"] == os.getpgrp()
        assert seen["name"] == "__main__"


@BOTH
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_it(how: object, number: signal.Signals) -> None:
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); print('up', flush=True)"
    process = how.Popen(  # type: ignore[attr-defined]
        [sys.executable, "-c", f"{code}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "up\n"
    assert process.poll() is None
    os.killpg(process.pid, number)
    _, told = process.communicate()
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in told) == (number == signal.SIGINT)


@BOTH
def test_modules_and_scripts_run_and_errors_are_told(how: object, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("value = 5\n")
    (tmp_path / "script.py").write_text("import sys, beside; print(sys.argv[1:], beside.value)\n")
    for words, expected in (
        (["-m", "lst", "--version"], "lst 0"),
        (["-m", "script", "a"], "['a'] 5"),
        ([str(tmp_path / "script.py"), "b"], "['b'] 5"),
    ):
        done = how.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path)  # type: ignore[attr-defined]
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(expected)
    wrong = how.run([sys.executable, "-c", "1 / 0"], capture_output=True, text=True)  # type: ignore[attr-defined]
    assert (wrong.returncode, wrong.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    with pytest.raises(subprocess.CalledProcessError):
        how.run([sys.executable, "-m", "lst", "trian"], stderr=subprocess.DEVNULL, check=True)  # type: ignore[attr-defined]


def test_what_it_starts_is_forked_below_it() -> None:
    """By the command's own server, which ends with it."""
    code = (
        "import subprocess, sys, os\n"
        "again = 'import os, sys; print(os.getppid(), \"torch\" in sys.modules)'\n"
        "print(os.getpid(), True, flush=True)\n"
        "sys.exit(subprocess.run([sys.executable, '-c', again]).returncode)"
    )
    done = forked.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, forked.NESTED: "1"}
    )
    parent, seen = done.stdout.splitlines()
    assert (done.returncode, parent) == (0, seen)
