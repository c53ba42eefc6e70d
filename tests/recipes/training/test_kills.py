"""A training that is killed, or whose disk is full, at any moment goes on to the bits of one that nothing stops.

Here a few moments; ``LST_TEST_FAULTS=all`` takes 20 of each training. Their seed is printed, and LST_TEST_SEED sets it.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import contents
from small_trainings import overrides
from two_ranks import MOST_STOP_S, TwoRanks

from lst.configs.compose import build_config
from lst.parallel import Ranks
from lst.recipes.training import callbacks, checkpoints
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.train import train
from lst.storage import full_disk_named

TAKES_ALL = os.environ.get("LST_TEST_FAULTS") == "all"
NUM_ALL = 20
SEED = int(os.environ.get("LST_TEST_SEED", "0"))
# The same training on one device and on two, as far as rounding goes.
WORDS = (
    *("name=m", "train.rows=1", "train.row_patches=64", "train.batch_patches=128", "train.eval_items=2"),
    *("train.max_steps=3", "train.warmup_steps=1", "train.eval_every=2", "train.checkpoint_every=1"),
)
TRAININGS = {
    "one": (),
    "ddp": ("train.devices=2",),
    "fsdp": ("train.devices=2", "train.strategy=fsdp"),
}
# Phases in which each is killed where not all are taken.
FEW = {"one": ("checkpoint", "step"), "ddp": ("evaluation",), "fsdp": ("step", "checkpoint")}
# What is timed: each from the beginning of one call to the end of another.
PHASES = {
    "step": (LanguageModelModule, "training_step", "training_step"),
    "evaluation": (LanguageModelModule, "on_validation_epoch_start", "on_validation_epoch_end"),
    "checkpoint": (SafeCheckpointIO, "save_checkpoint", "save_checkpoint"),
}


class Moment(NamedTuple):
    """When ranks are killed: so long after the beginning of a phase, which is counted from 0."""

    ranks: tuple[int, ...]
    phase: str
    number: int
    delay_s: float


def around(owner: type, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Lets functions be called before and after a method."""
    method = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before()
        try:
            return method(*arguments, **named)
        finally:
            after()

    setattr(owner, name, wrapped)


