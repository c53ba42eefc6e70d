"""Scores are log-probabilities, by token, whatever a document is scored with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.inference.score import score_documents
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

VOCAB_SIZE, FIRST_UNIT = 60, 40
CONFIG = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=2,
    local_dim=16,
    local_heads=2,
    decoder_layers=1,
    window_tokens=16,
    decoder_window_patches=8,
    ffn_multiple_of=8,
)


@pytest.fixture(scope="module")
def model() -> LatentSpeechTextModel:
    return LatentSpeechTextModel(CONFIG, VOCAB_SIZE).double().eval()


@pytest.mark.parametrize("strategy", ["none", "static", "aligned", "entropy", "speech_bpe"])
def test_scores_are_the_log_probabilities_of_the_range(
    strategy: str, model: LatentSpeechTextModel, make_document: Callable[..., Document]
) -> None:
    document, patching = make_document(4, 50), PatchingConfig(entropy_threshold=0.5)
    num_units = int((document.modalities == SPEECH).sum())
    document = replace(document, entropies=np.random.default_rng(0).random(num_units).astype(np.float32))
    patches = patch_document(document, strategy, patching)
    with torch.no_grad():
        log_probs = model(pack_documents([[(document, patches)]], 60)).log_softmax(dim=-1)
    expected = sum(float(log_probs[t - 1, document.token_ids[t]]) for t in range(20, 45))
    (score,) = score_documents(model, [(document, slice(20, 45))], patching, strategy, 60)
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


def test_scores_by_token(model: LatentSpeechTextModel, make_document: Callable[..., Document]) -> None:
    """In any mix of modalities: parts of a document add up to the whole."""
    document, patching = make_document(6, 60), PatchingConfig()
    assert {TEXT, SPEECH} <= set(document.modalities[10:50].tolist())
    whole, first, second = score_documents(
        model, [(document, slice(10, 50)), (document, slice(10, 30)), (document, slice(30, 50))], patching, "static", 64
    )
    np.testing.assert_allclose(np.append(first.token_nats, second.token_nats), whole.token_nats, atol=1e-9)
    assert (whole.token_nats < 0).all()


def test_what_cannot_be_scored_is_named(make_document: Callable[..., Document]) -> None:
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE).eval()
    document, patching = make_document(4, 30), PatchingConfig()

    def score(**changes) -> None:
        score_documents(model, [(replace(document, **changes), slice(1, 30))], patching, "static", 64)

    with pytest.raises(ValueError, match=r"token ids reach from \d+ to 60, but this model's vocabulary is 0 to 59"):
        score(token_ids=np.where(np.arange(30) == 7, 60, document.token_ids))
    model.config = replace(CONFIG, max_patches=8)
    with pytest.raises(
        ValueError, match=r"a document has \d+ patches, but the model's context is 8.*model\.max_patches"
    ):
        score()
    model.config = CONFIG
    with torch.no_grad():
        model.backbone.norm.weight[3] = float("nan")
    with pytest.raises(ValueError, match=r"scores are not finite: backbone\.norm\.weight hold NaN"):
        score()


def test_markers_and_modalities_are_checked_where_the_layout_is_known(model: LatentSpeechTextModel) -> None:
    layout = TokenLayout(num_text=35, first_unit_id=FIRST_UNIT, text_id=36, speech_id=37, eos_id=38)

    def score(ids: list[int], modalities: list[int]) -> None:
        document = Document("d", np.array(ids, np.int32), np.array(modalities, np.uint8))
        score_documents(model, [(document, slice(1, 4))], PatchingConfig(), "static", 64, layout=layout)

    score([35, 37, 40, 41, 36, 3], [TEXT, TEXT, SPEECH, SPEECH, TEXT, TEXT])
    with pytest.raises(ValueError, match=r"token 2 is speech without a marker before it: put the id 37"):
        score([35, 36, 40, 41], [TEXT, TEXT, SPEECH, SPEECH])
    with pytest.raises(ValueError, match=r"token 3 is text without a marker before it: put the id 36"):
        score([35, 37, 40, 4], [TEXT, TEXT, SPEECH, TEXT])
    for ids in ([35, 37, 3, 4], [35, 3, 4, 5], [35, 36, 37, 4], [35, 36, 4, 37, 38, 5]):
        with pytest.raises(ValueError, match=r"is text without a marker before it"):
            score(ids, [TEXT] * len(ids))
    with pytest.raises(ValueError, match=r"token 2 has id 40 and modality 0, but ids from 40 on are speech"):
        score([35, 37, 40, 4], [TEXT, TEXT, TEXT, TEXT])


PUBLISHED = {
    "decoder_keys": 2,
    "decoder_shared_projection": True,
    "cross_residual": 2,
    "encoder_window_patches": 3,
    "encoder_layers": 2,
    "sub_queries": 3,
}


@pytest.mark.parametrize(
    ("strategy", "changed"),
    [
        ("none", {"encoder_layers": 0, "decoder_layers": 0}),
        ("none", {"encoder_layers": 0, "decoder_layers": 0, "positions": "learned", "global_kv_heads": 1}),
        ("static", {}),
        ("static", {"decoder_window_patches": 1, "global_mixers": ["window_attention"], "global_window_patches": 3}),
        ("static", PUBLISHED),
        ("entropy", {"local_kv_heads": 1}),
        ("static", {"global_mixers": ["h3", "attention"]}),
    ],
)
def test_beginnings_that_are_shared_give_the_scores_of_whole_documents(
    strategy: str, changed: dict[str, object], make_document: Callable[..., Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LatentSpeechTextModel(replace(CONFIG, init_std=0.3, **changed), VOCAB_SIZE).double().eval()
    draw = np.random.default_rng(3)
    items = []
    for context in range(4):
        start = make_document(context, 30 + context)
        for _ in range(3):
            # Endings of units go on in the context's last patch, or open a span; some are a single token.
            size = int(draw.integers(1, 14))
            rest = draw.integers(FIRST_UNIT, VOCAB_SIZE, size).astype(np.int32)
            ids = np.concatenate([start.token_ids, rest])
            kinds = np.concatenate([start.modalities, np.full(size, SPEECH, np.uint8)])
            entropies = np.random.default_rng(context).random(int((kinds == SPEECH).sum())).astype(np.float32)
            items.append((Document("a", ids, kinds, entropies=entropies), slice(len(start), len(ids))))
    # One that shares nothing, and one whose range begins before any patch is complete.
    alone = make_document(9, 25)
    alone = replace(alone, entropies=np.zeros(int((alone.modalities == SPEECH).sum()), np.float32))
    items += [(alone, slice(7, 25)), (items[0][0], slice(1, 3)), (items[1][0], slice(1, 3))]
    order = draw.permutation(len(items))
    items = [items[place] for place in order]
    patching = PatchingConfig(entropy_threshold=0.5)
    expected = score_documents(model, items, patching, strategy, 60, shares_beginnings=False)
    num_tokens = []
    original = LatentSpeechTextModel.hidden

    def counted(self: LatentSpeechTextModel, batch: PackedBatch, *arguments: object) -> torch.Tensor:
        num_tokens.append(batch.num_tokens)
        return original(self, batch, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LatentSpeechTextModel, "hidden", counted)
    for row_patches, rows in ((60, 8), (40, 1)):
        num_tokens.clear()
        found = score_documents(model, items, patching, strategy, row_patches, rows)
        for own, other in zip(found, expected, strict=True):
            assert own.num_tokens == other.num_tokens
            assert np.abs(own.token_nats - other.token_nats).max() < 1e-9
        total = sum(len(document) for document, _ in items)
        is_recurrent = "h3" in changed.get("global_mixers", [])
        assert sum(num_tokens) == total if is_recurrent else sum(num_tokens) < 0.75 * total


@pytest.mark.parametrize("strategy", ["none", "static"])
def test_a_context_is_computed_once_for_endings_of_both_modalities(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endings of units go on in the context's last patch, written ones follow a marker."""
    changed = {"encoder_layers": 0, "decoder_layers": 0} if strategy == "none" else {}
    model = LatentSpeechTextModel(replace(CONFIG, init_std=0.3, **changed), VOCAB_SIZE).double().eval()
    draw = np.random.default_rng(3)
    items, contexts = [], [draw.integers(FIRST_UNIT, VOCAB_SIZE, 50) for _ in range(2)]
    for context in contexts:
        for size in (5, 9):
            spoken, written = draw.integers(FIRST_UNIT, VOCAB_SIZE, size), np.append(36, draw.integers(0, 30, size))
            for ending, first in ((spoken, 52), (written, 53)):
                ids = np.concatenate([[35, 37], context, ending]).astype(np.int32)
                items.append((Document("a", ids, (ids >= FIRST_UNIT).astype(np.uint8)), slice(first, len(ids))))
    expected = score_documents(model, items, PatchingConfig(), strategy, 60, shares_beginnings=False)
    num_tokens = []
    original = LatentSpeechTextModel.hidden

    def counted(self: LatentSpeechTextModel, batch: PackedBatch, *arguments: object) -> torch.Tensor:
        num_tokens.append(batch.num_tokens)
        return original(self, batch, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LatentSpeechTextModel, "hidden", counted)
    found = score_documents(model, [items[place] for place in (7, 2, 0, 5, 4, 1, 3, 6)], PatchingConfig(), strategy, 60)
    for own, place in zip(found, (7, 2, 0, 5, 4, 1, 3, 6), strict=True):
        assert np.abs(own.token_nats - expected[place].token_nats).max() < 1e-9
    # The context's last patch is open where units follow. It belongs to the rests.
    rest = 1 if strategy == "none" else 2
    num_scored = sum(len(scored.token_nats) for scored in found) + sum(tokens.start == 53 for _, tokens in items)
    assert sum(num_tokens) == 2 * (52 - rest) + num_scored + len(items) * rest
