"""Ctrl-C at random moments: one line, no process is left, and the same command goes on to the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import tasks
from processes import descendants
from repository import ROOT

from lst.parallel.pool import WorkerPool, uninterrupted
from lst.parallel.tasks import run_tasks
from lst.parallel.work import ExecutorOptions
from tests.data.conftest import files_in, hashes, is_alive

NUM_INTERRUPTS = 3
# A test that was begun in the background ignores interrupts, and so would its children.
RUN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from lst.cli import main; "
    "sys.exit(main())"
)
OPTIONS = [
    "data.valid_share=0.25",
    "data.shard_utterances=2",
    "tokenizer.num_units=16",
    "tokenizer.text_vocab_size=300",
    "card.after_prepare=false",
    "num_workers=2",
]


def start(run: Path, corpus: str) -> subprocess.Popen[str]:
    """The command, leader of a group of its own as in a terminal."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-c", RUN, "prepare", f"corpus={corpus}", f"run_dir={run}", *OPTIONS]
    return forked.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> None:
    """What a terminal does at Ctrl-C: a signal to all processes."""
    os.killpg(process.pid, signal.SIGINT)


def wait_until_gone(processes: set[int], limit_s: float = 30.0) -> set[int]:
    deadline = time.monotonic() + limit_s
    while (left := {process for process in processes if is_alive(process)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find processes in")
def test_interrupted_at_random_moments(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    """Of a corpus behind a URL, to which ``local://`` leads, by two workers."""
    url, run = f"local://{corpus}", tmp_path / "run"
    # The server that commands are forked from is started before the clock.
    forked.run([sys.executable, "-c", "pass"])
    started_s = time.monotonic()
    whole = start(tmp_path / "whole", url)
    _, told = whole.communicate()
    assert whole.returncode == 0, told
    whole_s = time.monotonic() - started_s
    generator = np.random.default_rng(3)
    num_interrupts = 0
    for _ in range(10 * NUM_INTERRUPTS):
        process = start(run, url)
        time.sleep(generator.uniform(0.2, 0.8) * whole_s)
        below = descendants(process.pid)
        interrupt(process)
        _, told = process.communicate(timeout=120)
        if (run / "data/index.json").exists():
            # The work had ended before; it is not counted.
            shutil.rmtree(run)
            continue
        # Where the interrupt came within code that Python compiled from a text, Python ends by the signal itself.
        assert process.returncode in (130, -signal.SIGINT), told
        assert told.rstrip().endswith("lst prepare: stopped; the same command goes on from here")
        assert "Traceback" not in told
        assert wait_until_gone(below) == set()
        num_interrupts += 1
        if num_interrupts == NUM_INTERRUPTS:
            break
    assert num_interrupts == NUM_INTERRUPTS
    last = start(run, url)
    _, told = last.communicate()
    assert last.returncode == 0, told
    assert hashes(run / "data") == hashes(tmp_path / "whole/data")
    shards = [name for name in files_in(prepared) if name.endswith(".tar")]
    assert shards
    assert {name: hashes(run / "data")[name] for name in shards} == {name: hashes(prepared)[name] for name in shards}


def test_an_interrupt_is_held_back_until_the_block_has_ended() -> None:
    handler = signal.getsignal(signal.SIGINT)
    reached = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)
            reached.append("the end of the block")
        reached.append("what follows it")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert reached == ["the end of the block"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGINT) is handler
    # Elsewhere than in the main thread nothing can be held back, and nothing comes.
    thread = threading.Thread(target=lambda: uninterrupted().__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is handler


def test_workers_hear_no_interrupt_and_end_with_the_pool(tmp_path: Path) -> None:
    with WorkerPool(2, tasks.__name__) as pool:
        workers = {pool.submit(tasks.number_and_process_slowly, number).result()[1] for number in range(4)}
        for worker in workers:
            os.kill(worker, signal.SIGINT)
        workers |= {pool.submit(tasks.number_and_process_slowly, number).result()[1] for number in range(4)}
        waiting = [pool.submit(time.sleep, 600) for _ in range(3)]
        time.sleep(0.5)
    assert len(workers) <= 2
    assert wait_until_gone(workers) == set()
    assert all(future.done() for future in waiting)


def test_results_that_are_on_their_way_do_not_hold_up_the_end() -> None:
    """Of many megabytes, so that leaving the pool finds some half sent."""
    for turn in range(5):
        with WorkerPool(2, tasks.__name__) as pool:
            futures = [pool.submit(bytes, 10_000_000) for _ in range(6)]
            assert len(futures[0].result()) == 10_000_000
            time.sleep(0.004 * turn)


def test_leaving_the_results_ends_tasks_that_would_last(tmp_path: Path) -> None:
    results = run_tasks(
        tasks.sleep_but_the_first, [tasks.Task(n, tmp_path) for n in range(4)], ExecutorOptions("local", 2)
    )
    started_s = time.monotonic()
    assert next(results).value == 0
    results.close()
    assert time.monotonic() - started_s < 60
