"""Every command is killed, or finds the disk full, at the events of its files; run again, it leaves what it must.

Here a few events of each: those that once left something wrong, and some chosen by a hash of their names.
``make test-faults`` takes all of them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

import pytest
from faults import KINDS, Miniature, differs_after, needs_space

TAKES_ALL = os.environ.get("LST_TEST_FAULTS") == "all"
# Commands, the longest first. Quickstart consists of the others: it is stopped where all events are taken.
COMMANDS = [*(["quickstart"] if TAKES_ALL else []), "train", "prepare", "eval", "report"]
NUM_SAMPLED = 1
ONCE_WRONG = {
    "prepare": [
        # What was staged for the card stayed.
        ("before", "rename data/.card.*.partial.json → card.json"),
    ],
    "train": [
        # The older checkpoint stayed for good.
        ("before", "remove models/static/checkpoints/step-00000001/COMPLETE"),
        # So did the file that was staged.
        ("before", "rename .commands.*.partial.json → commands.json"),
        # The output's disk was said to be full.
        ("full", "append models/static/metrics.jsonl"),
    ],
    "eval": [
        # The lock of the killed reader stayed.
        ("before", "mkdir eval"),
        # The model was said to be at fault, and its removal advised.
        ("full", "write eval/.static.items.*.partial.jsonl"),
    ],
}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Miniature]:
    made = Miniature(tmp_path_factory.mktemp("faults"))
    yield made
    made.close()


def stops(command: str, events: list[str]) -> list[tuple[int, str]]:
    """All that can happen at the events of a command: the event's number, and the kind of the stop."""
    found = []
    for number, event in enumerate(events):
        kinds = [
            "before",
            # The disk after one event is the disk before the next, but for files that are being written.
            *(["after"] if differs_after(event) or number == len(events) - 1 else []),
            *(["full"] if needs_space(event) else []),
        ]
        # Quickstart is stopped once at each event: the commands that it is made of are stopped in every way.
        found += [(number, kind) for kind in ([kinds[number % len(kinds)]] if command == "quickstart" else kinds)]
    return found


def sample(command: str, events: list[str]) -> list[tuple[int, str]]:
    """The stops that once left something wrong, and a few others."""
    once_wrong = [(events.index(event), kind) for kind, event in ONCE_WRONG.get(command, [])]
    by_hash = sorted(
        stops(command, events), key=lambda stop: hashlib.sha256(f"{stop[1]} {events[stop[0]]}".encode()).digest()
    )
    return [*once_wrong, *by_hash[:NUM_SAMPLED]]


@pytest.mark.parametrize("command", COMMANDS)
def test_stopped_and_run_again_a_command_leaves_what_it_must(miniature: Miniature, command: str) -> None:
    started_s = time.monotonic()
    events = miniature.measure(command)
    chosen = (stops if TAKES_ALL else sample)(command, events)
    wrong = [
        f"{command}, {kind} event {number} ({events[number]}): {problem}"
        for number, kind in chosen
        for problem in miniature.problems_after(command, number, kind)
    ]
    counts = ", ".join(f"{kind} {sum(one == kind for _, one in chosen)}" for kind in KINDS)
    print(f"{command}: {len(events)} events, {len(chosen)} stops ({counts}), {time.monotonic() - started_s:.0f} s")
    assert wrong == [], "\n".join(wrong)
