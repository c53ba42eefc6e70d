"""Searching the likeliest continuation: greedy as ``generate``, exact with enough beams, always within limits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.inference import SamplingOptions, SearchOptions, TokenLayout, generate, score_documents, search
from lst.model.lst import LatentSpeechTextModel

LAYOUT = TokenLayout(num_text=6, first_unit_id=11, text_id=7, speech_id=8, eos_id=9)
BOS, VOCAB_SIZE = 6, 16
SIZES = {"global_dim": 16, "global_layers": 2, "global_heads": 2, "ffn_multiple_of": 8, "init_std": 0.4}
LOCAL = {"local_dim": 16, "local_heads": 2, "window_tokens": 7, "decoder_window_patches": 3}
MODELS = {
    "baseline": (ModelConfig(**SIZES, encoder_layers=0, decoder_layers=0), PatchingConfig("none")),
    "static": (ModelConfig(**SIZES, **LOCAL), PatchingConfig("static", static_size=3)),
    "decoded": (ModelConfig(**SIZES, **LOCAL, boundary_head=True), PatchingConfig("aligned")),
    "h3": (ModelConfig(**SIZES, **LOCAL, global_mixers=["h3", "attention"]), PatchingConfig("static", static_size=2)),
}


def prompts(modality: int, *sizes: int) -> list[Document]:
    """``<bos>``, a marker and so many tokens of a modality."""
    marker, first, count = (8, 11, 5) if modality == SPEECH else (7, 0, 6)
    documents = []
    for number, size in enumerate(sizes):
        own = first + np.random.default_rng([number, size]).integers(count, size=size)
        ids = np.array([BOS, marker, *own], np.int32)
        documents.append(Document(f"p{number}", ids, np.array([TEXT, TEXT, *[modality] * size], np.uint8)))
    return documents


@pytest.mark.parametrize("kind", MODELS)
def test_one_beam_is_greedy_and_others_do_not_touch_it(kind: str) -> None:
    config, patching = MODELS[kind]
    model = LatentSpeechTextModel(config, VOCAB_SIZE, seed=4).eval()
    for heard, modality in ((SPEECH, "text"), (TEXT, "speech")):
        given, limits = prompts(heard, 9, 1, 5), [6, 12, 3]
        together = search(model, given, limits, patching, LAYOUT, SearchOptions(modality))
        for prompt, limit, found in zip(given, limits, together, strict=True):
            greedy = SamplingOptions(limit, temperature=0, modality=modality)
            (wanted,) = generate(model, [prompt], patching, LAYOUT, greedy)
            assert (found.token_ids.tolist(), found.ended_by) == (wanted.token_ids.tolist(), wanted.ended_by)
            np.testing.assert_allclose(found.token_nats, wanted.token_nats, atol=1e-4)
            assert len(found.token_ids) <= limit


@pytest.mark.parametrize("kind", ["static", "h3"])
def test_with_beams_for_all_it_finds_the_best_of_all(kind: str) -> None:
    """Of all answers of up to two pieces that stop, scored in parallel: beams that part keep their caches apart."""
    config, patching = MODELS[kind]
    model = LatentSpeechTextModel(config, VOCAB_SIZE, seed=1).eval()
    (prompt,) = prompts(SPEECH, 7)
    (found,) = search(model, [prompt], [3], patching, LAYOUT, SearchOptions("text", num_beams=600))
    start = len(prompt) + 1
    answers = [(*own, end) for size in range(3) for own in product(range(6), repeat=size) for end in (9, 8)]
    ranges = [
        (
            Document(
                "d",
                np.array([*prompt.token_ids, 7, *own], np.int32),
                np.append(prompt.modalities, np.zeros(1 + len(own), np.uint8)),
            ),
            slice(start, start + len(own)),
        )
        for own in answers
    ]
    scores = [
        one.sum_nats / one.num_tokens for one in score_documents(model, ranges, patching, "static", 64, 8, LAYOUT)
    ]
    assert found.ended_by == "stop"
    best = answers[int(np.argmax(scores))]
    assert tuple(found.token_ids.tolist()) == best[:-1]


def test_every_number_of_beams_keeps_to_the_modality_and_the_limit() -> None:
    config, patching = MODELS["static"]
    model = LatentSpeechTextModel(config, VOCAB_SIZE, seed=2).eval()
    given = prompts(SPEECH, 4, 8)
    for beams in (2, 5):
        found = search(model, given, [9, 9], patching, LAYOUT, SearchOptions("text", beams))
        assert all(one.ended_by in ("stop", "length") and len(one.token_ids) <= 9 for one in found)
        assert all((one.token_ids < LAYOUT.num_text).all() for one in found)


def test_a_full_context_ends_it_and_nothing_runs_on() -> None:
    config, patching = MODELS["static"]
    model = LatentSpeechTextModel(ModelConfig(**SIZES, **LOCAL, max_patches=8), VOCAB_SIZE, seed=3).eval()
    with torch.no_grad():
        model.head.weight[[LAYOUT.eos_id, LAYOUT.speech_id]] *= 0
    (found,) = search(model, prompts(SPEECH, 6), [50], patching, LAYOUT, SearchOptions("text", 3))
    assert found.ended_by in ("context", "stop")
    assert len(found.token_ids) <= 8
    assert config.max_patches > 8


def test_what_is_not_allowed_is_named() -> None:
    with pytest.raises(UserError, match=r"modality='any', num_beams=0"):
        SearchOptions("any", 0)
