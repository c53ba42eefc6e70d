"""Processes that work for this one: how they begin, that no interrupt reaches them, and how they end.

Ctrl-C goes to every process of the terminal. Here it is the command's alone to answer, which then ends its workers at
once: what they have not finished is written nowhere else. A worker that got the signal itself could stop while it holds
a lock of the queue that all share, and leave the others waiting for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Any

from lst.parallel.machine import set_one_thread

# How often a worker that is to end looks whether it may.
LOOK_S = 0.01


class WorkerPool:
    """Processes of one thread each that do calls in any order; leaving the ``with`` block ends them at once.

    A worker ends in the middle of a call, or between two, but not while it sends a result: whoever reads would wait for
    the rest for ever.

    Args:
        num_workers: at most.
        module: of the functions that they will call, which is imported before they are.
    """

    def __init__(self, num_workers: int, module: str) -> None:
        context = worker_context(module)
        # Nothing is ever sent: workers wait for the pipe's end.
        self._reader, self._writer = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(num_workers, context, initializer=_set_up_worker, initargs=(self._reader,))

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        """Has a worker call ``function``; see ``concurrent.futures.Executor.submit``."""
        # Here workers are begun: a half begun one would be neither used nor ended.
        with uninterrupted():
            return self._pool.submit(_call, function, *arguments)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._reader.close()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds an interrupt back until the block has ended, and forever from processes that are begun in it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Begun in the block, it would let interrupts through to all that begins after it.
    resource_tracker.ensure_running()
    held: list[Any] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    # A process begins with the signals blocked that are blocked where it is begun, and so do its own.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(*held[0])


def end_with_parent() -> None:
    """Ends this process when the one that started it ends, however that comes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def wait() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


# Whether this process is in a call of its pool's; taken with the lock alone.
_in_call, _call_lock = False, threading.Lock()


def _call(function: Any, *arguments: Any) -> Any:
    """Calls ``function``, during which the process may be ended."""
    global _in_call
    with _call_lock:
        _in_call = True
    try:
        return function(*arguments)
    finally:
        with _call_lock:
            _in_call = False


def _end_in_a_call(connection: Any) -> None:
    """Ends this process once the connection has, and a call is under way; without one, its pool sends it home."""
    multiprocessing.connection.wait([connection])
    while True:
        with _call_lock:
            if _in_call:
                os._exit(1)
        time.sleep(LOOK_S)


def _set_up_worker(connection: Any) -> None:
    """One thread a process, no interrupts, and an end with the pool or the parent."""
    # Where workers are forked from a server they have them blocked already; a spawned one may not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_one_thread()
    end_with_parent()
    threading.Thread(target=_end_in_a_call, args=(connection,), daemon=True).start()


def worker_context(*modules: str) -> Any:
    """How worker processes are started: not forked from here, for torch's threads do not survive a fork.

    On Linux they are forked from a server that has only imported ``modules``; elsewhere they are spawned, for macOS'
    libraries do not survive any fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # What sets a worker up takes seconds to import, too.
    context.set_forkserver_preload([__name__, *modules])
    warm_up_workers()
    return context


def warm_up_workers(*modules: str) -> None:
    """Lets the server of worker processes import what they need while this process does other things."""
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver

    if modules:
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, *modules])
    with uninterrupted():
        forkserver.ensure_running()
