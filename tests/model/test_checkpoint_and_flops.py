"""Model folders refuse what does not fit; analytic FLOPs agree with torch's own count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from lst.errors import UserError
from lst.model.batch import Document, pack_documents
from lst.model.checkpoint import load_model, save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.flops import batch_flops
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
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


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


@pytest.mark.parametrize("encoder_layers", [0, 1])
def test_flops_agree_with_torch(encoder_layers: int, make_document: Callable[..., Document]) -> None:
    """Linear layers and head, within 2 %; attention is left out of both, as torch counts masked blocks in full."""
    config = dataclasses.replace(
        CONFIG, global_dim=96, local_dim=64, encoder_layers=encoder_layers, decoder_layers=2 * encoder_layers
    )
    model = LatentSpeechTextModel(config, 300)
    documents = [make_document(seed, 80) for seed in range(6)]
    strategy = "static" if encoder_layers else "none"
    rows = [[(document, patch_document(document, strategy, PatchingConfig()))] for document in documents]
    slots = max(len(row[0][1]) for row in rows)
    batch = pack_documents(rows, slots)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(count for operation, count in counts.items() if "mm" in str(operation))
    # What attention adds at one patch a document is next to nothing; rows are computed in full.
    ours = batch_flops(config, 300, batch.num_tokens, batch.num_patches, 1e-9).forward
    padding = (batch.num_slots - batch.num_patches) * config.global_layers * 2 * (
        4 * config.global_dim**2 + 3 * config.global_dim * config.ffn_dim(config.global_dim)
    )  # fmt: skip
    pooling = batch.num_tokens * 4 * config.sub_queries * config.local_dim * encoder_layers
    assert ours + padding - pooling == pytest.approx(linear, rel=0.02)


def test_a_patched_model_costs_less_for_the_same_tokens() -> None:
    published = ModelConfig(
        global_dim=2048, global_layers=25, global_heads=16, local_dim=1024, local_heads=16, encoder_layers=1,
        decoder_layers=9, sub_queries=2, window_tokens=512, window_patches=512, ffn_multiple_of=256,
    )  # fmt: skip
    plain = dataclasses.replace(published, encoder_layers=0, decoder_layers=0)
    tokens = 3.0e6
    # The paper's data: 3.00 tokens become 2.42 patches.
    lst = batch_flops(published, 32_508, tokens, tokens * 2.42 / 3.0, 500).training
    base = batch_flops(plain, 32_508, tokens, tokens, 500 * 3.0 / 2.42).training
    assert 0.85 < lst / base < 1.0


def test_parameters_of_the_published_shape() -> None:
    published = ModelConfig(
        global_dim=2048, global_layers=25, global_heads=16, local_dim=1024, local_heads=16, encoder_layers=1,
        decoder_layers=9, sub_queries=2, window_tokens=512, window_patches=512, ffn_multiple_of=256,
    )  # fmt: skip
    with torch.device("meta"):
        model = LatentSpeechTextModel(published, 32_508)
    assert model.num_parameters == pytest.approx(1.52e9, rel=0.05)
