"""What must be true of the model: causality, no leaks, the reduction to the baseline, gradients, edge cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lst.kernels.attention import forced_path
from lst.model.batch import SPEECH, TEXT, Document, Patches, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document, unpatched
from lst.model.ranges import KeyRange

VOCAB_SIZE = 60
STRATEGIES = ("none", "static", "aligned")
SMALL = ModelConfig(
    global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, encoder_layers=1, decoder_layers=2,
    sub_queries=2, window_tokens=16, decoder_window_patches=8, ffn_multiple_of=8,
)  # fmt: skip
BASELINE = dataclasses.replace(SMALL, encoder_layers=0, decoder_layers=0)


def build(config: ModelConfig = SMALL, seed: int = 0) -> LatentSpeechTextModel:
    """A model in float64 whose weights are large enough that every path matters."""
    model = LatentSpeechTextModel(config, VOCAB_SIZE, seed).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
    return model


def random_patches(document: Document, seed: int) -> Patches:
    """Patches of 1 to 30 tokens that ignore words; the first holds one token."""
    rng = np.random.default_rng(seed)
    lengths = [1]
    while sum(lengths) < len(document):
        lengths.append(min(int(rng.integers(1, 31)), len(document) - sum(lengths)))
    late = rng.random(len(lengths)) < 0.3
    late[0] = False
    return Patches(np.array(lengths, np.int64), late)


def logits_of(model: LatentSpeechTextModel, document: Document, patches: Patches) -> torch.Tensor:
    with torch.no_grad():
        return model(pack_documents([[(document, patches)]], len(patches)))


@pytest.mark.parametrize("sub_queries", [1, 2, 4])
def test_causal_under_random_patches(sub_queries: int, make_document: Callable[..., Document]) -> None:
    model = build(dataclasses.replace(SMALL, sub_queries=sub_queries))
    before, changed_doc, after = (make_document(seed, 70) for seed in (1, 2, 3))
    cuts = [random_patches(document, seed) for seed, document in enumerate((before, changed_doc, after))]

    def run(document: Document) -> torch.Tensor:
        packed = pack_documents([list(zip((before, document, after), cuts, strict=True))], 300)
        with torch.no_grad():
            return model(packed)

    base = run(changed_doc)
    rng = np.random.default_rng(0)
    for token in [0, 1, 2, *rng.integers(3, 70, 20).tolist()]:
        ids = changed_doc.token_ids.copy()
        ids[token] = (ids[token] + 7) % VOCAB_SIZE
        differs = (run(dataclasses.replace(changed_doc, token_ids=ids)) - base).abs().amax(dim=1) > 1e-12
        first = 70 + token
        assert not differs[:first].any(), "a later token changed an earlier logit"
        assert differs[first], "the token's own logits must depend on it"
        assert not differs[140:].any(), "the next document saw it"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_causal_even_when_the_future_changes_the_patching(
    strategy: str, make_document: Callable[..., Document]
) -> None:
    """Replacing everything after t, cuts included, changes no logit up to t: no patch's end gives the future away.

    Aligned patches are exempt where the aligner's boundary itself is the information, so they keep their words.
    """
    model = build(SMALL if strategy != "none" else BASELINE)
    config = PatchingConfig(static_size=4)
    document = make_document(5, 80)
    base = logits_of(model, document, patch_document(document, strategy, config))
    for token in range(1, 80):
        cut = Document("cut", document.token_ids[:token], document.modalities[:token])
        if strategy == "aligned":
            units = int((cut.modalities == SPEECH).sum())
            ends = np.cumsum(document.segment_lengths)
            lengths = np.clip(units - (ends - document.segment_lengths), 0, document.segment_lengths)
            cut = dataclasses.replace(cut, segment_lengths=lengths, segment_is_silence=document.segment_is_silence)
            if units and not np.isin(units, ends):
                continue
        alone = logits_of(model, cut, patch_document(cut, strategy, config))
        torch.testing.assert_close(alone, base[:token], rtol=0, atol=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("config", [SMALL, BASELINE], ids=["lst", "baseline"])
def test_packed_equals_alone(config: ModelConfig, strategy: str, make_document: Callable[..., Document]) -> None:
    if config is BASELINE and strategy != "none":
        pytest.skip("the baseline has no patches")
    model = build(config).float()
    patching = PatchingConfig()
    documents = [make_document(seed) for seed in range(14)]
    cuts = [patch_document(document, strategy, patching) for document in documents]
    rows = [list(zip(documents[a : a + 5], cuts[a : a + 5], strict=True)) for a in range(0, 14, 5)]
    with torch.no_grad():
        packed = model(pack_documents(rows, 600))
    offset = 0
    for document, patches in zip(documents, cuts, strict=True):
        alone = logits_of(model, document, patches)
        torch.testing.assert_close(packed[offset : offset + len(document)], alone, rtol=1e-5, atol=1e-5)
        offset += len(document)
    assert offset == len(packed)


def test_patch_size_one_without_local_layers_is_the_plain_language_model(
    make_document: Callable[..., Document],
) -> None:
    """The baseline against an independent computation: embedding, backbone under a causal mask, head."""
    model = build(BASELINE)
    document = make_document(9, 50)
    ids = torch.from_numpy(document.token_ids).long()
    with torch.no_grad():
        index = torch.arange(50)
        with forced_path("reference"):
            states = model.backbone(model.embedding(ids), index, KeyRange(torch.zeros_like(index), index))
        expected = model.head(states)
    torch.testing.assert_close(logits_of(model, document, unpatched(50)), expected, rtol=0, atol=1e-12)


def test_gradients_agree_with_finite_differences(make_document: Callable[..., Document]) -> None:
    model = build(dataclasses.replace(SMALL, global_dim=8, local_dim=8, global_layers=1, decoder_layers=1))
    documents = [make_document(seed, 25) for seed in (11, 12)]
    batch = pack_documents([[(d, patch_document(d, "static", PatchingConfig())) for d in documents]], 60)
    loss = model.loss(batch)
    loss.backward()
    rng = np.random.default_rng(0)
    checked = 0
    for parameter in model.parameters():
        assert parameter.grad is not None
        for index in rng.integers(parameter.numel(), size=2):
            flat = parameter.data.view(-1)
            values = []
            for step in (1e-6, -1e-6):
                flat[index] += step
                with torch.no_grad():
                    values.append(float(model.loss(batch)))
                flat[index] -= step
            numeric = (values[0] - values[1]) / 2e-6
            assert numeric == pytest.approx(float(parameter.grad.view(-1)[index]), rel=1e-4, abs=1e-7)
            checked += 1
    assert checked > 20


def test_every_parameter_gets_a_gradient(make_document: Callable[..., Document]) -> None:
    model = build()
    documents = [make_document(seed, 60) for seed in range(4)]
    model.loss(pack_documents([[(d, patch_document(d, "static", PatchingConfig()))] for d in documents], 60)).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_edge_cases_work() -> None:
    model = build()
    one_token = Document("one", np.array([1], np.int32), np.array([TEXT], np.uint8))
    # A marker with no unit after it, and a speech patch as long as the window.
    empty_span = Document("empty", np.array([1, 2, 3], np.int32), np.zeros(3, np.uint8))
    long_patch = Document("long", np.arange(17, dtype=np.int32), np.array([TEXT] + [SPEECH] * 16, np.uint8))
    in_two = Patches(np.array([1, 16]), np.array([False, False]))
    batch = pack_documents(
        [[(one_token, unpatched(1))], [(empty_span, unpatched(3)), (long_patch, in_two)]],
        10,
    )  # fmt: skip
    logits = model(batch)
    assert logits.shape == (21, VOCAB_SIZE)
    assert torch.isfinite(logits).all()
    assert batch.target_ids[0] == -100
    assert torch.isfinite(model.loss(batch))


def test_packing_refuses_what_does_not_tile() -> None:
    document = Document("d", np.arange(5, dtype=np.int32), np.array([TEXT] + [SPEECH] * 4, np.uint8))
    for lengths, message in (
        ([1, 3], "tile its 5 tokens"),
        ([1, 0, 4], "positive"),
        ([5], "first patch must hold one"),
    ):
        patches = Patches(np.array(lengths), np.zeros(len(lengths), bool))
        with pytest.raises(ValueError, match=message):
            pack_documents([[(document, patches)]], 8)
    with pytest.raises(ValueError, match=r"train\.row_patches"):
        pack_documents([[(document, unpatched(5))]], 4)


def test_initial_loss_is_that_of_a_uniform_guess(make_document: Callable[..., Document]) -> None:
    model = LatentSpeechTextModel(SMALL, VOCAB_SIZE)
    documents = [make_document(seed, 80) for seed in range(4)]
    batch = pack_documents([[(d, patch_document(d, "static", PatchingConfig()))] for d in documents], 80)
    assert float(model.loss(batch).detach()) == pytest.approx(np.log(VOCAB_SIZE), abs=0.1)


def test_weights_are_a_function_of_the_seed() -> None:
    first, same, other = (LatentSpeechTextModel(SMALL, VOCAB_SIZE, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(dtype: torch.dtype, make_document: Callable[..., Document]) -> None:
    """Autocast, as a GPU would train; run on the CPU here, at a tiny size."""
    model = LatentSpeechTextModel(SMALL, VOCAB_SIZE)
    document = make_document(11, 50)
    batch = pack_documents([[(document, patch_document(document, "static", PatchingConfig()))]], 50)
    exact = float(model.loss(batch).detach())
    with torch.autocast("cpu", dtype):
        loss = model.loss(batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(exact, rel=1e-2)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_compiles_without_a_graph_break(make_document: Callable[..., Document]) -> None:
    """No host synchronisation and no shape that depends on data inside the forward pass."""
    model = build()
    document = make_document(3, 60)
    batch = pack_documents([[(document, patch_document(document, "static", PatchingConfig()))]], 60)
    explanation = torch._dynamo.explain(model)(batch)
    assert explanation.graph_break_count == 0, explanation.break_reasons
