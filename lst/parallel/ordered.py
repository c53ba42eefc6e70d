"""Maps a function over items in worker processes; results come in order, and few items wait at any time."""

from __future__ import annotations

import collections
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from lst.parallel.pool import WorkerPool, retried, warm_up_workers

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
LOOK_AHEAD = 4
# Seconds that it takes to start processes: the first time, and later, where a server forks them. Work that is done
# sooner is done without them.
START_S, START_AGAIN_S = 2.0, 0.2
_is_server_there = False


def ordered_map(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_workers: int, are_long: bool = False
) -> Iterator[ResultT]:
    """Yields the results of ``function`` in the order of ``items``; the number of workers does not change them.

    If a worker is killed, its items are done again.

    Args:
        function: a function at the top of a module, so that other processes can import it.
        items: may be a stream; at most four items a worker are taken ahead.
        num_workers: number of processes; with one, this process does the work.
        are_long: each item takes many seconds. Otherwise this process does the first ones alone, as few or small items
            are done before another process has started.

    Raises:
        UserError: workers kept dying.

    >>> list(ordered_map(abs, [3, -1, -2], num_workers=2))
    [3, 1, 2]
    """
    if num_workers <= 1:
        yield from map(function, items)
        return
    items = iter(items)
    if not are_long:
        yield from _alone(function, items)
    waiting = collections.deque(itertools.islice(items, 1))
    if waiting:
        yield from retried(partial(_in_pool, function, items, waiting, num_workers), waiting, "items", num_workers)


def _alone(function: Callable[[ItemT], ResultT], items: Iterator[ItemT]) -> Iterator[ResultT]:
    """The results of the first items, as many as this process has while others start."""
    started_s, is_warm = time.monotonic(), _is_server_there
    alone_s = min(START_S, START_AGAIN_S) if _is_server_there else START_S
    for item in items:
        yield function(item)
        if time.monotonic() - started_s > alone_s:
            return
        if not is_warm and time.monotonic() - started_s > alone_s / 2:
            warm_up_workers(_module_of(function))
            is_warm = True


def _in_pool(
    function: Callable[[ItemT], ResultT], items: Iterator[ItemT], waiting: collections.deque[ItemT], num_workers: int
) -> Iterator[ResultT]:
    """Yields results of the waiting items, then of ``items``. Items without a result yet are in ``waiting``."""
    global _is_server_there
    _is_server_there = sys.platform == "linux"
    with WorkerPool(num_workers, _module_of(function)) as pool:
        futures = collections.deque(pool.submit(function, item) for item in waiting)
        for item in items:
            waiting.append(item)
            futures.append(pool.submit(function, item))
            if len(futures) >= LOOK_AHEAD * num_workers:
                yield _next(futures, waiting)
        while futures:
            yield _next(futures, waiting)


def _module_of(function: Callable[[ItemT], ResultT]) -> str:
    """The module of a function, or of that of a ``functools.partial``."""
    return str(getattr(function, "func", function).__module__)


def _next(futures: collections.deque[Future[ResultT]], waiting: collections.deque[ItemT]) -> ResultT:
    result = futures[0].result()
    futures.popleft()
    waiting.popleft()
    return result
