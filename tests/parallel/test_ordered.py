"""Results in the order of the items, of this process and of workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tasks

from lst.errors import UserError
from lst.parallel import ordered, pool
from lst.parallel.ordered import ordered_map


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


@pytest.mark.parametrize("count", [0, 1, 6])
def test_long_items_are_all_done_by_workers(count: int) -> None:
    done = list(ordered_map(tasks.number_and_process, range(count), 2, are_long=True))
    assert [number for number, _ in done] == list(range(count))
    assert os.getpid() not in {process for _, process in done}


def test_items_of_killed_workers_are_done_again_in_their_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ordered, "START_S", -1.0)
    items = [tasks.Task(number, tmp_path) for number in range(12)]
    assert list(ordered_map(tasks.die_at_first, items, 2)) == list(range(12))
    assert "a worker process was killed" in capsys.readouterr().err


def test_workers_that_keep_dying_end_the_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ordered, "START_S", -1.0)
    monkeypatch.setattr(pool, "MAX_RETRIES", 1)
    items = [tasks.Task(number, tmp_path) for number in range(3)]
    with pytest.raises(UserError, match=r"lower num_workers .*__main__"):
        list(ordered_map(tasks.die_after_the_first, items, 2))
