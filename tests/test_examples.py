"""Every ``>>>`` example in the package's docstrings runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from repository import ROOT

# Triton's kernels need a GPU to be imported for; they hold no examples.
GPU_ONLY = ("gpu", "gpu_kernels")


def module_of(path: Path) -> str:
    """``lst/data/audio/__init__.py`` → ``lst.data.audio``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = [path for path in sorted((ROOT / "lst").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def test_gpu_modules_hold_no_examples() -> None:
    assert not [path for path in SOURCES if path.stem in GPU_ONLY]


@pytest.mark.parametrize("name", [module_of(path) for path in SOURCES if path.stem not in GPU_ONLY])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, so that an example may write files."""
    monkeypatch.chdir(tmp_path)
    failed, run = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert run > 0, f"{name} holds >>> outside of docstrings"
    assert failed == 0
