"""The published model and each of its choices, against a slow reference; shapes without them stay as they were."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from published_reference import published_logits
from torch.nn import functional

from lst.configs.compose import build_config
from lst.model.batch import IGNORE_ID, Document, Patches, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

VOCAB_SIZE = 60
OURS = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=2,
    local_dim=12,
    local_heads=2,
    encoder_layers=2,
    decoder_layers=2,
    sub_queries=2,
    window_tokens=9,
    encoder_window_patches=3,
    decoder_window_patches=4,
    ffn_multiple_of=8,
)
CHOICES: dict[str, dict[str, object]] = {
    "two keys": {"decoder_keys": 2},
    "shared projection": {"decoder_shared_projection": True},
    "doubled residual": {"cross_residual": 2},
    "no global norm": {"global_norm": False},
    "no projection": {"patch_projection": "if_needed"},
    "projection where needed": {"patch_projection": "if_needed", "sub_queries": 3},
    "own patch": {"encoder_window_patches": 1},
    "latest patch": {"decoder_window_patches": 1},
    "latest patch, two keys": {"decoder_window_patches": 1, "decoder_keys": 2},
    "wide": {"encoder_window_patches": 512, "decoder_window_patches": 512, "window_tokens": 512},
}
PUBLISHED = dataclasses.replace(
    OURS,
    decoder_keys=2,
    decoder_shared_projection=True,
    cross_residual=2,
    global_norm=False,
    patch_projection="if_needed",
)
CONFIGS = {
    "ours": OURS,
    **{name: dataclasses.replace(OURS, **choice) for name, choice in CHOICES.items()},
    "published": PUBLISHED,
    "published, wide": dataclasses.replace(PUBLISHED, **CHOICES["wide"]),
    "published, other width": dataclasses.replace(PUBLISHED, sub_queries=1, decoder_keys=3),
}


def build(config: ModelConfig) -> LatentSpeechTextModel:
    """In float64, with weights that are large enough that every path matters, and norms that differ from one."""
    model = LatentSpeechTextModel(config, VOCAB_SIZE).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
            else:
                parameter.add_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 0.5)
    return model


def pairs_of(make_document: Callable[..., Document]) -> list[tuple[Document, Patches]]:
    """Two documents, with late patches and without."""
    documents = [make_document(seed, num_tokens) for seed, num_tokens in ((1, 11), (2, 7))]
    cuts = [patch_document(document, "static", PatchingConfig(static_size=3)) for document in documents]
    assert cuts[0].closes_late.any()
    return [
        (documents[0], cuts[0]),
        (documents[1], Patches(cuts[1].lengths, np.zeros_like(cuts[1].closes_late))),
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_agrees_with_the_reference_in_value_and_gradient(name: str, make_document: Callable[..., Document]) -> None:
    """Two documents packed and each alone, and the gradient of every weight."""
    model, pairs = build(CONFIGS[name]), pairs_of(make_document)
    weights = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    expected = [
        published_logits(weights, model.config, d.token_ids.tolist(), p.lengths.tolist(), p.closes_late.tolist())
        for d, p in pairs
    ]
    batch = pack_documents([pairs], sum(len(patches) for _, patches in pairs))
    logits = model(batch)
    torch.testing.assert_close(logits, torch.cat(expected), rtol=0, atol=1e-6)
    for (document, patches), own in zip(pairs, expected, strict=True):
        alone = model(pack_documents([[(document, patches)]], len(patches)))
        torch.testing.assert_close(alone, own, rtol=0, atol=1e-6)
    loss = functional.cross_entropy(torch.cat(expected), batch.target_ids, ignore_index=IGNORE_ID)
    ours = model.loss(batch)
    torch.testing.assert_close(ours, loss, rtol=0, atol=1e-6)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for key, gradient, reference in zip(
        weights, torch.autograd.grad(ours, list(model.parameters())), gradients, strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
        # A softmax over one key does not depend on the query.
        idle = key.startswith("decoder.readers") and ".query" in key and name == "latest patch"
        assert idle == (float(reference.abs().max()) == 0), key


def filled(config: ModelConfig) -> LatentSpeechTextModel:
    """In float64, with weights that follow from their places alone, so that they are the same on every machine."""
    model = LatentSpeechTextModel(config, VOCAB_SIZE).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape)
            parameter.copy_((places * 0.7 + number).sin() * 0.3 + (parameter.ndim == 1))
    return model


# Names and shapes of all weights in order, and a loss, as they are without the published choices.
BEFORE = {
    "lst_debug": ("324600c8f6d1f8e5", 4.307829865039135),
    "lst_debug_h3": ("0a889021aea119ab", 4.338202294173685),
    "lst_quickstart": ("59fb147b0176f189", 4.330277216540685),
    "lst_tiny": ("de0553396481f6a9", 4.910864377306822),
    "baseline_debug": ("21a72de2a55e42f0", 4.228139596328773),
}


@pytest.mark.parametrize("name", BEFORE)
def test_small_shapes_are_what_they_were(name: str, make_document: Callable[..., Document]) -> None:
    """The order of names and shapes decides, with the seed, the initial weights."""
    config = build_config([f"model={name}", "patching=none"]).model
    model = filled(config)
    lines = [f"{key} {tuple(parameter.shape)}" for key, parameter in model.named_parameters()]
    documents = [make_document(seed, 40) for seed in (1, 2)]
    strategy = "static" if config.has_local_modules else "none"
    pairs = [(document, patch_document(document, strategy, PatchingConfig())) for document in documents]
    digest, loss = BEFORE[name]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest
    assert float(model.loss(pack_documents([pairs], 80)).detach()) == pytest.approx(loss, rel=1e-6)