def timed_training(words: list[str], moment: Moment | None = None) -> dict[str, list[float]]:
    """In each rank: trains, is killed at the moment, or tells how long each phase lasted."""
    lasted_s: dict[str, list[float]] = {phase: [] for phase in PHASES}
    begun_s: dict[str, float] = {}

    def begin(phase: str) -> None:
        begun_s[phase] = time.perf_counter()
        is_own = moment is not None and Ranks.found().rank in moment.ranks
        if is_own and (phase, len(lasted_s[phase])) == (moment.phase, moment.number):
            threading.Timer(moment.delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    for phase, (owner, first, last) in PHASES.items():
        around(owner, first, lambda phase=phase: begin(phase), lambda: None)
        around(
            owner,
            last,
            lambda: None,
            lambda phase=phase: lasted_s[phase].append(time.perf_counter() - begun_s[phase]),
        )
    train(build_config(words))
    return lasted_s


def moments(lasted_s: dict[str, list[float]], size: int, name: str) -> list[Moment]:
    """Some of each phase, drawn from a seed that depends on the training."""
    draw = random.Random(f"{SEED} {name}")
    found = []
    for phase in islice(cycle(PHASES), NUM_ALL) if TAKES_ALL else FEW[name]:
        place = draw.randrange(len(lasted_s[phase]))
        ranks = draw.choice([(0,), (1,), (0, 1)]) if size > 1 else (0,)
        found.append(Moment(ranks, phase, place, draw.uniform(0, lasted_s[phase][place])))
    return found


@pytest.fixture(scope="module")
def run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills") / "run"
    shutil.copytree(smoke_data, folder)
    return folder


class Whole(NamedTuple):
    """A training that nothing has stopped."""

    words: list[str]
    size: int
    lasted_s: dict[str, list[float]]
    contents: dict[str, str]


@pytest.fixture(scope="module")
def whole_of(run: Path, two_ranks: TwoRanks) -> Callable[[str], Whole]:
    """Trains one of ``TRAININGS`` once."""
    made: dict[str, Whole] = {}

    def make(name: str) -> Whole:
        if name not in made:
            words, size = overrides(run, *WORDS, *TRAININGS[name]), 1 if name == "one" else 2
            shutil.rmtree(run / "models", ignore_errors=True)
            lasted_s, *_ = two_ranks.call(timed_training, words, size=size)
            assert isinstance(lasted_s, dict), lasted_s
            made[name] = Whole(words, size, lasted_s, contents(run / "models"))
        shutil.rmtree(run / "models")
        return made[name]

    return make


def finish(run: Path, two_ranks: TwoRanks, whole: Whole) -> None:
    """The same command goes on, and leaves every byte that the whole training has left."""
    told = two_ranks.call(timed_training, whole.words, size=whole.size)
    assert all(isinstance(one, dict) for one in told), told
    found = contents(run / "models")
    differing = {name for name in found.keys() | whole.contents.keys() if found.get(name) != whole.contents.get(name)}
    assert not differing


@pytest.mark.parametrize("name", TRAININGS)
def test_killed_at_any_moment_a_training_goes_on_to_the_same_bits(
    run: Path, two_ranks: TwoRanks, whole_of: Callable[[str], Whole], name: str
) -> None:
    whole = whole_of(name)
    for moment in moments(whole.lasted_s, whole.size, name):
        print(f"{name}, LST_TEST_SEED={SEED}: {moment}")
        shutil.rmtree(run / "models", ignore_errors=True)
        told = two_ranks.call(timed_training, whole.words, moment, size=whole.size, most_s=MOST_STOP_S)
        for rank, one in enumerate(told):
            wanted = "ended with status -9" if rank in moment.ranks else "another process of this training has ended"
            assert wanted in str(one), (rank, told)
        finish(run, two_ranks, whole)


def stopped_without_end(words: list[str]) -> str:
    """In each rank: the disk does not answer when the signal's checkpoint is written."""
    step_row = LanguageModelModule.step_row

    def stopping(self: LanguageModelModule, step: int, loss: float) -> Any:
        if step == 3:
            SafeCheckpointIO.save_checkpoint = lambda *_: time.sleep(1000)
            os.kill(os.getpid(), signal.SIGUSR1)
        return step_row(self, step, loss)

    LanguageModelModule.step_row = stopping
    train(build_config(words))
    return "trained"


def test_a_checkpoint_that_takes_longer_than_the_signal_leaves_is_given_up(
    run: Path, two_ranks: TwoRanks, whole_of: Callable[[str], Whole]
) -> None:
    whole = whole_of("ddp")
    told = two_ranks.call(stopped_without_end, [*whole.words, "train.preempt_s=0.3"], most_s=MOST_STOP_S)
    assert told == [f"ended with status {128 + signal.SIGUSR1}"] * 2
    assert [path.name for path in complete_checkpoints(run / "models/m/checkpoints")][-1] == "step-00000002"
    finish(run, two_ranks, whole)


def no_tensors(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_row(place: Path, content: bytes) -> None:
    with full_disk_named(place):
        no_tensors()


def disk_is_full(words: list[str], rank: int, file: str) -> str:
    """In each rank: after step 2, the disk of one rank is full when a file is written."""
    step_row = LanguageModelModule.step_row

    def filling(self: LanguageModelModule, step: int, loss: float) -> Any:
        if step == 3 and self.ranks.rank == rank:
            if file == "tensors":
                checkpoints.save_file = no_tensors
            else:
                callbacks.append_bytes = no_row
        return step_row(self, step, loss)

    LanguageModelModule.step_row = filling
    train(build_config(words))
    return "trained"


@pytest.mark.parametrize(("rank", "file"), [(1, "tensors"), (0, "metrics")])
def test_a_full_disk_of_one_rank_ends_all_and_leaves_the_earlier_checkpoints(
    run: Path, two_ranks: TwoRanks, whole_of: Callable[[str], Whole], rank: int, file: str
) -> None:
    whole = whole_of("fsdp")
    told = two_ranks.call(disk_is_full, whole.words, rank, file, most_s=MOST_STOP_S)
    assert "is full" in told[rank]
    assert "is full" in told[1 - rank] or "another process of this training has ended" in told[1 - rank]
    newest = complete_checkpoints(run / "models/m/checkpoints")[-1]
    assert json.loads((newest / "COMPLETE").read_text())["world_size"] == 2
    assert newest.name == "step-00000002"
    finish(run, two_ranks, whole)
