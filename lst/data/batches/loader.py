"""Batches for training, made ahead by worker processes. Their order does not depend on workers or ranks.

::

    batch n  is the next batch of stream n mod V                     (V = data.num_streams, part of the settings)
    rank r of R  takes batches r, r + R, r + 2R, …                   (R divides V: every rank has streams of its own)
    worker w of a rank  owns every W-th of the rank's streams        (it makes only their batches)

Each stream has its own packing buffer, so processes share nothing, and no document is made twice. The state that comes
with a batch is the state of the streams after this batch, however many batches were made ahead. It holds the counters
and buffers of the V streams, as JSON. Any number of workers, and any R that divides V, can go on from it.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import queue
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from lst.data.batches.mixing import Mixture
from lst.data.batches.stream import (
    STATE_VERSION,
    BatchStream,
    Record,
    StreamPlan,
    StreamState,
    check_state_fingerprint,
    check_state_version,
)
from lst.errors import LstError, UserError
from lst.model.batch import PackedBatch
from lst.parallel import end_with_parent, uninterrupted
from lst.parallel.machine import set_one_thread
from lst.parallel.pool import worker_context
from lst.progress import say

# Batches that a worker has ready, besides the one that it is sending.
BATCHES_AHEAD = 2


class _Total:
    """An attribute of a loader's state: the sum of the attribute of the same name over its streams."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, state: LoaderState, owner: type) -> int:
        return sum(getattr(stream, self.name) for stream in state.streams)


@dataclass(frozen=True)
class LoaderState:
    """The position of a loader, after a batch of every rank. As JSON, an object with these fields.

    Attributes:
        fingerprint: of data, settings and seed.
        batch_index: number of batches given out by all ranks together.
        streams: the state of each stream. A rank knows only its own streams; see ``merge``. In JSON, without the
            fields ``version`` and ``fingerprint``, which the loader's object has.
        num_drawn: documents drawn, the total over all streams.
        num_slots, num_patches, num_tokens, num_cut, num_speech_tokens: totals as well, see ``StreamState``.
    """

    fingerprint: str
    batch_index: int
    streams: tuple[StreamState, ...]

    num_drawn = _Total()
    num_slots = _Total()
    num_patches = _Total()
    num_tokens = _Total()
    num_cut = _Total()
    num_speech_tokens = _Total()

    @property
    def num_waiting(self) -> int:
        """Documents, whole or rests, that wait to be packed."""
        return sum(len(stream.buffer) for stream in self.streams)

    @property
    def source_tokens(self) -> dict[str, int]:
        """Tokens of the documents drawn from each source."""
        names = self.streams[0].source_tokens
        return {name: sum(stream.source_tokens[name] for stream in self.streams) for name in names}

    @property
    def waste(self) -> float:
        """Share of the slots given out that packing left empty."""
        return 1 - self.num_patches / self.num_slots if self.num_slots else 0.0

    def describe(self) -> str:
        """One line about the batches given out: tokens, patches, waste, shares of the sources."""
        total = max(sum(self.source_tokens.values()), 1)
        shares = ", ".join(f"{name} {tokens / total:.1%}" for name, tokens in self.source_tokens.items())
        return (
            f"{self.num_tokens:,} tokens in {self.num_patches:,} patches; packing left {self.waste:.2%} of the slots "
            f"empty and cut {self.num_cut:,} documents; tokens drawn: {shares}"
        )

    def to_json(self) -> Record:
        """The fields by name, and the version of the format."""
        common = {"version": STATE_VERSION, "fingerprint": self.fingerprint}
        streams = [
            {key: value for key, value in stream.to_json().items() if key not in common} for stream in self.streams
        ]
        return {**common, "batch_index": self.batch_index, "streams": streams}

    @classmethod
    def from_json(cls, values: Record) -> LoaderState:
        """Inverse of ``to_json``; ``UserError`` for another version of the format."""
        check_state_version(values)
        common = {"version": STATE_VERSION, "fingerprint": values["fingerprint"]}
        streams = tuple(StreamState.from_json({**stream, **common}) for stream in values["streams"])
        return cls(values["fingerprint"], values["batch_index"], streams)

    def merge(self, others: Sequence[LoaderState]) -> LoaderState:
        """Joins the states of all ranks, each taken after the same step."""
        everyone = [self, *others]
        latest = (
            max(own, key=lambda state: state.batch_index) for own in zip(*(s.streams for s in everyone), strict=True)
        )
        return replace(self, streams=tuple(latest))


