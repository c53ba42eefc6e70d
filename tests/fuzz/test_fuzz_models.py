"""Damaged model folders: an error that names the folder, or a model that works."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from damage import Damage, Pristine, damages
from fuzzing import fuzzed, told
from hypothesis import given
from hypothesis import strategies as st

from lst.model.checkpoint import save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.hashes import HASHES_FILE, write_hashes
from lst.model.lst import LatentSpeechTextModel
from lst.model.unit_model import UnitModel

CONFIG = ModelConfig(global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, ffn_multiple_of=8)
SEALS = ("as it was", "made again", "removed")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    UnitModel(30, 4).save(folder / "unit_model")
    vocabulary = {"num_text": 40, "num_units": 12, "text_sha256": "a", "units_sha256": "b"}
    save_model(folder, LatentSpeechTextModel(CONFIG, 60, seed=3), PatchingConfig("entropy", 3), vocabulary)
    return Pristine(folder)


def seal(folder: Path, how: str) -> None:
    """Leaves the hashes, makes them agree with the damage, or removes them as earlier releases had none."""
    path = folder / HASHES_FILE
    if how == "removed":
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    elif how == "made again":
        with contextlib.suppress(OSError):
            write_hashes(folder, {})


@fuzzed
@given(data=st.data())
def test_damaged_models(saved: Pristine, data: st.DataObject) -> None:
    names = st.lists(damages(saved.names, saved.contents), min_size=1, max_size=2, unique_by=lambda damage: damage.file)
    found: list[Damage] = data.draw(names)
    how, is_unit_model = data.draw(st.sampled_from(SEALS)), data.draw(st.booleans())
    try:
        for damage in found:
            damage.do(saved.folder)
        seal(saved.folder, how)
        error = told(lambda: LatentSpeechTextModel.from_pretrained(saved.folder), saved.folder)
        hashed = [name for name in saved.names if name not in ("README.md", HASHES_FILE)]
        is_altered = any(saved.is_changed(name) for name in hashed)
        if how == "as it was" and is_altered and not saved.is_changed(HASHES_FILE):
            assert error
        if is_unit_model:
            told(lambda: UnitModel.load(saved.folder / "unit_model"), saved.folder)
    finally:
        saved.restore()
