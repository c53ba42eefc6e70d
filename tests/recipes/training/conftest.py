"""Runs that the tests of training write into."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_trainings import WHOLE, overrides
from two_ranks import TwoRanks

from lst.configs.compose import build_config
from lst.recipes.training.train import train


@pytest.fixture
def run(smoke_data: Path, tmp_path: Path) -> Path:
    """Prepared data without a model."""
    shutil.copytree(smoke_data, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def whole_run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the model ``m``, validated and saved after steps 3, 6 and 9; copy it before writing into it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(smoke_data, folder)
    train(build_config(overrides(folder, "name=m", *WHOLE)))
    return folder


@pytest.fixture
def trained(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of ``whole_run``."""
    shutil.copytree(whole_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def stopped(trained: Path) -> Path:
    """The same after its last checkpoint and its final model were lost: step 6 is the newest."""
    shutil.rmtree(trained / "models" / "m" / "final")
    shutil.rmtree(trained / "models" / "m" / "checkpoints" / "step-00000009")
    return trained


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[TwoRanks]:
    """Two processes that train together."""
    ranks = TwoRanks()
    yield ranks
    ranks.close()
