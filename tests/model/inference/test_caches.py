"""Keys and values in generation: what is in sight is kept, nothing else, however long a context becomes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from recurrent_models import VOCAB_SIZE, patching_of

from lst.model.batch import Document, pack_documents
from lst.model.config import ModelConfig
from lst.model.inference import caches
from lst.model.inference.caches import KeyValueCache
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

FIRST_UNIT_ID, BOS = 40, 35
WINDOWED = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=2,
    local_dim=16,
    local_heads=2,
    encoder_layers=1,
    decoder_layers=1,
    sub_queries=2,
    window_tokens=7,
    encoder_window_patches=2,
    decoder_window_patches=3,
    ffn_multiple_of=8,
    global_mixers=["window_attention"],
    global_window_patches=3,
    max_patches=2048,
)
PLAIN = dataclasses.replace(WINDOWED, encoder_layers=0, decoder_layers=0)
KEYS = dataclasses.replace(WINDOWED, decoder_keys=2, decoder_shared_projection=True, decoder_window_patches=2)
LATEST = dataclasses.replace(WINDOWED, decoder_keys=2, decoder_window_patches=1)


def speech(seed: int, num_tokens: int) -> Document:
    ids = np.random.default_rng(seed).integers(FIRST_UNIT_ID, VOCAB_SIZE, num_tokens).astype(np.int32)
    ids[0] = BOS
    return Document(f"doc-{seed}", ids, (ids >= FIRST_UNIT_ID).astype(np.uint8))


def build(config: ModelConfig) -> LatentSpeechTextModel:
    model = LatentSpeechTextModel(config, VOCAB_SIZE).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
    return model


def start(model: LatentSpeechTextModel, prompts: list[Document]) -> DecodingState:
    patching = patching_of(model.config)
    patches = [patch_document(prompt, patching.strategy, patching) for prompt in prompts]
    steppers = [PatchStepper(patching, FIRST_UNIT_ID) for _ in prompts]
    for stepper, prompt, own in zip(steppers, prompts, patches, strict=True):
        stepper.begin(prompt, own)
    return DecodingState(model, prompts, patches, steppers)


def places_kept(state: DecodingState) -> dict[str, set[int]]:
    return {name: {cache.capacity for cache in layers} for name, layers in state.caches.items()}


@pytest.mark.parametrize("lengths", [[1], [300], [1, 40, 300], [900, 2]], ids=str)
@torch.inference_mode()
def test_a_window_keeps_as_many_places_as_it_sees(lengths: list[int]) -> None:
    state = start(build(PLAIN), [speech(seed, length) for seed, length in enumerate(lengths)])
    for _ in range(20):
        state.step(np.full(len(lengths), 50), np.ones(len(lengths), np.uint8))
        assert places_kept(state) == {"backbone": {3}}


@pytest.mark.parametrize(("config", "reads"), [(WINDOWED, 3), (KEYS, 4), (LATEST, 2)], ids=["one", "two", "latest"])
@torch.inference_mode()
def test_no_module_keeps_more_of_a_longer_context(
    config: ModelConfig, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All windows of the model, ragged prompts; the encoder's is of patches, here of up to four tokens each."""
    monkeypatch.setattr(caches, "_LEAST_CAPACITY", 1)
    model = build(config)
    for lengths in ([30], [30, 90], [700, 1, 90], [5, 6, 1500]):
        state = start(model, [speech(seed, length) for seed, length in enumerate(lengths)])
        for _ in range(40):
            state.step(np.full(len(lengths), 50), np.ones(len(lengths), np.uint8))
        kept = places_kept(state)
        assert 1 <= kept.pop("encoder.reads").pop() <= 2 * 2 * 4
        assert kept == {"backbone": {3}, "encoder.tokens": {7}, "decoder.tokens": {7}, "decoder.reads": {reads}}


@pytest.mark.parametrize("least", [1, 64])
@pytest.mark.parametrize("mixers", [["window_attention"], ["attention", "window_attention"]], ids=str)
@pytest.mark.parametrize("base", [PLAIN, WINDOWED, KEYS, LATEST], ids=["plain", "patches", "keys", "latest patch"])
@torch.inference_mode()
def test_long_continuations_of_ragged_prompts_equal_the_parallel_form(
    base: ModelConfig, mixers: list[str], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every window is overwritten several times, and one sequence is dropped on the way."""
    monkeypatch.setattr(caches, "_LEAST_CAPACITY", least)
    model = build(dataclasses.replace(base, global_mixers=mixers))
    patching = patching_of(model.config)
    documents = [speech(seed, 180) for seed in range(3)]
    lengths = [1, 90, 47]
    expected = [model(pack_documents([[(d, patch_document(d, patching.strategy, patching))]], 200)) for d in documents]
    state = start(
        model, [Document("", d.token_ids[:n], d.modalities[:n]) for d, n in zip(documents, lengths, strict=True)]
    )
    alive = [0, 1, 2]
    for offset in range(90):
        if offset == 60:
            state.keep([0, 2])
            alive = [0, 2]
        for row, index in enumerate(alive):
            torch.testing.assert_close(
                state.logits[row], expected[index][lengths[index] + offset - 1], rtol=1e-9, atol=1e-9
            )
        tokens = np.array([documents[index].token_ids[lengths[index] + offset] for index in alive])
        state.step(tokens, (tokens >= FIRST_UNIT_ID).astype(np.uint8))


@pytest.mark.parametrize("window", [None, 5])
def test_a_cache_equals_keeping_everything(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches in sight that grow and shrink, some sequences at a time, against a list of all keys and values."""
    monkeypatch.setattr(caches, "_LEAST_CAPACITY", 2)
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, 2, 4, generator=generator, dtype=torch.float64)

    cache = KeyValueCache(3, window)
    keys, values, first = [list(draw(n)) for n in (4, 9, 1)], [list(draw(n)) for n in (4, 9, 1)], np.array([2, 6, 0])
    for sequence in range(3):
        cache.fill(sequence, torch.stack(keys[sequence]), torch.stack(values[sequence]), int(first[sequence]))
    longest = 0
    for _ in range(200):
        some = np.flatnonzero(rng.random(3) < 0.7)
        if not len(some):
            continue
        key, value = draw(len(some)), draw(len(some))
        for row, sequence in enumerate(some):
            keys[sequence].append(key[row])
            values[sequence].append(value[row])
        last = np.array([len(keys[sequence]) - 1 for sequence in some])
        reach = window or int(rng.integers(1, 14))
        # What was out of sight stays so.
        first[some] = np.maximum(first[some], last - reach + 1)
        longest = max(longest, int((last - first[some]).max()) + 1)
        cache.put(some, last, first[some], key, value)
        query = torch.randn(len(some), 3, 4, 4, generator=generator, dtype=torch.float64)
        found = cache.attend(query, some, first[some], last)
        for row, sequence in enumerate(some):
            seen = slice(int(first[sequence]), int(last[row]) + 1)
            own_key, own_value = (torch.stack(x[sequence][seen]).repeat_interleave(2, dim=1) for x in (keys, values))
            weights = (torch.einsum("qhd,khd->hqk", query[row], own_key) * 4**-0.5).softmax(dim=-1)
            expected = torch.einsum("hqk,khd->qhd", weights, own_value)
            torch.testing.assert_close(found[row], expected)
    assert max(map(len, keys)) > 100
    assert cache.capacity <= (window or 2 * longest)
