"""The GPU benchmark's machinery, on the CPU with a timer that only calls; no speed is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lst.recipes import bench_gpu
from lst.recipes.benchmark import Figures


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main() == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


def test_every_case_is_timed_forward_and_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain path stands in for the fast one."""
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_CHANNELS", 2)
    monkeypatch.setattr(bench_gpu, "SSM_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "ATTENTION_TOKENS", (16,))
    calls = []

    def timer(call: Callable[[], object]) -> float:
        call()
        calls.append(call)
        return float(len(calls))

    figures = Figures("gpu", tmp_path)
    for cases in bench_gpu.CASES:
        for case in cases(torch.device("cpu")):
            bench_gpu.time_case(case._replace(fast=case.plain), {"alone": timer, "queued": timer}, figures)
    assert len(calls) == 8 * 8
    assert len(figures.rows) == 8 * 12
    assert figures.rows[0]["name"] == "convolution, length 8, float32, forward, alone, reference, ms"
    assert [row["value"] for row in figures.rows[:6]] == [1.0, 2.0, 3.0, 4.0, 1.0, 1.0]


def test_rows_are_full_and_patched_as_asked() -> None:
    for strategy in ("static", "none"):
        batch = bench_gpu.full_rows(2, strategy, row_patches=2000)
        assert batch.patch_position_ids.shape[0] == 2
        assert 2400 <= batch.num_patches <= 4000
        assert (batch.num_tokens == batch.num_patches) == (strategy == "none")
        assert int(batch.token_ids.max()) < bench_gpu.VOCAB_SIZE


def test_every_model_that_is_timed_can_be_built() -> None:
    for name in bench_gpu.MODEL_NAMES:
        assert bench_gpu.model_of(name)[0].global_layers > 0
