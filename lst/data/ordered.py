"""Work spread over processes whose results come back in order, with a bounded number waiting."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from lst.data.executors import set_up_process, worker_context

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
        num_workers: processes; with one, all happens here.
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
    module = getattr(function, "func", function).__module__  # of a partial too
    with ProcessPoolExecutor(num_workers, worker_context(module), initializer=set_up_process) as pool:
        waiting: collections.deque[Future[ResultT]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= LOOK_AHEAD * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
