"""The loader: one order of batches whatever the workers and ranks, exact to resume, and honest about failures."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from lst.data.batches.loader import BatchLoader, LoaderState
from lst.data.batches.stream import STATE_VERSION, BatchStream
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.batch import PackedBatch
from lst.model.patching import strategy_of_batch
from tests.data.batches.test_stream import SPOKEN, WRITTEN, make_plan, same

NUM_STREAMS = 4
Given = list[tuple[PackedBatch, LoaderState]]


def plan(**changes: Any) -> Any:
    return make_plan(**{"num_streams": NUM_STREAMS, "mix_by": "tokens", "strategy": "mixed", **changes})


def take(count: int, state: LoaderState | None = None, **options: Any) -> Given:
    with BatchLoader(plan(), state, **options) as loader:
        return list(islice(loader, count))


def through_json(state: LoaderState) -> LoaderState:
    return LoaderState.from_json(json.loads(json.dumps(state.to_json())))


def assert_same(found: Given, expected: Given) -> None:
    assert len(found) == len(expected)
    for (batch, state), (other, other_state) in zip(found, expected, strict=True):
        assert same(batch, other)
        assert state == other_state


@pytest.fixture(scope="module")
def uninterrupted() -> Given:
    return take(22)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_order_and_states_do_not_depend_on_the_workers(uninterrupted: Given, num_workers: int) -> None:
    assert_same(take(10, num_workers=num_workers), uninterrupted[:10])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_together_take_what_one_takes(uninterrupted: Given, world_size: int) -> None:
    steps = 20 // world_size
    ranks = [take(steps, rank=rank, world_size=world_size) for rank in range(world_size)]
    for number, (batch, _) in enumerate(uninterrupted[:20]):
        assert same(ranks[number % world_size][number // world_size][0], batch)
    # After each step, what the ranks know together is what one process would know.
    for step in range(steps):
        states = [rank[step][1] for rank in ranks]
        assert states[0].merge(states[1:]) == uninterrupted[(step + 1) * world_size - 1][1]


@pytest.mark.parametrize(("num_done", "world_size", "num_workers"), [(7, 1, 0), (7, 1, 2), (6, 2, 0), (9, 4, 0)])
def test_resuming_with_other_workers_and_ranks_goes_on_exactly(
    uninterrupted: Given, num_done: int, world_size: int, num_workers: int
) -> None:
    state = through_json(uninterrupted[num_done - 1][1])
    steps = 12 // world_size
    for rank in range(world_size):
        found = take(steps, state, rank=rank, world_size=world_size, num_workers=num_workers)
        expected = uninterrupted[num_done + rank : num_done + 12 : world_size]
        assert all(same(left, right) for (left, _), (right, _) in zip(found, expected, strict=True))
        if world_size == 1:
            assert [state for _, state in found] == [state for _, state in expected]


def test_state_is_of_the_last_batch_given_not_of_those_made_ahead(uninterrupted: Given) -> None:
    with BatchLoader(plan(), num_workers=2) as loader:
        for _ in range(3):
            next(loader)
        # The workers have by now made batches that nobody has asked for.
        time.sleep(0.5)
        assert loader.state == uninterrupted[2][1]
        assert_same([next(loader)], uninterrupted[3:4])


def test_strategy_follows_the_batch_in_training_whatever_stream_it_is_from() -> None:
    """A curriculum over 12 batches: batch n is cut as batch n of its stream is under the strategy of n."""
    curriculum = plan(strategy="curriculum", num_batches=12)
    with BatchLoader(curriculum) as loader:
        given = [batch for batch, _ in islice(loader, 12)]
    chosen = [strategy_of_batch(curriculum.patching, curriculum.seed, number, 12) for number in range(12)]
    assert chosen[:4] == ["aligned"] * 4
    assert chosen[-4:] == ["static"] * 4
    for number in (0, 1, 2, 3):
        alone = BatchStream(plan(strategy="aligned", num_batches=12), number)
        assert same(given[number], next(alone)[0])
    assert not same(given[0], next(BatchStream(plan(strategy="static"), 0))[0])


def test_streams_together_take_each_utterance_once_a_pass() -> None:
    numbers: dict[tuple[str, int], list[int]] = {}
    for stream in range(NUM_STREAMS):
        own = BatchStream(plan(), stream)
        for name in ("interleaved", "text", "speech"):
            cursor, count = 0, len(own._sources[name].utterances)
            while cursor * NUM_STREAMS + stream < 3 * count:
                keys = own._next_keys(name, cursor)
                keys = [key for key in keys if key.epoch < 3]
                for key in keys:
                    numbers.setdefault((name, key.epoch), []).append(key.number)
                cursor += len(keys)
    for name, source in (("interleaved", SPOKEN), ("text", WRITTEN), ("speech", SPOKEN)):
        for epoch in range(3):
            assert sorted(numbers[name, epoch]) == list(range(len(source)))


def test_state_is_bounded_json_of_this_version() -> None:
    with BatchLoader(plan()) as loader:
        sizes = [len(json.dumps(state.to_json())) for _, state in islice(loader, 150)]
    assert max(sizes) < 900 * NUM_STREAMS
    assert max(sizes[75:]) < 1.3 * max(sizes[25:75])
    values = loader.state.to_json()
    assert values["version"] == STATE_VERSION == 2
    assert values["batch_index"] == 150
    assert loader.state.num_tokens == sum(stream["num_tokens"] for stream in values["streams"])
    assert 0 <= loader.state.waste < 0.05
    with pytest.raises(UserError, match="version 1, this project reads 2"):
        LoaderState.from_json({**values, "version": 1})


def test_what_does_not_fit_is_refused(uninterrupted: Given) -> None:
    state = uninterrupted[0][1]
    with pytest.raises(UserError, match=r"data\.num_streams=4 .* divided among 3 ranks: set it to a multiple of 3"):
        BatchLoader(plan(), world_size=3)
    with pytest.raises(UserError, match=r"state has 4 streams, data\.num_streams=8: set it to 4"):
        BatchLoader(plan(num_streams=8), state)
    with pytest.raises(UserError, match="belongs to other data or settings"):
        BatchLoader(plan(fingerprint="another"), state)


class Faulty(list[Utterance]):
    """A source that fails when its last utterance is read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(SPOKEN)
        self.error = error

    def __getitem__(self, index: Any) -> Any:
        if index == len(self) - 1:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (UserError("shard train-000003.tar is damaged"), UserError, r"^shard train-000003\.tar is damaged$"),
        (KeyError("units"), RuntimeError, r"loader worker \d failed:\nTraceback(.|\n)*KeyError: 'units'"),
    ],
)
def test_errors_of_a_worker_reach_the_training(error: Exception, expected: type[Exception], message: str) -> None:
    with BatchLoader(plan(spoken=Faulty(error)), num_workers=2) as loader, pytest.raises(expected, match=message):
        list(islice(loader, 50))


