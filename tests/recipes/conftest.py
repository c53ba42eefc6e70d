"""The options and the corpus card of the prepared smoke data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.runs.folder import CARD_JSON


@pytest.fixture(scope="module")
def config(smoke_data: Path) -> Config:
    return build_config(["experiment=smoke", f"run_dir={smoke_data}", "num_workers=1"])


@pytest.fixture(scope="module")
def card(smoke_data: Path) -> dict[str, Any]:
    """As ``lst prepare`` left it."""
    return json.loads((smoke_data / "data" / CARD_JSON).read_text())
