"""Runs commands as child processes, some at a time, each with its output in a log file.

::

    commands ──run_commands──▶ children, each in a session of its own ──▶ FinishedCommand as each one ends

Leaving the iteration early, by Ctrl-C or an error, ends all children and what they started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from lst.progress import say

# How often children are looked at, how often their last line is repeated, and how long they have to end.
LOOK_S, TELL_S, END_S = 0.1, 10.0, 20.0
# As much of a log's end as holds its last line.
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class ChildCommand:
    """A command to run.

    Attributes:
        label: how it is called in progress lines.
        words: the program and its arguments.
        log: file that its output is added to.
    """

    label: str
    words: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class FinishedCommand:
    """A command that has ended.

    Attributes:
        command: what was run.
        number: its place among the commands.
        exit_code: 0 where all is well; -N where signal N ended it.
        duration_s: from its start to its end.
        last_line: of its output.
    """

    command: ChildCommand
    number: int
    exit_code: int
    duration_s: float
    last_line: str


@dataclass
class _Child:
    command: ChildCommand
    number: int
    process: subprocess.Popen[bytes]
    started_s: float
    told: str = ""


def jobs_and_threads(jobs: int | None, threads: int | None) -> tuple[int, int | None]:
    """How many children run at the same time, and threads of each, from what a user asked for.

    Args:
        jobs: None and 0 mean as many as there are cores for.
        threads: of each child; None means one, or what ``OMP_NUM_THREADS`` says.

    Returns:
        jobs: at least one.
        threads: as ``run_commands`` takes them.

    >>> jobs_and_threads(3, 2)
    (3, 2)
    """
    is_free = threads is None and "OMP_NUM_THREADS" in os.environ
    return jobs or max((os.cpu_count() or 1) // (threads or 1), 1), None if is_free else threads or 1


def run_commands(
    commands: Sequence[ChildCommand],
    jobs: int,
    threads: int | None = 1,
    is_wanted: Callable[[ChildCommand], bool] = lambda command: True,
) -> Iterator[FinishedCommand]:
    """Runs every command, also after one has failed; yields each when it has ended.

    Args:
        commands: independent of one another.
        jobs: how many run at the same time.
        threads: of each child (``OMP_NUM_THREADS``); None leaves the environment as it is. Sums of floats depend on
            it, so it does not follow ``jobs``.
        is_wanted: asked when a command's turn has come; others are left out.

    Raises:
        KeyboardInterrupt: this process was asked to end; all children have ended.
    """
    number_of_threads = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = {**os.environ, **number_of_threads}
    waiting = list(enumerate(commands))
    running: list[_Child] = []
    told_s = time.monotonic()
    with noted_signals() as signals:
        try:
            while waiting or running:
                if signals:
                    raise KeyboardInterrupt
                while waiting and len(running) < jobs:
                    number, command = waiting.pop(0)
                    if not is_wanted(command):
                        continue
                    running.append(_start(number, command, environment))
                    say(f"[{number + 1}/{len(commands)}] {command.label}: started; its output: {command.log}")
                time.sleep(LOOK_S)
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    yield _finished(child, len(commands))
                if time.monotonic() - told_s > TELL_S:
                    told_s = time.monotonic()
                    for child in running:
                        _tell(child, len(commands))
        finally:
            _end(running, signals)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; empty where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            # A progress bar goes back to the start of its line.
            lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def opened_log(log: Path) -> IO[str]:
    """A log that output is added to, opened; its folder is made."""
    log.parent.mkdir(parents=True, exist_ok=True)
    return open(log, "a", encoding="utf-8")


def _start(number: int, command: ChildCommand, environment: dict[str, str]) -> _Child:
    with opened_log(command.log) as log:
        # In a session of its own, Ctrl-C at the terminal reaches the parent alone, which ends its children in order.
        process = subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return _Child(command, number, process, time.monotonic())


def _finished(child: _Child, num_commands: int) -> FinishedCommand:
    exit_code, duration_s = child.process.returncode, time.monotonic() - child.started_s
    line = last_line(child.command.log)
    ended = "done" if exit_code == 0 else f"FAILED (exit status {exit_code}): {line}"
    say(f"[{child.number + 1}/{num_commands}] {child.command.label}: {ended}, {duration_s:,.0f} s")
    return FinishedCommand(child.command, child.number, exit_code, duration_s, line)


def _tell(child: _Child, num_commands: int) -> None:
    line = last_line(child.command.log)
    if line != child.told:
        child.told = line
        say(f"[{child.number + 1}/{num_commands}] {child.command.label}: {line}")


def _end(children: Sequence[_Child], signals: list[int]) -> None:
    """Interrupts all children, waits until they have ended or another signal comes, and kills what is left of them."""
    for child in children:
        _signal_session(child, signal.SIGINT)
    num_signals, deadline_s = len(signals), time.monotonic() + END_S
    while any(child.process.poll() is None for child in children):
        if len(signals) > num_signals or time.monotonic() > deadline_s:
            break
        time.sleep(LOOK_S)
    for child in children:
        _signal_session(child, signal.SIGKILL)
        child.process.wait()


def _signal_session(child: _Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


@contextlib.contextmanager
def noted_signals(
    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> Iterator[list[int]]:
    """Notes signals that ask this process to end, so that none comes between the start of a child and its record.

    Signals that are ignored, as under ``nohup``, stay ignored.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    before = {number: signal.signal(number, note) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