def test_a_worker_that_is_killed_is_reported() -> None:
    with BatchLoader(plan(), num_workers=1) as loader:
        next(loader)
        os.kill(loader._workers[0].process.pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match="loader worker 0 ended with exit code -9"):
            list(islice(loader, 50))


def test_a_worker_outlives_the_signals_that_stop_its_training(uninterrupted: Given) -> None:
    """Schedulers send them to all processes of a job, and the training still needs the batch of its last step."""
    with BatchLoader(plan(), num_workers=1) as loader:
        found = [next(loader)]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(loader._workers[0].process.pid or 0, number)
        found += islice(loader, 9)
    assert_same(found, uninterrupted[:10])


def test_closing_ends_the_workers() -> None:
    before = multiprocessing.active_children()
    with BatchLoader(plan(), num_workers=2) as loader:
        next(loader)
        assert len(multiprocessing.active_children()) == len(before) + 2
    assert multiprocessing.active_children() == before


PARENT = """
import sys, time
from tests.data.batches.test_loader import BatchLoader, plan
if __name__ == "__main__":
    loader = BatchLoader(plan(), num_workers=2)
    next(loader)
    print(*(worker.process.pid for worker in loader._workers), flush=True)
    time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < until, "workers outlive their parent"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        # An orphan that nobody waits for stays as a zombie, which runs no more.
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
