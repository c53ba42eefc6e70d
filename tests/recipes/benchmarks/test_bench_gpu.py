"""The GPU benchmark's machinery, on the CPU with a timer that only calls; no speed is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lst.model.batch import PackedBatch
from lst.model.config import ModelConfig
from lst.recipes.benchmarks import gpu as bench_gpu
from lst.recipes.benchmarks.figures import Figures


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main() == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "CONVOLUTION_CHANNELS", 2)
    monkeypatch.setattr(bench_gpu, "SSM_LENGTHS", (8,))
    monkeypatch.setattr(bench_gpu, "ATTENTION_TOKENS", (16,))


def test_every_case_is_timed_forward_and_backward(small: None, tmp_path: Path) -> None:
    """The plain path stands in for the fast one."""
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
    assert figures.rows[0].name == "convolution, length 8, float32, forward, alone, reference, ms"
    assert [row.value for row in figures.rows[:6]] == [1.0, 2.0, 3.0, 4.0, 1.0, 1.0]


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


def test_the_benchmark_goes_through_to_its_end(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models keep their kind (with and without patches, with H3), but are small; one does not fit with all rows."""
    names, kind_of = bench_gpu.MODEL_NAMES, bench_gpu.model_of

    def small_model_of(name: str) -> tuple[ModelConfig, str]:
        config, strategy = kind_of(name)
        layers = {key: min(getattr(config, key), 1) for key in ("encoder_layers", "decoder_layers")}
        return replace(
            config,
            global_dim=32,
            global_layers=4,
            global_heads=2,
            local_dim=16,
            local_heads=2,
            **layers,
            window_tokens=64,
        ), strategy

    monkeypatch.setattr(bench_gpu, "model_of", small_model_of)
    monkeypatch.setattr(bench_gpu, "ROW_PATCHES", 1000)
    monkeypatch.setattr(bench_gpu, "NUM_ROWS", 4)
    monkeypatch.setattr(bench_gpu, "VOCAB_SIZE", 1000)
    monkeypatch.setattr(bench_gpu, "WARMUP_STEPS", 0)
    monkeypatch.setattr(bench_gpu, "TIMED_STEPS", 1)
    monkeypatch.setattr(bench_gpu, "CASES", ())
    tried = []
    step = bench_gpu._step_s_and_bytes

    def first_does_not_fit(config: ModelConfig, batch: PackedBatch) -> tuple[float, int]:
        tried.append(batch.num_patches)
        if len(tried) == 1:
            raise torch.cuda.OutOfMemoryError
        return step(config, batch)

    monkeypatch.setattr(bench_gpu, "_step_s_and_bytes", first_does_not_fit)
    figures = Figures("gpu", tmp_path)
    bench_gpu.measure(torch.device("cpu"), {}, figures)
    assert len(tried) == 1 + len(names)
    assert len(figures.rows) == 4 * len(names)
    assert [row.name.partition(",")[0] for row in figures.rows[::4]] == list(names)
    assert all(row.value > 0 for row in figures.rows if "memory" not in row.name)
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["name"] for row in written] == [row.name for row in figures.rows]
