"""Benchmarks keep every figure, missed targets too; what they measure is what they say."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lst.model.batch import SPEECH
from lst.model.config import ModelConfig
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.benchmarks import kernels as bench_kernels
from lst.recipes.benchmarks import model as bench_model
from lst.recipes.benchmarks.figures import Figures, interleaved_best_s


def test_figures_are_written_with_their_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures("some", tmp_path)
    figures.add("speed", 3.0, 2.0)
    figures.add("memory", 3.0, 2.0, at_most=True)
    figures.add("threads", 2)
    figures.write()
    assert json.loads((tmp_path / "some.json").read_text()) == [
        {"name": "speed", "value": 3.0, "target": 2.0, "holds": True},
        {"name": "memory", "value": 3.0, "target": 2.0, "holds": False},
        {"name": "threads", "value": 2, "target": None, "holds": None},
    ]
    assert "| memory | 3 | ≤ 2 | missed |" in (tmp_path / "some.md").read_text()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[1].endswith("MISSED")


def test_turns_are_taken() -> None:
    calls: list[str] = []
    times_s = interleaved_best_s({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == ["a", "b"] * 4
    assert set(times_s) == {"a", "b"}


def test_the_batch_is_as_described() -> None:
    documents = bench_model.make_documents(16_384, 1 / 3)
    assert sum(map(len, documents)) == 16_384
    spoken = [document for document in documents if SPEECH in document.modalities]
    assert sum(map(len, spoken)) / 16_384 == pytest.approx(1 / 3, abs=0.03)
    speech = np.concatenate([document.modalities for document in spoken]) == SPEECH
    assert speech.mean() == pytest.approx(0.77, abs=0.02)
    ids = np.concatenate([document.token_ids for document in spoken])
    assert (ids[speech] >= bench_model.VOCAB_SIZE - bench_model.NUM_UNITS).all()


def test_packing_packs_every_token_once() -> None:
    assert bench_model.pack_all(bench_model.make_documents(30_000, 1.0), num_rows=2, row_patches=600) == 30_000


def test_a_benchmark_step_trains() -> None:
    documents = bench_model.make_documents(600, 1.0)
    config = ModelConfig(global_dim=32, global_layers=1, global_heads=2, local_dim=16, local_heads=2)
    model = LatentSpeechTextModel(config, bench_model.VOCAB_SIZE)
    batch = bench_model.make_batch(documents, "static")
    with torch.no_grad():
        before = float(model.loss(batch))
    step = bench_model.training_step(model, batch)
    for _ in range(20):
        step()
    with torch.no_grad():
        assert float(model.loss(batch)) < before


def test_kernels_that_are_compared_do_the_same() -> None:
    problem = bench_kernels.Problem(70)
    state_passing = problem.forward("state passing").view(bench_kernels.NUM_DOCUMENTS, 70, -1).transpose(1, 2)
    gradients = problem.forward_backward("state passing")
    for method in bench_kernels.METHODS[1:]:
        assert (problem.forward(method) - state_passing).norm() <= 1e-5 * state_passing.norm()
        for a, b in zip(problem.forward_backward(method)[1:], gradients[1:], strict=True):
            assert (a - b).norm() <= 2e-5 * b.norm()


def test_the_kernels_benchmark_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At sizes of no meaning: what it writes is what it says."""
    monkeypatch.setattr(bench_kernels, "LENGTHS", (16, 4096))
    monkeypatch.setattr(bench_kernels, "NUM_CHANNELS", 2)
    monkeypatch.setattr(bench_kernels, "PROMPTS", (5, 9))
    monkeypatch.setattr(
        bench_kernels,
        "TRANSFORMER",
        ModelConfig(global_dim=16, global_layers=4, global_heads=2, encoder_layers=0, decoder_layers=0),
    )
    figures = Figures("kernels", tmp_path)
    threads = torch.get_num_threads()
    times = bench_kernels.bench_speed(figures, 1)
    torch.set_num_threads(threads)
    bench_kernels.bench_generation(figures)
    bench_kernels.bench_mixer(figures)
    rows = {row.name: row for row in figures.rows}
    ratio = rows["forward, 1 thread(s), length 4096: times faster than plain rfft"]
    plain, ours = (times["forward", method, 4096] for method in ("plain rfft", "state passing"))
    assert (ratio.value, ratio.target) == (plain / ours, 3.0)
    assert rows["h3: state after 16,384 over state after 1,024"].value == 1.0
    assert bench_kernels.plot({1: times}).count("<svg") == 1


@pytest.mark.parametrize(("num_cores", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2])])
def test_kernels_are_timed_on_one_thread_and_on_two(
    num_cores: int,
    counts: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where this process was told to use one, as the tests are."""
    seen: list[tuple[str, int]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(num_cores)), raising=False)
    monkeypatch.setattr(bench_kernels, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench_kernels, "plot", lambda times: " ".join(map(str, times)))
    monkeypatch.setattr(bench_kernels, "bench_speed", lambda _, count: seen.append(("speed", count)))
    for name in ("bench_memory", "bench_mixer", "bench_generation"):
        monkeypatch.setattr(bench_kernels, name, lambda _, name=name: seen.append((name, torch.get_num_threads())))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        bench_kernels.main([])
    finally:
        torch.set_num_threads(threads)
    speeds = [("speed", count) for count in counts]
    most = counts[-1]
    assert seen == [("bench_memory", most), *speeds, ("bench_mixer", most), ("bench_generation", most)]
    assert (tmp_path / "runs" / "bench" / "kernels.svg").read_text() == " ".join(map(str, counts))
    assert ("this machine has one core" in capsys.readouterr().out) == (num_cores == 1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
@pytest.mark.parametrize("kind", ["kernel", "product"])
def test_two_threads_are_had_after_omp_num_threads_1(kind: str) -> None:
    """By the compiled kernels and by PyTorch's own operators, each in a process of its own."""
    code = """
import os, sys, torch
from lst.recipes.benchmarks.kernels import Problem
problem, matrix = Problem(4096), torch.randn(600, 600)
call = {"kernel": lambda: problem.forward("state passing"), "product": lambda: matrix @ matrix}[sys.argv[1]]
def begun():
    before = len(os.listdir("/proc/self/task"))
    call()
    return len(os.listdir("/proc/self/task")) - before
call()
assert begun() == 0
torch.set_num_threads(2)
print(begun())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_kept_memory_is_not_fetched_again() -> None:
    """A tensor of 64 MB, made over and over, costs thousands of page faults each time, or next to none."""
    code = """
import resource, torch
from lst.parallel.machine import keep_freed_memory
def faults():
    for turn in range(16):
        if turn == 8:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        x = None
        x = torch.ones(16, 1 << 20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 8
print(faults())
assert keep_freed_memory()
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    leave, keep = map(int, done.stdout.split())
    assert 4 * keep < leave
