"""Tasks for tests of executors, in a module that worker processes find."""

from __future__ import annotations

import os
import signal
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lst.errors import ProblemsError, UserError
from lst.parallel import pool


class Task(NamedTuple):
    """A number, and a folder in which tasks leave marks."""

    number: int
    folder: Path


def square(task: Task) -> int:
    return task.number**2


def raise_for_three(task: Task) -> int:
    if task.number == 3:
        raise ProblemsError("the third", ["is faulty", "is late"], "Mend it.")
    return task.number


def be_forgotten(connection: Any) -> None:
    """A worker without a call, which no pool ends."""
    pool.FORGOTTEN_S = 0.1
    pool._set_up_worker(connection)
    time.sleep(60)


def die_at_first(task: Task) -> int:
    """The process is killed the first time that tasks 1 and 4 are begun."""
    mark = task.folder / str(task.number)
    if task.number in (1, 4) and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number


def die(task: Task) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task.number


@lru_cache(maxsize=1)
def model() -> tuple[int, int]:
    """What is loaded once a process: its number and the time."""
    return os.getpid(), time.monotonic_ns()


def use_model(task: Task) -> tuple[int, int]:
    time.sleep(0.01)
    return model()


def fail_first_and_write_late(task: Task) -> None:
    """The first fails once others have begun; they write a second later."""
    if task.number == 0:
        time.sleep(0.3)
        raise UserError("fails at once")
    time.sleep(1.0)
    (task.folder / str(task.number)).touch()


def number_and_process(number: int) -> tuple[int, int]:
    return number, os.getpid()


def number_and_process_slowly(number: int) -> tuple[int, int]:
    time.sleep(0.02)
    return number, os.getpid()


def die_after_the_first(task: Task) -> int:
    return die(task) if task.number else task.number


def sleep_but_the_first(task: Task) -> int:
    time.sleep(600 if task.number else 0)
    return task.number
