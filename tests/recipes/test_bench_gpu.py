"""The GPU benchmark's machinery, on the CPU with a timer that only calls; no speed is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lst.kernels import fftconv
from lst.recipes import bench_gpu
from lst.recipes.benchmark import Figures


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main() == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


def test_every_case_is_timed_forward_and_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain path stands in for Triton's."""
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_CHANNELS", 2)
    monkeypatch.setattr(bench_gpu, "SSM_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "ATTENTION_TOKENS", (16,))
    monkeypatch.setattr(fftconv, "fftconv_path", lambda device, length: "triton")
    calls = []

    def timer(call: Callable[[], object]) -> float:
        call()
        calls.append(call)
        return float(len(calls))

    figures = Figures("gpu", tmp_path)
    for cases in bench_gpu.CASES:
        for case in cases(torch.device("cpu")):
            renamed = case._replace(forced_path=lambda path, case=case: case.forced_path(case.plain))
            bench_gpu.time_case(renamed, timer, figures)
    assert len(calls) == 8 * 4
    assert len(figures.rows) == 8 * 6
    assert figures.rows[0]["name"] == "convolution, length 8, float32, forward, triton, ms"
    assert figures.rows[2]["value"] == 2.0
