"""One task as a worker does it, and what every executor shares."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lst import __version__
from lst.errors import LstError, UserError
from lst.parallel.machine import one_thread

# How often a task is begun anew because its worker died.
MAX_RETRIES = 10
Task = TypeVar("Task")


@dataclass(frozen=True)
class ExecutorOptions:
    """Where tasks run.

    Attributes:
        name: ``local`` or ``ray``.
        num_workers: processes on this machine; a Ray cluster has as many as it has cores.
        address: of a Ray cluster (``auto``, ``ray://HOST:PORT``); without, Ray is started on this machine.
    """

    name: str = "local"
    num_workers: int = 1
    address: str | None = None


@dataclass(frozen=True)
class Done:
    """A finished task: its value or the message of its error, its time, and the process that did it."""

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
    """Does one task; its ``UserError`` comes back as text, for not every exception survives the way.

    ``environment`` holds what a process of this machine inherits, and one of another does not.
    """
    os.environ.update(environment)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    if version != __version__:
        differs = f"{worker} runs version {__version__}, this is {version}: install the same on every node"
        return Done(None, differs, 0.0, worker)
    started_s = time.perf_counter()
    try:
        # A task is too little work for two threads, and there is a process a core.
        with one_thread():
            value, error = function(task), ""
    except LstError as raised:
        value, error = None, str(raised)
    return Done(value, error, time.perf_counter() - started_s, worker)


def killed_too_often(num_kills: int, num_left: int, num_workers: int) -> UserError:
    """What to say when workers keep dying."""
    return UserError(
        f"worker processes were killed {num_kills} times, {num_left} tasks are left. Mostly the memory is too "
        f"small for {num_workers} processes: lower num_workers and run the same command again."
    )
