"""Text models of Hugging Face's transformers: the same logits in this project's backbone, and back again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from lst.configs.text_models import MODEL_TYPES, text_model_config, with_shape_of
from lst.errors import UserError
from lst.model.batch import Document, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document
from lst.model.text_weights import load_text_weights, text_weights

NUM_TEXT, NUM_OTHERS = 40, 15
BASELINE = ModelConfig(encoder_layers=0, decoder_layers=0, max_patches=64)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPE = {
    "vocab_size": NUM_TEXT,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 2": ("llama", {"rms_norm_eps": 1e-5, "num_key_value_heads": 4}),
    "llama 3": ("llama", {"rope_theta": 500_000.0, "rope_scaling": LLAMA3}),
    "linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}),
    "biased llama": ("llama", {"attention_bias": True}),
    "smollm": ("llama", {"tie_word_embeddings": True, "rope_theta": 100_000.0}),
    "qwen2": ("qwen2", {"rms_norm_eps": 1e-6, "rope_theta": 1e6}),
    "qwen3": ("qwen3", {"head_dim": 10, "tie_word_embeddings": True}),
}


def published(folder: Path, name: str) -> Any:
    """A tiny model of transformers with random weights, biases and norms too, saved as its publishers save theirs."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: extra hf")
    kind, more = KINDS[name]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **{**SHAPE, **more}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.float().eval().save_pretrained(folder)
    return model


def begun(folder: Path, config: ModelConfig = BASELINE) -> LatentSpeechTextModel:
    model = LatentSpeechTextModel(with_shape_of(config, str(folder)), NUM_TEXT + NUM_OTHERS, seed=2)
    load_text_weights(model, folder, NUM_TEXT)
    return model.eval()


def logits(model: LatentSpeechTextModel, ids: np.ndarray) -> torch.Tensor:
    document = Document("a", ids.astype(np.int32), np.zeros(len(ids), np.uint8))
    strategy = "static" if model.config.has_local_modules else "none"
    cut = patch_document(document, strategy, PatchingConfig())
    with torch.no_grad():
        return model(pack_documents([[(document, cut)]], len(cut)))


IDS = np.random.default_rng(0).integers(0, NUM_TEXT, 50)


@pytest.mark.parametrize("name", KINDS)
def test_logits_on_text_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = published(tmp_path / "m", name)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)[None]).logits[0]
    ours = begun(tmp_path / "m")
    torch.testing.assert_close(logits(ours, IDS)[:, :NUM_TEXT], expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1
    export(tmp_path / "back", ours)
    transformers = pytest.importorskip("transformers")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    assert type(back) is type(theirs)
    with torch.no_grad():
        again = back(torch.from_numpy(IDS)[None]).logits[0]
    torch.testing.assert_close(again, logits(ours, IDS), rtol=0, atol=1e-4)


def export(folder: Path, model: LatentSpeechTextModel) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(text_model_config(model.config, model.vocab_size, 41, 42, 40)))
    (folder / "model.safetensors").write_bytes(save(text_weights(model), metadata={"format": "pt"}))


def own(folder: Path, **changes: Any) -> LatentSpeechTextModel:
    """A baseline of this project, written as a text model."""
    shape = {"global_dim": 24, "global_layers": 2, "global_heads": 4, "ffn_multiple_of": 8, **changes}
    model = LatentSpeechTextModel(replace(BASELINE, **shape), NUM_TEXT + NUM_OTHERS, seed=5).eval()
    export(folder, model)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": "qkv", "tied_head": True, "norm_eps": 1e-3},
        {"query_key_norm": True, "attention_bias": "all", "global_head_dim": 4, "global_ffn_dim": 20},
        {"rope_scaling": "llama3", "rope_factor": 3.0, "rope_original_patches": 24, "global_kv_heads": 2},
        {"rope_scaling": "linear", "rope_factor": 2.0, "rope_theta": 1e4},
    ],
    ids=lambda changes: "_".join(changes) or "plain",
)
def test_a_baseline_goes_out_and_comes_back(changes: dict[str, Any], tmp_path: Path) -> None:
    model = own(tmp_path / "m", **changes)
    back = begun(tmp_path / "m")
    assert torch.equal(logits(back, IDS)[:, :NUM_TEXT], logits(model, IDS)[:, :NUM_TEXT])
    assert all(getattr(back.config, name) == value for name, value in changes.items())


def test_rows_of_units_look_like_rows_of_text(tmp_path: Path) -> None:
    """With their mean and deviation."""
    own(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    table = torch.randn(NUM_TEXT, 24) * 3 + 5
    save_file({**load_file(path), "model.embed_tokens.weight": table}, path)
    rows = begun(tmp_path / "m").embedding.weight.detach()
    assert torch.equal(rows[:NUM_TEXT], table)
    assert rows[NUM_TEXT:].mean() == pytest.approx(5, abs=0.7)
    assert rows[NUM_TEXT:].std() == pytest.approx(3, rel=0.2)
    assert len(rows[NUM_TEXT:].unique(dim=0)) == NUM_OTHERS


def test_weights_in_several_files_and_of_half_precision_are_read(tmp_path: Path) -> None:
    model = own(tmp_path / "m")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(tmp_path / "m" / "model.safetensors").items()}
    (tmp_path / "m" / "model.safetensors").unlink()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    place = {name: f"model-0000{number % 2 + 1}-of-00002.safetensors" for number, name in enumerate(weights)}
    for file in set(place.values()):
        save_file({name: tensor for name, tensor in weights.items() if place[name] == file}, tmp_path / "m" / file)
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    back = begun(tmp_path / "m")
    expected = model.backbone.blocks[1].mixer.output.weight.bfloat16().float()
    assert torch.equal(back.backbone.blocks[1].mixer.output.weight, expected)


