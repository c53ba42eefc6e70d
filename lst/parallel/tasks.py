"""Runs independent tasks in processes of this machine, or on many machines with Ray; results in order of completion.

If a worker dies, its task is started again. A task that raises an error is not: it would fail again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from functools import partial
from typing import Any

from lst.errors import UserError
from lst.parallel.pool import WorkerPool, retried
from lst.parallel.work import Done, ExecutorOptions, Task, work


def run_tasks(
    function: Callable[[Task], Any], tasks: Sequence[Task], options: ExecutorOptions
) -> Generator[Done, None, None]:
    """Calls ``function`` with each task and yields its result, in the order of completion.

    After the iterator ends or is closed, no worker runs a task.

    Args:
        function: a function at the top of a module, so that other processes can import it; tasks and results must be
            picklable.
        tasks: must not depend on one another.
        options: where the tasks run.

    Raises:
        UserError: a task raised one, or workers kept dying.

    >>> sorted(done.value for done in run_tasks(abs, [3, -1, -2], ExecutorOptions()))
    [1, 2, 3]
    """
    results: Generator[Done, None, None]
    if options.name == "ray":
        from lst.parallel.cluster import run_on_ray

        results = run_on_ray(function, tasks, options)
    elif options.num_workers <= 1 or len(tasks) <= 1:
        results = (work(function, task) for task in tasks)
    else:
        left = dict(enumerate(tasks))
        run = partial(_run_in_pool, function, left, options.num_workers)
        results = retried(run, left, "tasks", options.num_workers)
    # Closed here: the traceback of an error would keep the generator alive for long.
    with contextlib.closing(results):
        for done in results:
            if done.error:
                raise UserError(*done.error.split("\n"))
            yield done


def _run_in_pool(
    function: Callable[[Task], Any], left: dict[int, Task], num_workers: int
) -> Generator[Done, None, None]:
    """Runs the tasks in ``left`` and removes each one from it when it is finished."""
    with WorkerPool(min(num_workers, len(left)), function.__module__) as pool:
        futures = {pool.submit(work, function, task): number for number, task in left.items()}
        for future in as_completed(futures):
            done: Done = future.result()
            del left[futures[future]]
            yield done
