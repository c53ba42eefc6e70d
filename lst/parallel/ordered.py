"""Work spread over processes whose results come back in order, with a bounded number waiting."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lst.parallel.pool import WorkerPool
from lst.parallel.work import MAX_RETRIES, killed_too_often
from lst.progress import say

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
LOOK_AHEAD = 4
# Processes take as long to start: what is done sooner is done without them.
START_S = 2.0


def ordered_map(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_workers: int) -> Iterator[ResultT]:
    """Results of ``function`` in the order of ``items``, equal for any number of workers.

    Args:
        function: at the top of a module, so that other processes find it.
        items: may be a stream; at most four a worker are taken ahead.
        num_workers: processes; with one, all happens here. An item whose worker is killed is done again.

    Raises:
        UserError: workers kept dying.
    """
    if num_workers <= 1:
        yield from map(function, items)
        return
    items, started_s = iter(items), time.monotonic()
    for item in items:
        yield function(item)
        if time.monotonic() - started_s > START_S:
            break
    else:
        return
    waiting: collections.deque[ItemT] = collections.deque()
    for attempt in range(MAX_RETRIES + 1):
        try:
            yield from _in_pool(function, items, waiting, num_workers)
            return
        except BrokenProcessPool:
            if attempt < MAX_RETRIES:
                say(f"a worker process was killed: {len(waiting)} items that are not finished are begun again")
    raise killed_too_often(MAX_RETRIES + 1, len(waiting), num_workers)


def _in_pool(
    function: Callable[[ItemT], ResultT], items: Iterator[ItemT], waiting: collections.deque[ItemT], num_workers: int
) -> Iterator[ResultT]:
    """Results of what waits, then of ``items``; ``waiting`` keeps what has been taken and has not come back."""
    module = getattr(function, "func", function).__module__  # of a partial too
    with WorkerPool(num_workers, module) as pool:
        futures = collections.deque(pool.submit(function, item) for item in waiting)
        for item in items:
            waiting.append(item)
            futures.append(pool.submit(function, item))
            if len(futures) >= LOOK_AHEAD * num_workers:
                yield _next(futures, waiting)
        while futures:
            yield _next(futures, waiting)


def _next(futures: collections.deque[Future[ResultT]], waiting: collections.deque[ItemT]) -> ResultT:
    result = futures[0].result()
    futures.popleft()
    waiting.popleft()
    return result
