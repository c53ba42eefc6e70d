"""A small run, made by hand, whose prepared data has all hashes."""

from __future__ import annotations

import pytest
from damage import Pristine
from made_run import make_run

from lst.data.prepared import ARTEFACT_FILES, LEFT_OUT_FILE, MANIFEST_FILE
from lst.data.shards.files import load_index, write_index
from lst.storage import sha256, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """The folder ``run``: data, and two trained and evaluated models."""
    root = tmp_path_factory.mktemp("fuzz") / "run"
    make_run(root)
    data = root / "data"
    names = (*ARTEFACT_FILES, MANIFEST_FILE, LEFT_OUT_FILE)
    write_index(data, {**load_index(data), "files": {name: sha256(data / name) for name in names}})
    for path in root.glob("models/*/settings.json"):
        path.unlink()
    words = ["experiment=smoke", f"run_dir={root}", "seed=3", "card.title=Small", "eval.max_items=5"]
    write_json(root / "commands.json", {"version": 1, "prepare": words})
    return Pristine(root)
