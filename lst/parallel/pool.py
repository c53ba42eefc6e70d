"""Worker processes: how they start, why interrupts do not reach them, and how they end.

Ctrl-C goes to every process of the terminal. Only the command itself handles it: it ends its workers at once, and their
unfinished work is not written. If a worker received the signal, it could stop while it holds a lock of the shared
queue, and the other workers would wait for ever.
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
from collections.abc import Callable, Generator, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from lst.errors import UserError
from lst.parallel.machine import set_one_thread
from lst.parallel.work import MAX_RETRIES
from lst.progress import say

ResultT = TypeVar("ResultT")

# How often a worker that must end checks whether it is in a call.
LOOK_S = 0.01
# After its pool has ended, a worker without a call waits so long for the pool to end it.
FORGOTTEN_S = 10.0


class WorkerPool:
    """Context manager: a pool of worker processes with one thread each. Leaving the block ends them at once.

    A worker ends during a call or between two calls, but not while it sends a result: the reader would wait for the
    rest for ever.

    Args:
        num_workers: largest number of processes.
        module: of the functions that they will call; it is imported before the workers start.
    """

    def __init__(self, num_workers: int, module: str) -> None:
        context = worker_context(module)
        # Nothing is sent: workers wait for the end of the pipe.
        self._reader, self._writer = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(num_workers, context, initializer=_set_up_worker, initargs=(self._reader,))

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        """Calls ``function`` in a worker; see ``concurrent.futures.Executor.submit``."""
        # This may start workers. An interrupt during a start would leave a worker that nobody ends.
        with uninterrupted():
            return self._pool.submit(_call, function, *arguments)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._reader.close()


def retried(
    run: Callable[[], Iterator[ResultT]], left: Sized, what: str, num_workers: int
) -> Generator[ResultT, None, None]:
    """Yields the results of ``run``, which is called again after a worker was killed.

    Args:
        run: does the work in ``left``, and removes from it what is finished.
        left: the unfinished work.
        what: name of the work, in the plural, for messages.
        num_workers: number of processes, for the error.

    Raises:
        UserError: workers kept dying.
    """
    for attempt in range(MAX_RETRIES + 1):
        try:
            yield from run()
            return
        except BrokenProcessPool:
            if attempt < MAX_RETRIES:
                say(f"a worker process was killed: {len(left)} {what} that are not finished are started again")
    raise UserError(
        f"worker processes were killed {MAX_RETRIES + 1} times, {len(left)} {what} are left. Usually the memory is too "
        f"small for {num_workers} processes: lower num_workers and run the same command again. A script of your own "
        "needs \"if __name__ == '__main__':\" before what it does, as workers import it."
    )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Context manager: delays an interrupt to the end of the block; processes started in it get no interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Started first: a tracker that starts in the block would unblock the signal for later processes.
    resource_tracker.ensure_running()
    held: list[Any] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    # A process inherits the blocked signals of the process that starts it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(*held[0])


def end_with_parent() -> None:
    """Makes this process end when its parent ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel, False), daemon=True).start()


# Whether this worker is in a call; the lock protects it.
_in_call, _call_lock = False, threading.Lock()


def _call(function: Any, *arguments: Any) -> Any:
    """Calls ``function`` in a worker, which may be ended during the call."""
    global _in_call
    with _call_lock:
        _in_call = True
    try:
        return function(*arguments)
    finally:
        with _call_lock:
            _in_call = False


def _end_after(other: Any, only_in_a_call: bool) -> None:
    """Ends this process when a connection closes or a process ends.

    With ``only_in_a_call``, it waits for the next call; without a call, the pool itself ends the worker. A worker that
    was started while the pool ended the others, one of which had been killed, is forgotten: the pool waits for it, but
    never ends it. So it ends by itself, after a time in which any result has been sent.
    """
    multiprocessing.connection.wait([other])
    forgotten_at_s = time.monotonic() + FORGOTTEN_S
    while True:
        with _call_lock:
            if _in_call or not only_in_a_call or time.monotonic() > forgotten_at_s:
                os._exit(1)
        time.sleep(LOOK_S)


def _set_up_worker(connection: Any) -> None:
    """Sets up a worker: one thread, no interrupts, and it ends with the pool or the parent."""
    # Workers that a server forks have the signal blocked already; spawned ones may not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_one_thread()
    end_with_parent()
    threading.Thread(target=_end_after, args=(connection, True), daemon=True).start()


def worker_context(*modules: str) -> Any:
    """The multiprocessing context for workers. They are not forked from this process: torch's threads cannot be forked.

    On Linux, they are forked from a server process that has only imported ``modules``. Elsewhere they are spawned:
    macOS's libraries cannot be forked at all.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # This module, which sets up workers, takes seconds to import too.
    context.set_forkserver_preload([__name__, *modules])
    warm_up_workers()
    return context


def warm_up_workers(*modules: str) -> None:
    """Starts the server of worker processes early, so that it imports ``modules`` while this process goes on."""
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver

    if modules:
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__, *modules])
    with uninterrupted():
        forkserver.ensure_running()
