"""Results in the order of the items, of this process and of workers."""

from __future__ import annotations

import os

import pytest
import tasks

from lst.data import ordered
from lst.data.ordered import ordered_map


@pytest.mark.parametrize("start_s", [-1.0, 60.0])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_every_item_once_and_in_order(start_s: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "START_S", start_s)
    done = list(ordered_map(tasks.number_and_process, range(count), 2))
    assert [number for number, _ in done] == list(range(count))
    elsewhere = {process for _, process in done} - {os.getpid()}
    assert (len(elsewhere) > 0) == (start_s < 0 and count > 1)


def test_what_is_done_here_ends_when_workers_would_have_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "START_S", 0.05)
    done = [process for _, process in ordered_map(tasks.number_and_process_slowly, range(12), 2)]
    here = [process == os.getpid() for process in done]
    assert here[0]
    assert not here[-1]
    assert here == sorted(here, reverse=True)
