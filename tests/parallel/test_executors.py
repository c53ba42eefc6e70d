"""Executors: every task's result once, whatever dies, in processes of this machine and on Ray."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tasks
from tasks import Task

from lst.errors import UserError
from lst.parallel import cluster, pool
from lst.parallel.cluster import check_ray
from lst.parallel.tasks import run_tasks
from lst.parallel.work import ExecutorOptions, work


@pytest.fixture(params=["one process", "two processes", "ray"])
def options(request: pytest.FixtureRequest) -> ExecutorOptions:
    if request.param == "ray":
        request.getfixturevalue("ray_session")
        return ExecutorOptions("ray", 2)
    return ExecutorOptions("local", 2 if request.param == "two processes" else 1)


def make_tasks(count: int, folder: Path) -> list[Task]:
    return [Task(number, folder) for number in range(count)]


def test_every_task_is_done_once(options: ExecutorOptions, tmp_path: Path) -> None:
    done = list(run_tasks(tasks.square, make_tasks(20, tmp_path), options))
    assert sorted(item.value for item in done) == [number**2 for number in range(20)]
    assert all(item.seconds >= 0 and item.worker for item in done)
    assert list(run_tasks(tasks.square, [], options)) == []


def test_an_error_of_a_task_ends_the_run_with_its_words(options: ExecutorOptions, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the third: 2 problems\n  - is faulty\n  - is late\nMend it\."):
        list(run_tasks(tasks.raise_for_three, make_tasks(6, tmp_path), options))


def test_what_a_task_loads_stays_in_its_process(options: ExecutorOptions, tmp_path: Path) -> None:
    loaded = [item.value for item in run_tasks(tasks.use_model, make_tasks(12, tmp_path), options)]
    assert len(set(loaded)) == len({process for process, _ in loaded}) <= 2


def test_once_an_error_is_raised_no_worker_is_at_a_task_any_more(options: ExecutorOptions, tmp_path: Path) -> None:
    """What a worker still wrote would be written behind the next owner's back."""
    with pytest.raises(UserError, match="fails at once") as raised:
        list(run_tasks(tasks.fail_first_and_write_late, make_tasks(6, tmp_path), options))
    there = sorted(path.name for path in tmp_path.iterdir())
    time.sleep(1.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    assert raised.traceback  # it holds the frames of all generators until here


def test_a_ray_that_does_not_answer_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def refuse(**given: object) -> None:
        raise ConnectionError(f"nothing at {given['address']}")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=r"Ray at address=nonsense cannot be reached .*nothing at nonsense"):
        check_ray(ExecutorOptions("ray", 2, "nonsense"))


@pytest.mark.parametrize("name", ["local", "ray"])
def test_tasks_of_a_killed_worker_are_done_again(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "ray":
        request.getfixturevalue("ray_session")
    done = list(run_tasks(tasks.die_at_first, make_tasks(8, tmp_path), ExecutorOptions(name, 2)))
    assert sorted(item.value for item in done) == list(range(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "4"]
    if name == "local":
        assert "a worker process was killed" in capsys.readouterr().err


def test_a_worker_that_its_pool_forgot_ends_after_it() -> None:
    """As one that starts while another dies: the pool waits for it, which waits for a call."""
    context = pool.worker_context("tasks")
    reader, writer = context.Pipe(duplex=False)
    worker = context.Process(target=tasks.be_forgotten, args=(reader,))
    worker.start()
    worker.join(0.5)
    assert worker.exitcode is None, "its pool is there"
    writer.close()
    worker.join(30)
    assert worker.exitcode == 1


def test_workers_that_keep_dying_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_RETRIES", 1)
    with pytest.raises(UserError, match=r"were killed 2 times, 2 tasks are left.*lower num_workers"):
        list(run_tasks(tasks.die, make_tasks(2, tmp_path), ExecutorOptions("local", 2)))


def test_another_version_on_a_node_is_named(tmp_path: Path) -> None:
    done = work(tasks.square, Task(2, tmp_path), "0.0.0")
    assert "this is 0.0.0: install the same on every node" in done.error


def test_an_address_at_which_nothing_listens_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=rf"address={address} cannot be reached \(.*refused.*ray start --head"):
        check_ray(ExecutorOptions("ray", 1, address))


def test_ray_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"executor=ray needs the package ray: pip install 'latent-speech-text\[ray\]'"):
        list(run_tasks(tasks.square, make_tasks(1, tmp_path), ExecutorOptions("ray", 1)))


class ClusterWithoutCores:
    """Answers as Ray does while no node with enough cores has joined; one joins at the third look."""

    def __init__(self, cores: float) -> None:
        self.num_looks, self.cores = 0, cores

    def cluster_resources(self) -> dict[str, float]:
        self.num_looks += 1
        return {"CPU": self.cores} if self.num_looks > 3 else {"memory": 1.0}

    def nodes(self) -> list[dict[str, Any]]:
        small = {"Alive": True, "Resources": {"CPU": self.cores - 1, "memory": 1.0}}
        joined = {"Alive": self.num_looks > 3, "Resources": {"CPU": self.cores}}
        return [small, joined]

    def remote(self, **_: object) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=lambda *arguments: (function, arguments))

    def wait(self, references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return (references[:1], references[1:]) if self.num_looks > 3 else ([], references)

    def get(self, reference: Any) -> Any:
        function, arguments = reference
        return function(*arguments)


@pytest.mark.parametrize(("cores", "told"), [(1, "has a core"), (4, "has 4 cores")])
def test_a_cluster_without_cores_is_waited_for_and_told_once(
    cores: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task runs on one node: nodes that are too small do not help, however many there are."""
    done = list(cluster._run(ClusterWithoutCores(cores), tasks.square, make_tasks(5, tmp_path), cores))
    assert sorted(item.value for item in done) == [0, 1, 4, 9, 16]
    assert capsys.readouterr().err.count(f"no node of the Ray cluster {told}: waiting") == 1
