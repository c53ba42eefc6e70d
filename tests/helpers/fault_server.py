"""Forks processes that run a command of ``lst`` with everything imported, and stops them at one event of a file.

A line of JSON in, ``Job``; the exit status comes out, negative where a signal ended the process. The process writes its
events to ``events``, one a line, and its output to ``output``.

An event is anything that changes what a folder holds: a file opened for writing, a renaming, a removal, a new folder.
Python itself tells of each before it does it (``sys.addaudithook``), whoever asks for it: so none is missed.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TypedDict

import matplotlib.figure  # noqa: F401 (imported before the fork, as all else)
import pocketsphinx  # noqa: F401
import sentencepiece  # noqa: F401
import torch
import webdataset  # noqa: F401

import lst.recipes.quickstart  # noqa: F401
from lst.cli import main
from lst.configs.compose import build_config
from lst.lazy import import_torchaudio

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where the descriptor of the folder stands among the arguments of an event, for names that are relative to it.
FOLDER_ARGUMENT = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.truncate": None, "os.link": 2}


class Job(TypedDict):
    """What a process does.

    Keys:
        words: of the command line.
        root: only events below this folder count.
        number: of the event to stop at, from 0; -1 for none.
        kind: ``before`` and ``after`` kill the process, ``full`` lets the event fail for a full disk.
        events, output: files that are written.
    """

    words: list[str]
    root: str
    number: int
    kind: str
    events: str
    output: str


class Events:
    """The audit hook: writes down every event below a folder, and stops at one of them.

    Those of other threads than the main one, which come in any order, are not counted.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.num_events, self.is_busy = job, 0, False
        self.log = os.open(job["events"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.is_busy or not (name == "open" or name in FOLDER_ARGUMENT):
            return
        if threading.current_thread() is not threading.main_thread():
            return
        self.is_busy = True
        try:
            self._see(name, arguments)
        finally:
            self.is_busy = False

    def _see(self, name: str, arguments: tuple[Any, ...]) -> None:
        path = self._path(name, arguments)
        if path is None or not changes_something(name, arguments, path):
            return
        shown = str(path.relative_to(self.job["root"]))
        if name == "os.rename":
            shown += f" → {Path(os.fspath(arguments[1])).name}"
        os.write(self.log, f"{described(name, arguments)} {shown}\n".encode())
        if self.num_events == self.job["number"]:
            self._stop(name, arguments, path)
        self.num_events += 1

    def _path(self, name: str, arguments: tuple[Any, ...]) -> Path | None:
        """The path of an event below the root."""
        if not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return None
        path = Path(os.fsdecode(arguments[0]))
        place = FOLDER_ARGUMENT.get(name)
        if place is not None and (folder := arguments[place]) is not None and folder >= 0:
            path = Path(os.readlink(f"/proc/self/fd/{folder}")) / path
        path = Path(os.path.abspath(path))
        return path if path.is_relative_to(self.job["root"]) else None

    def _stop(self, name: str, arguments: tuple[Any, ...], path: Path) -> None:
        if self.job["kind"] == "full":
            if needs_space(name):
                raise disk_full(name, arguments)
            return
        if self.job["kind"] == "after":
            perform(name, arguments, path)
        os.kill(os.getpid(), signal.SIGKILL)


def described(name: str, arguments: tuple[Any, ...]) -> str:
    """One word for an event; ``open`` is a file that keeps its content."""
    if name != "open":
        return name.removeprefix("os.")
    flags = arguments[2]
    return "append" if flags & os.O_APPEND else "write" if flags & os.O_TRUNC else "open"


def changes_something(name: str, arguments: tuple[Any, ...], path: Path) -> bool:
    """Whether an event would do anything: a file that is absent cannot be removed, nor a folder that holds files."""
    if name == "open":
        return bool(arguments[2] & WRITES)
    if name == "os.rmdir":
        return path.is_dir() and not any(path.iterdir())
    return path.exists() != (name == "os.mkdir")


def needs_space(name: str) -> bool:
    """Whether a full disk lets an event fail."""
    return name in ("open", "os.mkdir", "os.rename")


def disk_full(name: str, arguments: tuple[Any, ...]) -> OSError:
    """What Python raises: a file that was opened fails later, while it is written, and the error then has no name."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if described(name, arguments) != "append" and (name != "open" or arguments[2] & os.O_CREAT):
        error.filename = arguments[0]
    return error


def perform(name: str, arguments: tuple[Any, ...], path: Path) -> None:
    """Does what was about to be done. Of what would be written, only the first bytes are there."""
    if name == "open":
        flags = arguments[2]
        descriptor = os.open(path, flags, 0o666)
        if flags & (os.O_APPEND | os.O_TRUNC):
            os.write(descriptor, b'{"cut')
    elif name == "os.rename":
        os.replace(arguments[0], arguments[1])
    elif name == "os.mkdir":
        os.mkdir(path)
    elif name == "os.rmdir":
        os.rmdir(path)
    else:
        os.remove(path)


def run(job: Job) -> int:
    """Runs the command of a job in this process; returns its exit status."""
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.addaudithook(Events(job))
    try:
        return main(job["words"])
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve() -> None:
    """Answers jobs, one a line, until the input ends."""
    torch.set_num_threads(1)
    import_torchaudio()
    build_config(["experiment=smoke"])
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = run(json.loads(line))
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
