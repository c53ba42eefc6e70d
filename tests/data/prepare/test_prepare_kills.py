"""SIGKILL at random moments of preparing, here and on Ray: run again, it ends with the bytes of an undisturbed run.

Here a few moments of each kind; ``make test-faults`` takes sixty.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import forked
import numpy as np
import pytest
from processes import busy_ray_workers, command_of, descendants
from repository import ROOT

from lst.data.prepare.prepare import PrepareOptions, prepare
from tests.data.conftest import files_in, hashes, is_alive, options

TAKES_ALL = os.environ.get("LST_TEST_FAULTS") == "all"
NUM_KILLS = 30 if TAKES_ALL else 15
NUM_SHARDS = 24
# On Ray, thirty together with the one node, and the one driver with all its processes, where all are taken. Each worker
# that is killed costs seconds: another one imports everything.
NUM_WORKER_KILLS, NUM_DRIVER_KILLS = (20, 8) if TAKES_ALL else (3, 6)


def environment() -> dict[str, str]:
    """What a process needs that imports the package and prepares on one thread."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


class Server:
    """Processes that prepare, forked from one that has imported everything."""

    def __init__(self) -> None:
        command = [sys.executable, str(ROOT / "tests/helpers/prepare_server.py")]
        self.process = forked.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._drain, daemon=True).start()
        self.said = ""
        assert self._answer() == "ready"

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _ask(self, line: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self._answer())

    def start(self, folder: Path, wanted: PrepareOptions) -> int:
        """Begins a run; returns its process, the leader of its group."""
        return self._ask(json.dumps({"folder": str(folder), "options": asdict(wanted)}))

    def wait(self) -> int:
        """Waits for the run to end; returns its exit status, negative where a signal ended it."""
        return self._ask("")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def cluster_server(ray_session: None) -> Iterator[Server]:
    """Begun after Ray, for Ray leaves in the environment what its cluster asks of drivers."""
    started = Server()
    yield started
    started.close()


def finished(folder: Path) -> dict[str, str]:
    """Hashes of a folder but for what a killed run may leave: its lock, and files that it was writing."""
    return {name: digest for name, digest in hashes(folder).items() if name != ".lock" and ".partial" not in name}


def test_killed_at_random_moments(server: Server, prepared: Path, corpus: Path, tmp_path: Path) -> None:
    folder, wanted, expected = tmp_path / "data", options(corpus), hashes(prepared)
    started_s = time.monotonic()
    server.start(folder, wanted)
    assert server.wait() == 0, server.said
    whole_s = time.monotonic() - started_s
    assert finished(folder) == expected
    shutil.rmtree(folder)
    generator = np.random.default_rng(17)
    num_kills = num_whole = 0
    moments: set[int] = set()
    for _ in range(20 * NUM_KILLS):
        process = server.start(folder, wanted)
        time.sleep(generator.uniform(0.0, 0.7) * whole_s)
        os.killpg(process, signal.SIGKILL) if num_kills < NUM_KILLS else None
        status = server.wait()
        assert status in (0, -signal.SIGKILL), server.said
        num_kills += status == -signal.SIGKILL
        if (folder / "index.json").exists():
            assert finished(folder) == expected
            num_whole += 1
            shutil.rmtree(folder)
            if num_kills >= NUM_KILLS:
                break
        elif folder.exists():
            moments.add(len([name for name in files_in(folder) if ".partial" not in name and name != ".lock"]))
    print(f"{num_kills} kills of a run of {whole_s:.2f} s, with {sorted(moments)} files there; {num_whole} ended whole")
    assert num_kills >= NUM_KILLS
    assert num_whole >= 2
    # Early and late ones: before any shard, and between shards.
    assert len(moments) >= 3


