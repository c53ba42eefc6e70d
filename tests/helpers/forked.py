"""Runs ``python`` commands as forks of one process that has imported everything, instead of from a cold start.

``run`` and ``Popen`` are those of ``subprocess``. A command that begins with this interpreter is forked; any other one
is started as usual::

    forked.run([sys.executable, "-m", "lst", "train", …], capture_output=True, text=True)

    this process ──words, folder, environment, three files──▶ server (fork_server.py) ──fork──▶ command
         └───────────────────────── parent of ─────────────────────────────────────────────────┘

The command is a child of the process that asked for it, with a number, a group, files, signals and an exit status of
its own. It imports nothing again, and that alone differs: tests of imports, and of variables that a library reads when
it is loaded (``OMP_NUM_THREADS`` is taken over), start a real process.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from repository import ROOT

SERVER = Path(__file__).with_name("fork_server.py")
# For commands that start commands: those are forked too, from a second server below the first command.
NESTED = "LST_TEST_NESTED"
_SET_CHILD_SUBREAPER = 36
_SIZE = struct.Struct("!I")


class Job(TypedDict):
    """What the server is asked for.

    Keys:
        words: of the command, without the interpreter.
        folder, environment: of the process.
        group: that the process joins; 0 for a session of its own.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    group: int


class Connection:
    """The way to a server, of the process that made it."""

    def __init__(self, link: socket.socket) -> None:
        self.link, self.lock, self.owner = link, threading.Lock(), os.getpid()

    def ask(self, job: Job, files: list[int]) -> int:
        """Lets the server fork; returns the number of the new process, a child of this one."""
        message = json.dumps(job).encode()
        with self.lock, _adopting():
            socket.send_fds(self.link, [_SIZE.pack(len(message))], files)
            self.link.sendall(message)
            answer = self.link.recv(_SIZE.size, socket.MSG_WAITALL)
        if len(answer) < _SIZE.size:
            raise RuntimeError("the server of forked commands has ended; its output says why")
        return int(_SIZE.unpack(answer)[0])


def read_job(link: socket.socket) -> tuple[Job, list[int]] | None:
    """The server's side of ``ask``; None when nobody will ask any more."""
    head, files, _, _ = socket.recv_fds(link, _SIZE.size, 3)
    if len(head) < _SIZE.size:
        return None
    return json.loads(link.recv(_SIZE.unpack(head)[0], socket.MSG_WAITALL)), files


def write_number(link: socket.socket, number: int) -> None:
    """The server's answer."""
    link.sendall(_SIZE.pack(number))


@contextmanager
def _adopting() -> Iterator[None]:
    """Context manager: processes below this one whose parents end become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_connection: Connection | None = None
_starting = threading.Lock()
_started = subprocess.Popen


def connection() -> Connection:
    """The way to this process's server, which is started when it is first asked."""
    global _connection
    with _starting:
        if _connection is None:
            ours, theirs = socket.socketpair()
            paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            process = _started(
                [sys.executable, str(SERVER), str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A group of its own: a signal to the group of the tests does not reach it.
                preexec_fn=os.setpgrp,
            )
            theirs.close()
            _connection = Connection(ours)
            atexit.register(_end, ours, process)
    return _connection


def _end(link: socket.socket, process: subprocess.Popen[bytes]) -> None:
    link.close()
    process.wait()


def use(link: socket.socket) -> None:
    """Lets all that this process starts come from a server that it has made."""
    global _connection
    _connection = Connection(link)
    subprocess.Popen = Popen  # type: ignore[misc]


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """``subprocess.Popen``, with Python's commands forked."""

    def _execute_child(self, *arguments: Any) -> None:
        words, _, preexec_fn, _, pass_fds, folder, environment, _, _, shell = arguments[:10]
        pipes, is_session = arguments[10:16], arguments[21]
        words = words if isinstance(words, list) else list(words) if isinstance(words, tuple) else [words]
        is_other = shell or preexec_fn or pass_fds or words[0] != sys.executable
        # A fork of the tests is no parent of the server, and cannot adopt what it makes.
        if is_other or sys.platform != "linux" or (_connection is not None and _connection.owner != os.getpid()):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        job = Job(
            words=[os.fsdecode(word) for word in words[1:]],
            folder=os.path.abspath(folder or "."),
            environment={os.fsdecode(name): os.fsdecode(value) for name, value in (environment or os.environ).items()},
            group=0 if is_session else os.getpgrp(),
        )
        # A stream that is not redirected is this process's own.
        given = (pipes[0], pipes[3], pipes[5])
        try:
            self.pid = connection().ask(job, [own if file == -1 else file for own, file in enumerate(given)])
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    words: Any,
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **named: Any,
) -> subprocess.CompletedProcess[Any]:
    """``subprocess.run``, with Python's commands forked."""
    if input is not None:
        named["stdin"] = subprocess.PIPE
    if capture_output:
        named |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(words, **named) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done
