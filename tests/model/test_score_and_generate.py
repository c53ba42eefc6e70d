"""Scores do not depend on company; generation step by step equals the parallel form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lst.model.batch import SPEECH, TEXT, Document, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.generate import SamplingOptions, draw_token, generate, next_token_logits
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document
from lst.model.score import score_documents

VOCAB_SIZE, FIRST_UNIT = 60, 40
CONFIG = ModelConfig(
    global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, decoder_layers=1, window_tokens=16,
    decoder_window_patches=8, ffn_multiple_of=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LatentSpeechTextModel:
    return LatentSpeechTextModel(CONFIG, VOCAB_SIZE).double().eval()


def test_scores_are_the_log_probabilities_of_the_range(
    model: LatentSpeechTextModel, make_document: Callable[..., Document]
) -> None:
    document, patching = make_document(4, 50), PatchingConfig()
    patches = patch_document(document, "static", patching)
    with torch.no_grad():
        log_probs = model(pack_documents([[(document, patches)]], 60)).log_softmax(dim=-1)
    expected = sum(float(log_probs[t - 1, document.token_ids[t]]) for t in range(20, 45))
    (score,) = score_documents(model, [(document, slice(20, 45))], patching, "static", 60)
    assert score.num_tokens == 25
    assert score.sum_nats == pytest.approx(expected, abs=1e-9)
    assert score.mean_nats == pytest.approx(expected / 25, abs=1e-9)


def test_scores_depend_neither_on_company_nor_on_order(
    model: LatentSpeechTextModel, make_document: Callable[..., Document]
) -> None:
    documents = [make_document(seed, 20 + seed) for seed in range(12)]
    items = [(document, slice(5, len(document))) for document in documents]
    patching = PatchingConfig()
    together = score_documents(model, items, patching, "static", 64, rows_a_batch=3)
    backwards = score_documents(model, items[::-1], patching, "static", 200, rows_a_batch=1)[::-1]
    alone = [score_documents(model, [item], patching, "static", 32)[0] for item in items]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert a.sum_nats == pytest.approx(b.sum_nats, abs=1e-9)
        assert a.sum_nats == pytest.approx(c.sum_nats, abs=1e-9)


@pytest.mark.parametrize("tokens", [slice(0, 3), slice(3, 3), slice(2, 99)])
def test_a_range_outside_the_document_is_refused(
    tokens: slice, model: LatentSpeechTextModel, make_document: Callable[..., Document]
) -> None:
    with pytest.raises(ValueError, match="must be inside it"):
        score_documents(model, [(make_document(1, 10), tokens)], PatchingConfig(), "static", 32)


@pytest.mark.parametrize("strategy", ["none", "static"])
def test_stepping_equals_the_parallel_form(
    strategy: str, model: LatentSpeechTextModel, make_document: Callable[..., Document]
) -> None:
    """Under teacher forcing, for text, speech, full and short patches."""
    document = make_document(21, 60)
    patching = PatchingConfig(strategy, static_size=4)
    with torch.no_grad():
        patches = patch_document(document, strategy, patching)
        parallel = model(pack_documents([[(document, patches)]], len(patches)))
    for length in range(1, 61):
        logits = next_token_logits(model, document.token_ids[:length], document.modalities[:length], patching)
        torch.testing.assert_close(logits.double(), parallel[length - 1], rtol=0, atol=1e-5)


def prompt() -> Document:
    return Document("prompt", np.array([1, 2, 45, 46, 47], np.int32), np.array([TEXT, TEXT] + [SPEECH] * 3, np.uint8))


def test_generation_keeps_to_what_is_allowed_and_to_the_seed(model: LatentSpeechTextModel) -> None:
    units = np.arange(FIRST_UNIT, VOCAB_SIZE)
    options = SamplingOptions(max_new_tokens=12, temperature=1.0, seed=3)
    first, again = (
        generate(model, prompt(), PatchingConfig("static"), units, set(), FIRST_UNIT, options) for _ in range(2)
    )
    assert len(first) == 12
    assert (first >= FIRST_UNIT).all()
    assert first.tolist() == again.tolist()
    other = generate(
        model, prompt(), PatchingConfig("static"), units, set(), FIRST_UNIT, SamplingOptions(12, 1.0, seed=4)
    )
    assert first.tolist() != other.tolist()


def test_generation_ends_at_a_stop_token(model: LatentSpeechTextModel) -> None:
    new = generate(model, prompt(), PatchingConfig("static"), np.array([7]), {7}, FIRST_UNIT, SamplingOptions(5, 0.0))
    assert len(new) == 0


def test_draws() -> None:
    logits = torch.tensor([0.0, 3.0, float("-inf"), 2.0])
    generator = torch.Generator().manual_seed(0)
    assert draw_token(logits, SamplingOptions(temperature=0.0), generator) == 1
    top_two = {draw_token(logits, SamplingOptions(temperature=5.0, top_k=2), generator) for _ in range(60)}
    assert top_two == {1, 3}
    free = {draw_token(logits, SamplingOptions(temperature=5.0), generator) for _ in range(200)}
    assert free == {0, 1, 3}
