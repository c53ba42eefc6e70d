"""Calls a Python program in processes of their own that start at once; ``fork_server`` is the other side."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lst.data.synthesis import fork_server

# How long a program may take to load.
LOAD_LIMIT_S = 60.0
# Servers that wait for a call, by this process and the program. A process that is forked of this one has its own.
_IDLE: dict[tuple[int, str], list[subprocess.Popen[str]]] = {}


def call_program(program: str, arguments: Sequence[str], folder: Path, limit_s: float) -> tuple[int, str]:
    """Calls ``main`` of a Python program in a process of its own; may be used by several threads at a time.

    Args:
        program: a module, or a file that ends in ``.py``.
        arguments: what it finds in ``sys.argv``.
        folder: where it works.
        limit_s: how long it may take.

    Returns:
        status: its exit status; -N where signal N ended it.
        output: what it printed.

    Raises:
        TimeoutError: it took longer, or does not load in a minute.
        OSError: the program cannot be loaded.
    """
    idle = _IDLE.setdefault((os.getpid(), program), [])
    asked = json.dumps([str(folder), limit_s, list(arguments)])
    answer = ""
    while not answer:
        is_new = not idle
        server = _started(program) if is_new else idle.pop()
        answer = _answer_of(server, asked, LOAD_LIMIT_S + limit_s)
        if not answer:
            # One that waited for long has ended; a new one cannot load the program.
            said = _ended(server)
            if is_new:
                raise OSError(said)
    idle.append(server)
    if answer == fork_server.LATE:
        raise TimeoutError
    output = folder / fork_server.OUTPUT_FILE
    return int(answer), output.read_text(errors="replace") if output.exists() else ""


def _started(program: str) -> subprocess.Popen[str]:
    command = [sys.executable, fork_server.__file__, program]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace")


def _answer_of(server: subprocess.Popen[str], asked: str, limit_s: float) -> str:
    """The answer of a server; empty where it has ended."""
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        print(asked, file=server.stdin, flush=True)
    except OSError:
        return ""
    if not select.select([server.stdout], [], [], limit_s)[0]:
        server.kill()
        _ended(server)
        raise TimeoutError
    return server.stdout.readline().strip()


def _ended(server: subprocess.Popen[str]) -> str:
    """Waits until a server has ended, and says why."""
    assert server.stdin is not None
    assert server.stderr is not None
    # What it did not read is given up.
    with contextlib.suppress(OSError):
        server.stdin.close()
    with server:
        said = server.stderr.read().strip().splitlines()
    return said[-1] if said else f"it ended with status {server.returncode}"
