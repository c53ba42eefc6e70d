"""Work spread over processes whose results come back in order, with a bounded number waiting."""

from __future__ import annotations

import collections
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from lst.data.executors import set_up_process

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
LOOK_AHEAD = 4


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
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=set_up_process) as pool:
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
