"""Chooses Triton's interpreter before any kernel is defined, where there is no GPU; poisons fresh memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_report_header() -> str:
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "Triton's kernels: INTERPRETED on the CPU; their compiled code does not run"
    return f"Triton's kernels: compiled, on {torch.cuda.get_device_name()}"


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is filled with NaN, so that an element that nothing writes shows."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
