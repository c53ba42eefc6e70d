"""The pool of child commands: outputs in logs, at most so many at a time, all ended when their parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lst.parallel import commands
from lst.parallel.commands import ChildCommand, last_line, run_commands


def child(tmp_path: Path, label: str, code: str) -> ChildCommand:
    return ChildCommand(label, (sys.executable, "-c", code), tmp_path / "logs" / f"{label}.log")


def wait_for(condition: object, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_has_its_log_its_threads_and_its_exit_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys; print('out', os.environ['OMP_NUM_THREADS']); print('err', file=sys.stderr); sys.exit({})"
    children = [child(tmp_path, "good", code.format(0)), child(tmp_path, "bad", code.format(3))]
    done = sorted(run_commands(children, jobs=2, threads=5), key=lambda one: one.number)
    assert [(one.command.label, one.exit_code) for one in done] == [("good", 0), ("bad", 3)]
    for one in children:
        assert sorted(one.log.read_text().split("\n")) == ["", "err", "out 5"]
    told = capfd.readouterr()
    assert told.out == "", "standard output is the caller's"
    assert "[1/2] good: started" in told.err
    assert "[2/2] bad: FAILED (exit status 3): " in told.err


def test_at_most_so_many_run_at_once(tmp_path: Path) -> None:
    code = (
        "import os, time; open({here!r} + str(os.getpid()), 'w').close(); "
        "print(len(os.listdir({here!r}))); time.sleep(0.3); os.remove({here!r} + str(os.getpid()))"
    ).format(here=f"{tmp_path}/running/")
    (tmp_path / "running").mkdir()
    for jobs in (1, 2):
        children = [child(tmp_path, f"{jobs}-{number}", code) for number in range(4)]
        assert all(one.exit_code == 0 for one in run_commands(children, jobs))
        assert max(int(one.log.read_text()) for one in children) <= jobs


def test_running_commands_are_told_of_by_their_last_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "TELL_S", 0.2)
    code = "import time; print('a', end='\\rstep 7\\n\\n', flush=True); time.sleep(1.5)"
    list(run_commands([child(tmp_path, "slow", code)], 1))
    assert capfd.readouterr().err.count("[1/1] slow: step 7\n") == 1, "told once, as it does not change"


def test_the_last_line_of_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_parent_that_ends_ends_its_children_and_theirs(tmp_path: Path, number: signal.Signals) -> None:
    # A child that ignores the interrupt, and a process of its own.
    deaf = "import os, signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    deaf += "below = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); "
    deaf += f"open({str(tmp_path)!r} + '/deaf', 'w').write(f'{{os.getpid()}} {{below.pid}}'); time.sleep(99)"
    polite = f"import os, time; open({str(tmp_path)!r} + '/polite', 'w').write(str(os.getpid())); time.sleep(99)"
    code = (
        "from pathlib import Path; from lst.parallel import commands; commands.END_S = 1.0\n"
        f"children = [commands.ChildCommand(str(n), ({sys.executable!r}, '-c', c), Path({str(tmp_path)!r}) / str(n))\n"
        f"            for n, c in enumerate([{deaf!r}, {polite!r}])]\n"
        "list(commands.run_commands(children, 2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    files = [tmp_path / "deaf", tmp_path / "polite"]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    assert all(map(is_alive, pids))
    os.kill(parent.pid, number)
    assert "KeyboardInterrupt" in parent.communicate(timeout=30)[1]
    wait_for(lambda: not any(map(is_alive, pids)))


def test_leaving_early_ends_what_runs(tmp_path: Path) -> None:
    children = [
        child(tmp_path, "quick", "pass"),
        child(tmp_path, "slow", "import os, time; print(os.getpid(), flush=True); time.sleep(99)"),
    ]
    results = run_commands(children, 2)
    assert next(results).command.label == "quick"
    wait_for(lambda: children[1].log.read_text().strip())
    pid = int(children[1].log.read_text())
    assert is_alive(pid)
    results.close()  # type: ignore[attr-defined]
    assert not is_alive(pid)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
