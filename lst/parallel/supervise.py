"""Starts the processes of a training on this machine, and ends them together.

::

    run_ranks ──spawn──▶ rank 0, rank 1, …     each in a session of its own
        │   ◀──outcome──  done, stopped by a signal, or an error
        └── one has failed: the others end, and its message is the only one

A signal that asks this process to end is handed on to all ranks, which save a checkpoint.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lst.errors import LstError, UserError
from lst.parallel.commands import noted_signals
from lst.parallel.pool import end_with_parent, uninterrupted
from lst.parallel.ranks import SUPERVISED, PeerLostError, error_parts, made_error

# How often processes are looked at, and how long the others have to end after one has failed.
LOOK_S, END_S = 0.2, 20.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_TAIL_CHARACTERS = 4000


@dataclass
class _Rank:
    """A process, the end of its pipe, and where its output goes (None: to this process's)."""

    number: int
    process: Any
    connection: multiprocessing.connection.Connection
    log: Path | None
    outcome: LstError | None = None
    failed_s: float | None = None

    def look(self) -> None:
        """Notes whether it has failed, and with which error."""
        if self.failed_s is not None or self.process.exitcode in (None, 0):
            return
        self.failed_s = time.monotonic()
        with contextlib.suppress(EOFError, OSError):
            if self.connection.poll():
                self.outcome = made_error(*self.connection.recv())


def run_ranks(work: Callable[[Any], object], argument: Any, count: int, what: str) -> None:
    """Calls ``work(argument)`` in ``count`` new processes, which find themselves by ``Ranks.found``.

    Args:
        work: a function of a module.
        argument: picklable.
        count: of processes.
        what: name of the work, for messages.

    Raises:
        StoppedError: a signal has stopped the work, which was saved.
        KeyboardInterrupt: a signal has ended it before it could be saved.
        UserError: a process has failed; all others have ended.
    """
    ranks: list[_Rank] = []
    with tempfile.TemporaryDirectory(prefix="lst-ranks-") as logs, noted_signals(STOP_SIGNALS) as signals:
        port = _free_port()
        try:
            for number in range(count):
                ranks.append(_start(work, argument, number, count, port, Path(logs)))
            _watch(ranks, signals)
        finally:
            for rank in ranks:
                # Before it is killed: a process that is ended here has not failed by itself.
                rank.look()
                rank.process.kill()
                rank.process.join()
        _report(ranks, signals, what)


def _start(work: Callable[[Any], object], argument: Any, number: int, count: int, port: int, logs: Path) -> _Rank:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    log = logs / str(number) if number else None
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        SUPERVISED: "1",
        # As torchrun does: the ranks share the cores of the machine.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count))),
        # Without advice of torch's C++ about options that are meant.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    process = context.Process(target=_run, args=(work, argument, theirs, log), name=f"rank {number}")
    # Before it starts: torch reads it when it is imported.
    with uninterrupted(), _with_environment(environment):
        process.start()
    theirs.close()
    return _Rank(number, process, ours, log)


def _run(
    work: Callable[[Any], object],
    argument: Any,
    connection: multiprocessing.connection.Connection,
    log: Path | None,
) -> None:
    """Runs in a rank: does the work and tells how it ended."""
    # Ctrl-C at the terminal reaches the first process alone, which hands it on.
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if log is not None:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream.fileno())
    end_with_parent()
    try:
        work(argument)
    except LstError as error:
        connection.send(error_parts(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(1)


@contextlib.contextmanager
def _with_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _watch(ranks: Sequence[_Rank], signals: Sequence[int]) -> None:
    """Waits until all have ended: by themselves, or soon after one of them has failed."""
    num_handed_on = 0
    while any(rank.process.is_alive() for rank in ranks):
        multiprocessing.connection.wait([rank.process.sentinel for rank in ranks if rank.process.is_alive()], LOOK_S)
        for rank in ranks:
            rank.look()
        if len(signals) > num_handed_on:
            if num_handed_on:
                return
            num_handed_on = len(signals)
            for rank in ranks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank.process.pid, signals[0])
        failed_s = [rank.failed_s for rank in ranks if rank.failed_s is not None]
        if failed_s and time.monotonic() - min(failed_s) > END_S:
            return


def _report(ranks: Sequence[_Rank], signals: Sequence[int], what: str) -> None:
    """Raises the one error that says why the work has ended; none where all ranks have done theirs."""
    failed = sorted((rank for rank in ranks if rank.failed_s is not None), key=lambda rank: rank.failed_s or 0.0)
    outcomes = [rank.outcome for rank in failed if rank.outcome is not None]
    for error in outcomes:
        if not isinstance(error, PeerLostError):
            raise error
    if signals:
        raise KeyboardInterrupt
    for rank in failed:
        if rank.process.exitcode < 0:
            raise UserError(
                f"process {rank.number} of {what} was killed ({signal.Signals(-rank.process.exitcode).name}; perhaps "
                "for want of memory), and the others were ended. The same command goes on from the last checkpoint"
            )
    for rank in failed:
        if rank.outcome is None:
            told = "" if rank.log is None else f":\n{rank.log.read_text(errors='replace')[-_TAIL_CHARACTERS:]}"
            raise RuntimeError(f"process {rank.number} of {what} failed{told}")
    if outcomes:
        raise outcomes[0]
