"""Chooses Triton's interpreter before any kernel is defined, where there is no GPU; poisons fresh memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is filled with NaN, so that an element that nothing writes shows."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
