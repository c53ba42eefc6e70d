"""Runs one task in a worker; types and messages that all executors share."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lst import __version__
from lst.errors import LstError
from lst.parallel.machine import one_thread

# How often a task is started again because its worker died.
MAX_RETRIES = 10
Task = TypeVar("Task")


@dataclass(frozen=True)
class ExecutorOptions:
    """Where tasks run.

    Attributes:
        name: ``local`` or ``ray``.
        num_workers: number of processes on this machine; a Ray cluster uses all its cores.
        address: of a Ray cluster (``auto``, ``ray://HOST:PORT``); None starts Ray on this machine.
        cores_a_task: cores that a Ray cluster keeps for a task.
    """

    name: str = "local"
    num_workers: int = 1
    address: str | None = None
    cores_a_task: int = 1


@dataclass(frozen=True)
class Done:
    """A finished task.

    Attributes:
        value: the result; None after an error.
        error: the message of the error; empty if there was none.
        seconds: time that the task took.
        worker: the process, as HOST:PID.
    """

    value: Any
    error: str
    seconds: float
    worker: str


def work(
    function: Callable[[Task], Any],
    task: Task,
    version: str = __version__,
    environment: Sequence[tuple[str, str]] = (),
) -> Done:
    """Runs one task; an ``LstError`` is returned as text, because not every exception can be pickled.

    Args:
        function: called with the task.
        task: its argument.
        version: of the process that sent the task; another version in this process is an error.
        environment: variables for a worker on another machine, which does not inherit them.
    """
    os.environ.update(environment)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    if version != __version__:
        differs = f"{worker} runs version {__version__}, this is {version}: install the same on every node"
        return Done(None, differs, 0.0, worker)
    started_s = time.perf_counter()
    try:
        # There is a process a core, so more threads would only compete.
        with one_thread():
            value, error = function(task), ""
    except LstError as raised:
        value, error = None, str(raised)
    return Done(value, error, time.perf_counter() - started_s, worker)
