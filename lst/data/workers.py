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
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Any

from lst.threads import set_one_thread


class WorkerPool:
    """Processes of one thread each that do calls in any order; leaving the ``with`` block ends them at once.

    Args:
        num_workers: at most.
        module: of the functions that they will call, which is imported before they are.
    """

    def __init__(self, num_workers: int, module: str) -> None:
        context = worker_context(module)
        # Nothing is ever sent: workers wait for the pipe's end.
        self._reader, self._writer = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(num_workers, context, initializer=set_up_process, initargs=(self._reader,))

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        """Has a worker call ``function``; see ``concurrent.futures.Executor.submit``."""
        # Here workers are begun: a half begun one would be neither used nor ended.
        with uninterrupted():
            return self._pool.submit(function, *arguments)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
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


def end_with(*connections: Any) -> None:
    """Ends this process when one of the connections does, or the process that started it, however that comes."""
    parent = multiprocessing.parent_process()
    waited_for = [*connections, *([] if parent is None else [parent.sentinel])]

    def wait() -> None:
        multiprocessing.connection.wait(waited_for)
        os._exit(1)

    if waited_for:
        threading.Thread(target=wait, daemon=True).start()


def set_up_process(*connections: Any) -> None:
    """One thread a process, no interrupts, and an end with the connections or the parent."""
    # Where workers are forked from a server they have them blocked already; a spawned one may not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_one_thread()
    end_with(*connections)


def worker_context(*modules: str) -> Any:
    """How worker processes are started: not forked from here, for torch's threads do not survive a fork.

    On Linux they are forked from a server that has only imported ``modules``; elsewhere they are spawned, for macOS'
    libraries do not survive any fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    warm_up_workers()
    return context


def warm_up_workers(*modules: str) -> None:
    """Lets the server of worker processes import what they need while this process does other things."""
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver

    if modules:
        multiprocessing.get_context("forkserver").set_forkserver_preload([*modules])
    with uninterrupted():
        forkserver.ensure_running()