def test_drivers_killed_at_random_moments_on_a_cluster(
    cluster_server: Server, many_shards: Path, large_corpus: Path, tmp_path: Path
) -> None:
    """The cluster outlives its drivers, and what their workers still do must not spoil the next run."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    address = ray.get_runtime_context().gcs_address
    folder, server = tmp_path / "data", cluster_server
    wanted = options(large_corpus, shard_utterances=1, executor="ray", address=address)
    generator = np.random.default_rng(5)
    moments: list[int] = []
    for _ in range(20 * NUM_DRIVER_KILLS):
        process = server.start(folder, wanted)
        before, is_early = num_receipts(folder), generator.random() < 0.25
        if is_early:
            time.sleep(generator.uniform(0.0, 2.0))  # while Ray starts, mostly
        else:
            last = before + generator.integers(1, 9)
            while num_receipts(folder) < last and is_alive(process) and not (folder / "index.json").exists():
                time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        assert server.wait() in (0, -signal.SIGKILL), server.said
        if (folder / "index.json").exists():
            assert finished(folder) == hashes(many_shards)
            shutil.rmtree(folder)
        else:
            moments.append(num_receipts(folder))
        if len(moments) == NUM_DRIVER_KILLS:
            break
    server.start(folder, wanted)
    assert server.wait() == 0, server.said
    assert finished(folder) == hashes(many_shards)
    print(f"{NUM_DRIVER_KILLS} drivers were killed when there were {moments} shards of {NUM_SHARDS}")
    assert len(moments) == NUM_DRIVER_KILLS
    assert len(set(moments)) >= 3


def num_receipts(folder: Path) -> int:
    return len(list((folder / "shards").glob("*.json")))


def wait_for_new_receipt(folder: Path, before: set[str], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while {path.name for path in (folder / "shards").glob("*.json")} <= before:
        assert time.monotonic() < deadline, "no shard was made in time"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def large_corpus(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus three times, under other names."""
    folder = tmp_path_factory.mktemp("large")
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    copies = [
        {**row, "id": f"{row['id']}_{number}", "path": str(corpus / row["path"])} for number in range(3) for row in rows
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies))
    return folder


@pytest.fixture(scope="module")
def many_shards(large_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The large corpus with a shard an utterance, prepared without disturbance."""
    folder = tmp_path_factory.mktemp("many") / "data"
    prepare(folder, options(large_corpus, shard_utterances=1))
    return folder


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find Ray's workers in")
def test_ray_workers_killed_in_their_tasks(
    ray_session: None, many_shards: Path, large_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their shards are made by others; the run itself does not stop."""
    killed: list[int] = []
    ended = threading.Event()

    def kill_workers() -> None:
        generator = np.random.default_rng(11)
        while len(killed) < NUM_WORKER_KILLS and not ended.is_set():
            for worker in busy_ray_workers(os.getpid())[:1]:
                time.sleep(generator.uniform(0.0, 0.1))
                if worker in busy_ray_workers(os.getpid()):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
            # To look through all processes takes longer than a few milliseconds, and a core for itself.
            time.sleep(0.03)

    thread = threading.Thread(target=kill_workers)
    thread.start()
    num_rounds = 0
    try:
        # Mostly once; a machine on which a task is over sooner than it is found needs another round.
        while num_rounds < 6 and (num_rounds == 0 or len(killed) < NUM_WORKER_KILLS):
            folder = tmp_path / str(num_rounds)
            prepare(folder, options(large_corpus, shard_utterances=1, executor="ray", num_workers=2))
            assert finished(folder) == hashes(many_shards)
            assert f"shards: {NUM_SHARDS} made, 0 there before, of {NUM_SHARDS}" in capsys.readouterr().err
            num_rounds += 1
    finally:
        ended.set()
        thread.join()
    print(f"{len(killed)} workers were killed in {num_rounds} rounds")
    assert len(killed) == NUM_WORKER_KILLS


def test_driver_on_ray_killed_with_all_its_processes(
    server: Server, many_shards: Path, large_corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    wanted = options(large_corpus, shard_utterances=1, executor="ray", num_workers=2)
    process = server.start(tmp_path, wanted)
    wait_for_new_receipt(tmp_path, set())
    below = descendants(process)
    workers = {child for child in below if command_of(child).startswith((b"ray::work", b"ray::IDLE"))}
    assert workers
    os.kill(process, signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL, server.said
    assert not (tmp_path / "index.json").exists()
    deadline = time.monotonic() + 60
    while (left := list(filter(is_alive, workers))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in filter(is_alive, below):
        # Agents of Ray outlive it for a while; they touch nothing of ours.
        os.kill(child, signal.SIGKILL)
    assert left == []
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.json")}
    assert 1 <= len(before) < NUM_SHARDS
    prepare(tmp_path, options(large_corpus, shard_utterances=1))
    assert finished(tmp_path) == hashes(many_shards)
    assert {name: (tmp_path / "shards" / name).stat().st_mtime_ns for name in before} == before


def test_tasks_of_a_dead_node_are_done_on_another(many_shards: Path, large_corpus: Path, tmp_path: Path) -> None:
    """Two nodes on this machine, a core each: one is killed at its task, with its workers, and the run goes on."""
    pytest.importorskip("ray", reason="Ray is not installed")
    wanted = options(large_corpus, shard_utterances=1, executor="ray")
    done = forked.run(
        [sys.executable, str(ROOT / "tests/helpers/two_nodes.py")],
        cwd=ROOT,
        env=environment(),
        input=json.dumps({"folder": str(tmp_path), "options": asdict(wanted)}) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 4 <= int(done.stdout.split()[-1]) < NUM_SHARDS
    assert f"shards: {NUM_SHARDS} made, 0 there before, of {NUM_SHARDS}" in done.stderr
    assert finished(tmp_path) == hashes(many_shards)
