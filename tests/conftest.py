"""What all tests share: nothing is downloaded, caches stay in a temporary folder, Lightning keeps quiet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch
from repository import ROOT

# Tests of small models gain nothing from more threads, and two runs must add numbers in one order.
torch.set_num_threads(1)
# Nor do the processes that tests start: threads that wait for each other take a core all the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Triton asks for it when a kernel is defined: before any test imports one.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# File systems that tests of URLs need no server for.
os.environ["LST_ALLOW_PROTOCOLS"] = "memory,local"

# A file is one process's work: begun last, one of these would leave the others idle for minutes. The longest first.
LONGEST_FILES = (
    *("test_prepare_kills.py", "test_ranks.py", "test_scale_run.py", "test_prepare_interrupts.py", "test_synthetic.py"),
    *("test_h3.py", "test_faults.py", "test_kills.py", "test_model.py", "test_multirun.py", "test_reproduce_law.py"),
    *("test_generate.py", "test_state_space.py", "test_train.py", "test_fuzz_run_folders.py", "test_stopping.py"),
    *("test_executors.py", "test_ssm.py", "test_command_line.py", "test_forked.py", "test_fuzz_checkpoints.py"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a third of the time, tests wait for Ray, for a signal or for another process."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says, also in a quiet run, which form of Triton's kernels the tests in tests/kernels have shown."""
    where = "compiled, on a GPU" if torch.cuda.is_available() else "INTERPRETED on the CPU: no compiled one ran"
    terminalreporter.write_line(f"Triton's kernels, where tests ran them: {where}")


@pytest.fixture(scope="session", autouse=True)
def voice_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthesised speech is cached for the session, by all of its processes; never in the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        spoken = tmp_path_factory.getbasetemp().parent / "voices"
        spoken.mkdir(exist_ok=True)
        (folder / "voices").symlink_to(spoken)
    os.environ["LST_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture
def forked_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that a test's own process starts are forked; see ``forked.py``."""
    monkeypatch.setattr(subprocess, "Popen", forked.Popen)


@pytest.fixture(scope="session")
def smoke_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder prepared by ``experiment=smoke``; copy it before writing into it."""
    from lst.cli import main

    folder = tmp_path_factory.mktemp("smoke") / "run"
    assert main(["prepare", "experiment=smoke", f"run_dir={folder}", "num_workers=1"]) == 0
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray on this machine for all tests: starting it takes seconds."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers"), *filter(None, [before])])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=128 << 20,
    )
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