class BatchLoader(Iterator[tuple[PackedBatch, LoaderState]]):
    """Endless iterator of a rank's (batch, state after it).

    Args:
        plan: the settings.
        state: where to go on; None starts at the beginning.
        num_workers: processes that make batches; 0 makes each batch in this process when it is needed.
        rank, world_size: number of this process, and of all processes that train together.

    Raises:
        UserError: the state belongs to other data or settings, or the streams cannot be divided among the ranks.
    """

    def __init__(
        self,
        plan: StreamPlan,
        state: LoaderState | None = None,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if plan.num_streams % world_size:
            raise UserError(
                f"data.num_streams={plan.num_streams} streams of batches cannot be divided among {world_size} ranks: "
                f"set it to a multiple of {world_size}"
            )
        if state is not None:
            check_state_fingerprint(state.fingerprint, plan.fingerprint)
            if len(state.streams) != plan.num_streams:
                raise UserError(
                    f"the loader's state has {len(state.streams)} streams, data.num_streams={plan.num_streams}: set it "
                    f"to {len(state.streams)}"
                )
        self.plan, self.world_size = plan, world_size
        self.state = state or first_state(plan)
        first = self.state.batch_index + rank
        self._own = [(first + turn * world_size) % plan.num_streams for turn in range(plan.num_streams // world_size)]
        self._num_given = 0
        self._streams: dict[int, BatchStream] = {}
        self._workers: list[_Worker] = []
        self._num_workers = min(num_workers, len(self._own))
        mixes = (Mixture(plan.sources, plan.mix_by, plan.seed, number, plan.num_streams) for number in self._own)
        self._mixes = dict(zip(self._own, mixes, strict=True))
        self._used_up = self._corpora_used_up()

    def __next__(self) -> tuple[PackedBatch, LoaderState]:
        place = self._num_given % len(self._own)
        number = self._own[place]
        if self._num_workers:
            if not self._workers:
                self._start()
            batch, stream_state = self._workers[place % self._num_workers].receive()
        else:
            if number not in self._streams:
                self._streams[number] = BatchStream(self.plan, number, self.state.streams[number])
            batch, stream_state = next(self._streams[number])
        self._num_given += 1
        streams = (*self.state.streams[:number], stream_state, *self.state.streams[number + 1 :])
        self.state = LoaderState(self.state.fingerprint, self.state.batch_index + self.world_size, streams)
        if new := self._corpora_used_up() - self._used_up:
            self._used_up |= new
            say(
                f"{', '.join(sorted(new))}: all documents of data.sources.max_epochs were drawn by batch "
                f"{self.state.batch_index:,}; the others share what is left"
            )
        return batch, self.state

    def _corpora_used_up(self) -> set[str]:
        """The corpora that have given all they may in every stream of this rank."""
        drawn = {number: [*self.state.streams[number].cursors.values()] for number in self._own}
        return set.intersection(*(mix.used_up(drawn[number]) for number, mix in self._mixes.items()))

    def _start(self) -> None:
        for worker in range(self._num_workers):
            numbers = self._own[worker :: self._num_workers]
            states = [self.state.streams[number] for number in numbers]
            self._workers.append(_Worker(worker, self.plan, numbers, states))

    def close(self) -> None:
        """Ends the workers. They also end with this process."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def first_state(plan: StreamPlan) -> LoaderState:
    """The state before the first batch."""
    return LoaderState(plan.fingerprint, 0, (plan.first_state,) * plan.num_streams)


def document_ids(plan: StreamPlan, before: LoaderState | None, batch_index: int) -> list[str]:
    """Names of the documents of a batch, which is made again.

    Args:
        plan: the settings.
        before: the state after an earlier batch; None for the beginning.
        batch_index: number of the batch, from 1.
    """
    state = before or first_state(plan)
    number = (batch_index - 1) % plan.num_streams
    stream = BatchStream(plan, number, state.streams[number])
    while stream.state.batch_index <= (batch_index - 1) // plan.num_streams:
        next(stream)
    return stream.document_ids


class _Worker:
    """A process that makes the batches of some streams in turn."""

    def __init__(self, number: int, plan: StreamPlan, streams: Sequence[int], states: Sequence[StreamState]) -> None:
        context = worker_context(__name__)
        self._connection, theirs = context.Pipe(duplex=False)
        self.number = number
        self.process = context.Process(
            target=_work, args=(theirs, plan, list(streams), list(states)), daemon=True, name=f"loader worker {number}"
        )
        with uninterrupted():
            self.process.start()
        # At the end of this process, multiprocessing asks its children to terminate and waits for them.
        multiprocessing.util.Finalize(self, self.process.kill, exitpriority=1)
        # Closed here, so that the pipe ends when the worker does.
        theirs.close()

    def receive(self) -> tuple[PackedBatch, StreamState]:
        """The next batch; raises the error that ended the worker."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            raise UserError(
                f"loader worker {self.number} ended with exit code {self.process.exitcode} (−9: it was killed, perhaps "
                "for want of memory; data.num_loader_workers=0 loads in the training process). The same command goes "
                "on from the last checkpoint."
            ) from None
        if isinstance(message, _Failure):
            if message.is_users:
                raise UserError(*message.text.split("\n"))
            raise RuntimeError(f"loader worker {self.number} failed:\n{message.text}")
        arrays, state = message
        values: dict[str, Any] = {name: torch.from_numpy(x) if hasattr(x, "dtype") else x for name, x in arrays.items()}
        return PackedBatch(**values), state

    def close(self) -> None:
        self._connection.close()
        # It holds nothing that would have to be saved, and it ignores the request to terminate.
        self.process.kill()
        self.process.join(10)


@dataclass(frozen=True)
class _Failure:
    """The error that ended a worker: a message for the user, or a traceback."""

    is_users: bool
    text: str


def _work(connection: Connection, plan: StreamPlan, numbers: list[int], states: list[StreamState]) -> None:
    """Runs in a worker: makes batches of its streams in turn, and sends each when it is wanted."""
    set_one_thread()
    # A job's end is told to all of its processes. The training ends its step first, and the worker ends with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    outbox: queue.Queue[Any] = queue.Queue(BATCHES_AHEAD)
    sender = threading.Thread(target=_send_all, args=(connection, outbox), daemon=True)
    sender.start()
    try:
        streams = [BatchStream(plan, number, state) for number, state in zip(numbers, states, strict=True)]
        while True:
            for stream in streams:
                batch, state = next(stream)
                values = {item.name: getattr(batch, item.name) for item in fields(batch)}
                # As arrays: tensors would be sent through shared memory, which is small in containers.
                arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in values.items()}
                outbox.put((arrays, state))
    except LstError as error:
        outbox.put(_Failure(True, str(error)))
    except Exception:
        outbox.put(_Failure(False, traceback.format_exc()))
    outbox.put(None)
    sender.join()


def _send_all(connection: Connection, outbox: queue.Queue[Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while (message := outbox.get()) is not None:
            connection.send(message)
        connection.close()
        return
    # The training has closed the pipe.
    os._exit(0)
