"""Runs independent tasks in processes of this machine or, by Ray, of many; results come as they are ready.

A task whose worker dies is begun again elsewhere; one that fails with an error is not, for it would fail again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from lst import __version__
from lst.data.workers import WorkerPool
from lst.errors import LstError, UserError
from lst.progress import say
from lst.threads import one_thread

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


def run_tasks(
    function: Callable[[Task], Any], tasks: Sequence[Task], options: ExecutorOptions
) -> Generator[Done, None, None]:
    """Calls ``function`` with each task and yields what it returned, in the order of completion.

    However it ends, no worker is at a task any more when it has.

    Args:
        function: of a module, so that other processes find it; its task and value must be picklable.
        tasks: independent of one another.
        options: where they run.

    Raises:
        UserError: a task raised one, or its workers kept dying.
    """
    results: Generator[Done, None, None]
    if options.name == "ray":
        from lst.data.executor_ray import run_on_ray

        results = run_on_ray(function, tasks, options)
    elif options.num_workers <= 1 or len(tasks) <= 1:
        results = (work(function, task) for task in tasks)
    else:
        results = _run_in_processes(function, tasks, options.num_workers)
    # An error's traceback keeps this frame, and with it the generator, which would only be ended much later.
    with contextlib.closing(results):
        for done in results:
            if done.error:
                raise UserError(done.error)
            yield done


def work(
    function: Callable[[Task], Any],
    task: Task,
    version: str = __version__,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Does one task; its ``UserError`` comes back as text, for not every exception survives the way.

    ``environment`` holds what a process of this machine inherits, and one of another does not.
    """
    os.environ.update(environment or {})
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


def _run_in_processes(
    function: Callable[[Task], Any], tasks: Sequence[Task], num_workers: int
) -> Generator[Done, None, None]:
    left = dict(enumerate(tasks))
    for attempt in range(MAX_RETRIES + 1):
        try:
            with contextlib.closing(_run_in_pool(function, left, num_workers)) as results:
                for number, done in results:
                    del left[number]
                    yield done
            return
        except BrokenProcessPool:
            if attempt < MAX_RETRIES:
                say(f"a worker process was killed: {len(left)} tasks that are not finished are begun again")
    raise killed_too_often(len(left), num_workers)


def killed_too_often(num_left: int, num_workers: int) -> UserError:
    """What to say when workers keep dying."""
    return UserError(
        f"worker processes were killed {MAX_RETRIES + 1} times, {num_left} tasks are left. Mostly the memory is too "
        f"small for {num_workers} processes: lower num_workers and run the same command again."
    )


def _run_in_pool(
    function: Callable[[Task], Any], tasks: dict[int, Task], num_workers: int
) -> Generator[tuple[int, Done], None, None]:
    with WorkerPool(min(num_workers, len(tasks)), function.__module__) as pool:
        futures = {pool.submit(work, function, task): number for number, task in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
