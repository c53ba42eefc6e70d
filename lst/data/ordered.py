"""Work spread over processes whose results come back in order, with a bounded number waiting."""

from __future__ import annotations

import collections
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import torch

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
    with ProcessPoolExecutor(num_workers, context, initializer=_set_up_worker) as pool:
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


def _set_up_worker() -> None:
    """One thread a process, and an end with the parent's, however that comes."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def end_with_parent() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
