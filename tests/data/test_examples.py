"""The ``>>>`` examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest
from repository import ROOT

ROOMS = ("data/audio", "data/batches", "data/corpora", "data/documents", "parallel", "recipes/benchmarks")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for path in sorted((ROOT / "lst" / room).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