def test_every_misfit_of_weights_is_named_at_once(tmp_path: Path) -> None:
    own(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(24)
    weights["model.layers.1.mlp.up_proj.weight"] = torch.ones(5, 24)
    weights["lm_head.weight"] = weights["lm_head.weight"][: NUM_TEXT - 1].clone()
    save_file(weights, path)
    with pytest.raises(UserError) as raised:
        begun(tmp_path / "m")
    for told in (
        "model.norm.weight is missing",
        "q_proj.bias is unknown",
        "up_proj.weight has shape [5, 24], needed is [64, 24]",
        "lm_head.weight has shape [39, 24], needed is [40 or more, 24]",
    ):
        assert told in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gemma"}, f"model_type=gemma: allowed are {', '.join(MODEL_TYPES)}"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_type=yarn"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1.0}}, "rope_type=dynamic"),
        ({"mlp_bias": True}, "mlp_bias=true"),
        ({"use_sliding_window": True, "sliding_window": 8}, "sliding_window=8"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"hidden_size": None}, "hidden_size must be a whole number"),
    ],
)
def test_what_the_backbone_has_not_is_refused_by_name(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SHAPE, **changes}))
    with pytest.raises(UserError) as raised:
        with_shape_of(BASELINE, str(tmp_path))
    assert told in str(raised.value)


def test_only_a_plain_baseline_is_a_text_model() -> None:
    wrong = ModelConfig(norm="layer", ffn="gelu", positions="none", global_mixers=["h3"])
    with pytest.raises(UserError) as raised:
        text_model_config(wrong, 60, 1, 2, 0)
    assert [word in str(raised.value) for word in ("patches", "layer", "gelu", "positions", "h3")] == [True] * 5


LOCAL = ModelConfig(local_dim=16, local_heads=2, encoder_layers=1, decoder_layers=1, sub_queries=2, max_patches=64)


@pytest.mark.parametrize("projection", ["always", "if_needed"])
@pytest.mark.parametrize("width", [12, 24])
def test_patches_of_text_reach_the_backbone_as_in_the_text_model(width: int, projection: str, tmp_path: Path) -> None:
    """Exactly for embeddings on as many axes as the local width, but for what attention and feed-forward add."""
    own(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    table = torch.randn(NUM_TEXT, 12) @ torch.randn(12, 24)
    save_file({**load_file(path), "model.embed_tokens.weight": table}, path)
    model = begun(tmp_path / "m", replace(LOCAL, local_dim=width, patch_projection=projection))
    assert model.encoder is not None
    queries = model.encoder.first_queries(model.embedding.weight[:NUM_TEXT])
    torch.testing.assert_close(model.encoder.to_global(queries.flatten(1)), table, rtol=1e-4, atol=1e-4)


def sentences(seed: int, num_documents: int) -> list[Document]:
    """Documents of a language in which each id is followed by one of three."""
    followers = np.random.default_rng(0).integers(0, NUM_TEXT, (NUM_TEXT, 3))
    draw = np.random.default_rng(seed)
    found = []
    for number in range(num_documents):
        ids = [int(draw.integers(NUM_TEXT))]
        while len(ids) < 40:
            ids.append(int(followers[ids[-1], draw.integers(3)]))
        found.append(Document(str(number), np.array(ids, np.int32), np.zeros(40, np.uint8)))
    return found


def trained_loss(model: LatentSpeechTextModel, num_steps: int, rate: float) -> float:
    """The loss on held-out documents after some steps."""
    strategy = "static" if model.config.has_local_modules else "none"

    def loss(documents: list[Document]) -> torch.Tensor:
        rows = [[(document, patch_document(document, strategy, PatchingConfig()))] for document in documents]
        return model.loss(pack_documents(rows, 40))

    optimiser = torch.optim.AdamW(model.parameters(), rate)
    for step in range(num_steps):
        optimiser.zero_grad()
        loss(sentences(step + 10, 4)).backward()
        optimiser.step()
    return float(loss(sentences(1, 16)).detach())


def test_a_model_that_begins_with_a_text_model_learns_text_sooner(tmp_path: Path) -> None:
    teacher = own(tmp_path / "taught", global_dim=48)
    assert trained_loss(teacher, 60, 1e-2) < 2.5
    export(tmp_path / "m", teacher)
    config = replace(with_shape_of(LOCAL, str(tmp_path / "m")), local_dim=24)
    random, begins = (LatentSpeechTextModel(config, NUM_TEXT + NUM_OTHERS, seed=3) for _ in range(2))
    load_text_weights(begins, tmp_path / "m", NUM_TEXT)
    assert trained_loss(begins, 12, 2e-3) < trained_loss(random, 12, 2e-3) - 0.2
