"""Model folders: what is written comes back, what does not fit is refused and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lst.errors import UserError
from lst.model.batch import Document, pack_documents
from lst.model.checkpoint import load_model, save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

CONFIG = ModelConfig(global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, ffn_multiple_of=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", LatentSpeechTextModel(CONFIG, 60, seed=3), PatchingConfig("static", 3), {"num_text": 40})
    return tmp_path / "m"


def test_round_trip(folder: Path, make_document: Callable[..., Document]) -> None:
    model, patching, vocabulary = load_model(folder)
    assert (patching, vocabulary) == (PatchingConfig("static", 3), {"num_text": 40})
    document = make_document(1, 40)
    batch = pack_documents([[(document, patch_document(document, "static", patching))]], 60)
    torch.testing.assert_close(model(batch), LatentSpeechTextModel(CONFIG, 60, seed=3)(batch), rtol=0, atol=0)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}


def test_every_misfit_is_named_at_once(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.weight"]
    weights["norm.weight"] = torch.ones(5)
    weights["surplus"] = torch.ones(1)
    weights["embedding.weight"][3, 3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError) as raised:
        load_model(folder)
    for part in ("4 problems", "head.weight is missing", "norm.weight has shape [5], needed is [16]",
                 "surplus is unknown", "embedding.weight holds values that are not finite"):  # fmt: skip
        assert part in str(raised.value)


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header at all")
    with pytest.raises(UserError, match="weights are damaged"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="weights are missing"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_model(folder)
