"""Every command is killed, or finds the disk full, at the events of its files; run again, it leaves what it must.

Here a few events of each, chosen by their names; ``make test-faults`` takes all of them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

import pytest
from faults import COMMANDS, KINDS, Miniature, differs_after, needs_space

TAKES_ALL = os.environ.get("LST_TEST_FAULTS") == "all"
# Events of each command and kind where not all are taken.
NUM_SAMPLED = {"prepare": 2, "train": 2, "eval": 1, "report": 1, "quickstart": 0}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Miniature]:
    made = Miniature(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


def chosen(command: str, kind: str, events: list[str]) -> list[int]:
    """Numbers of the events that a command is stopped at."""
    numbers = [
        number
        for number, event in enumerate(events)
        # The disk after one event is the disk before the next, but for files that are being written.
        if kind == "before"
        or (kind == "after" and (differs_after(event) or number == len(events) - 1))
        or (kind == "full" and needs_space(event))
    ]
    if TAKES_ALL and command == "quickstart":
        # The commands that it is made of are stopped at all of theirs.
        return [number for number in numbers if number % len(KINDS) == KINDS.index(kind)]
    by_name = sorted(numbers, key=lambda number: hashlib.sha256(f"{kind} {events[number]}".encode()).digest())
    return numbers if TAKES_ALL else by_name[: NUM_SAMPLED[command]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_stopped_and_run_again_a_command_leaves_what_it_must(miniature: Miniature, command: str, kind: str) -> None:
    started_s = time.monotonic()
    events = miniature.measure(command)
    numbers = chosen(command, kind, events)
    wrong = [
        f"{command}, {kind} event {number} ({events[number]}): {problem}"
        for number in numbers
        for problem in miniature.problems_after(command, number, kind)
    ]
    print(f"{command}: {len(events)} events, {kind} {len(numbers)}: {time.monotonic() - started_s:.0f} s")
    assert wrong == [], "\n".join(wrong)
