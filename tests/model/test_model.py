"""What must be true of the model: causality, no leaks, the reduction to the baseline, gradients, edge cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from published_reference import PUBLISHED_CHOICES
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional

from lst.kernels.attention import forced_path
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, Patches, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.initialise import learning_rate_scale
from lst.model.loss_config import LossConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document, unpatched

VOCAB_SIZE = 60
STRATEGIES = ("none", "static", "aligned", "bpe_aligned", "merged", "entropy", "surprisal", "speech_bpe")
PATCHINGS = {
    "none": PatchingConfig("none"),
    "static": PatchingConfig("static", static_size=4),
    "aligned": PatchingConfig("aligned"),
    "bpe_aligned": PatchingConfig("aligned", aligned_to="bpe", max_patch=7),
    "merged": PatchingConfig("aligned", silence="merged"),
    "entropy": PatchingConfig("entropy", entropy_threshold=0.5, max_patch=6),
    "surprisal": PatchingConfig("entropy", entropy_measure="surprisal", entropy_threshold=0.5),
    "speech_bpe": PatchingConfig("speech_bpe"),
}
SMALL = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=2,
    local_dim=16,
    local_heads=2,
    encoder_layers=1,
    decoder_layers=2,
    sub_queries=2,
    window_tokens=16,
    decoder_window_patches=8,
    ffn_multiple_of=8,
)
BASELINE = dataclasses.replace(SMALL, encoder_layers=0, decoder_layers=0)
PUBLISHED = dataclasses.replace(
    SMALL,
    local_dim=12,
    **PUBLISHED_CHOICES,
)
# A token reads its latest complete patch alone.
LATEST = dataclasses.replace(SMALL, decoder_window_patches=1)


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


def patches_for(name: str, document: Document, seed: int = 0) -> tuple[Document, Patches]:
    """A document with what a strategy needs, and its patches; entropies are random."""
    config = PATCHINGS[name]
    num_units = int((document.modalities == SPEECH).sum())
    entropies = np.random.default_rng([seed, len(document)]).random(num_units).astype(np.float32)
    ready = dataclasses.replace(
        document,
        segment_level=config.aligned_to,
        entropies=entropies if config.strategy == "entropy" else np.zeros(0, np.float32),
    )
    return ready, patch_document(ready, config.strategy, config)


def logits_of(model: LatentSpeechTextModel, document: Document, patches: Patches) -> torch.Tensor:
    with torch.no_grad():
        return model(pack_documents([[(document, patches)]], len(patches)))


WINDOWS = {"own patch": (1, 3), "narrow": (3, 2), "wide": (512, 512)}


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("sub_queries", [1, 2, 4])
def test_causal_under_random_patches(
    sub_queries: int, windows: tuple[int, int], make_document: Callable[..., Document]
) -> None:
    encoder_window, decoder_window = windows
    model = build(
        dataclasses.replace(
            SMALL,
            sub_queries=sub_queries,
            encoder_window_patches=encoder_window,
            global_kv_heads=1,
            decoder_window_patches=decoder_window,
            encoder_layers=2,
        )
    )
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


@pytest.mark.parametrize("strategy", ["none", "static", "aligned", "marker inside"])
def test_causal_even_when_the_future_changes_the_patching(
    strategy: str, make_document: Callable[..., Document]
) -> None:
    """Replacing everything after t, cuts included, changes no logit up to t: no patch's end gives the future away.

    Aligned patches are exempt where the aligner's boundary itself is the information, so they keep their words.
    """
    model = build({"none": BASELINE, "marker inside": PUBLISHED}.get(strategy, SMALL))
    config = PatchingConfig(static_size=4, marker_inside=strategy == "marker inside")
    strategy = "static" if config.marker_inside else strategy
    document = make_document(5, 80)
    if config.marker_inside:
        # The token before each span of speech becomes the marker, which stands nowhere else.
        opens = np.diff(document.modalities, append=np.uint8(TEXT)) == 1
        ids = np.where(opens, 39, np.where(document.token_ids == 39, 38, document.token_ids))
        document = dataclasses.replace(document, token_ids=ids, speech_marker_id=39)
    base = logits_of(model, document, patch_document(document, strategy, config))
    for token in range(1, 80):
        cut = Document(
            "cut",
            document.token_ids[:token],
            document.modalities[:token],
            speech_marker_id=document.speech_marker_id,
        )
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
def test_causal_under_every_strategy(strategy: str, make_document: Callable[..., Document]) -> None:
    """In rows of several documents: a changed token changes its own logits, none before it, none of its neighbours."""
    model = build()
    pairs = [patches_for(strategy, make_document(seed, 60)) for seed in (1, 2, 3)]

    def run(document: Document) -> torch.Tensor:
        with torch.no_grad():
            return model(pack_documents([[pairs[0], (document, pairs[1][1]), pairs[2]]], 200))

    base = run(pairs[1][0])
    for token in range(0, 60, 7):
        ids = pairs[1][0].token_ids.copy()
        ids[token] = (ids[token] + 7) % VOCAB_SIZE
        differs = (run(dataclasses.replace(pairs[1][0], token_ids=ids)) - base).abs().amax(dim=1) > 1e-12
        assert not differs[: 60 + token].any()
        assert differs[60 + token]
        assert not differs[120:].any()


@pytest.mark.parametrize(
    ("config", "strategy"),
    [
        *((SMALL, name) for name in STRATEGIES),
        (BASELINE, "none"),
        (BASELINE, "speech_bpe"),
        *((config, "static") for config in (PUBLISHED, LATEST)),
    ],
    ids=[*(f"lst-{name}" for name in STRATEGIES), "baseline-none", "baseline-speech_bpe", "published", "latest patch"],
)
def test_packed_equals_alone(config: ModelConfig, strategy: str, make_document: Callable[..., Document]) -> None:
    model = build(config).float()
    pairs = [patches_for(strategy, make_document(seed)) for seed in range(14)]
    with torch.no_grad():
        packed = model(pack_documents([pairs[a : a + 5] for a in range(0, 14, 5)], 600))
    offset = 0
    for document, patches in pairs:
        alone = logits_of(model, document, patches)
        torch.testing.assert_close(packed[offset : offset + len(document)], alone, rtol=1e-5, atol=1e-5)
        offset += len(document)
    assert offset == len(packed)


def plain_language_model(weights: dict[str, torch.Tensor], ids: torch.Tensor, num_heads: int) -> torch.Tensor:
    """A decoder-only Transformer written out: RMSNorm, rotary attention under a causal mask, SwiGLU."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], weights[name], 1e-5)

    x = weights["embedding.weight"][ids]
    length, head_dim = len(ids), x.shape[-1] // num_heads
    angles = torch.arange(length)[:, None] * 500_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]
    layers = sum(name.endswith("ffn_norm.weight") for name in weights)
    for layer in range(layers):
        at = f"backbone.blocks.{layer}."
        joined = norm(x, f"{at}mixer_norm.weight") @ weights[f"{at}mixer.query_key_value.weight"].T
        query, key, value = joined.view(length, 3, num_heads, head_dim).unbind(1)

        def rotated(heads: torch.Tensor) -> torch.Tensor:
            pairs = torch.complex(*heads.float().chunk(2, dim=-1)) * turn
            return torch.cat([pairs.real, pairs.imag], dim=-1).double()

        out = functional.scaled_dot_product_attention(
            *(part.transpose(0, 1) for part in (rotated(query), rotated(key), value)), is_causal=True
        )
        x = x + out.transpose(0, 1).flatten(1) @ weights[f"{at}mixer.output.weight"].T
        gate, up = (norm(x, f"{at}ffn_norm.weight") @ weights[f"{at}ffn.gate_up.weight"].T).chunk(2, dim=-1)
        x = x + (functional.silu(gate) * up) @ weights[f"{at}ffn.output.weight"].T
    return norm(x, "backbone.norm.weight") @ weights["head.weight"].T


def test_patch_size_one_without_local_layers_is_the_plain_language_model(
    make_document: Callable[..., Document],
) -> None:
    """The baseline against a plain language model that shares its weights and none of its code."""
    model = build(BASELINE)
    document = make_document(9, 50)
    ids = torch.from_numpy(document.token_ids).long()
    expected = plain_language_model(dict(model.state_dict()), ids, BASELINE.global_heads)
    for patches in (unpatched(50), patch_document(document, "static", PatchingConfig(static_size=1))):
        torch.testing.assert_close(logits_of(model, document, patches), expected, rtol=1e-4, atol=1e-4)


def test_half_precision_weights_leave_positions_alone() -> None:
    """Converting a model, or making it without memory first, does not touch the angles of far positions."""
    positions = torch.tensor([0, 1, 4000])
    model = LatentSpeechTextModel(BASELINE, VOCAB_SIZE)
    before = model.backbone.rotary(positions)
    with torch.device("meta"):
        empty = LatentSpeechTextModel(BASELINE, VOCAB_SIZE)
    for other in (model.bfloat16(), empty.to_empty(device="cpu")):
        for a, b in zip(before, other.backbone.rotary(positions), strict=True):
            assert torch.equal(a, b)


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
    )
    with torch.no_grad():
        logits = model(batch)
        with forced_path("reference"):
            torch.testing.assert_close(logits, model(batch), rtol=0, atol=1e-10)
    assert logits.shape == (21, VOCAB_SIZE)
    offset = 0
    for document, patches in ((one_token, unpatched(1)), (empty_span, unpatched(3)), (long_patch, in_two)):
        alone = logits_of(model, document, patches)
        torch.testing.assert_close(logits[offset : offset + len(document)], alone, rtol=0, atol=1e-10)
        offset += len(document)
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


def small_batch(make_document: Callable[..., Document], strategy: str = "static") -> PackedBatch:
    return pack_documents([[patches_for(strategy, make_document(seed, 60)) for seed in (3, 4)]], 120)


@pytest.mark.parametrize(
    "config",
    [SMALL, dataclasses.replace(PUBLISHED, global_layers=1, decoder_layers=1)],
    ids=["ours", "published"],
)
def test_compiles_without_a_graph_break(config: ModelConfig, make_document: Callable[..., Document]) -> None:
    """The whole loss in one graph, with gradients that equal those of the plain model."""
    model, batch = build(config), small_batch(make_document)
    plain = torch.autograd.grad(model.loss(batch), list(model.parameters()))
    compiled = torch.compile(model.loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(plain, torch.autograd.grad(compiled(batch), list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED, LATEST], ids=["ours", "published", "latest patch"])
def test_a_step_waits_for_nothing(config: ModelConfig, make_document: Callable[..., Document]) -> None:
    """On tensors without values, where any read of a value by the host raises."""
    model, batch = LatentSpeechTextModel(config, VOCAB_SIZE), small_batch(make_document)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = dataclasses.replace(
            batch,
            **{
                field.name: mode.from_tensor(value)
                for field in dataclasses.fields(batch)
                if isinstance(value := getattr(batch, field.name), torch.Tensor)
            },
        )
        model.loss(fake, LossConfig(0.5, 2.0, 1e-3)).backward()
        with pytest.raises(DataDependentOutputException):
            fake.token_ids.max().item()


def test_losses_are_weighted_by_the_modality_of_the_target(make_document: Callable[..., Document]) -> None:
    model, batch = build(), small_batch(make_document)
    with torch.no_grad():
        logits = model(batch)
        nats = functional.cross_entropy(logits, batch.target_ids, ignore_index=-100, reduction="none")
        has_target = batch.target_ids != -100
        torch.testing.assert_close(model.losses(batch), nats)
        torch.testing.assert_close(model.loss(batch), nats[has_target].mean())
        weights = torch.where(batch.target_modalities == SPEECH, 3.0, 0.5)[has_target].double()
        penalty = 0.1 * logits.logsumexp(dim=-1).square()
        expected = (weights * (nats + penalty)[has_target]).sum() / weights.sum()
        torch.testing.assert_close(model.loss(batch, LossConfig(0.5, 3.0, 0.1)), expected)
        # The modality is the target's, not the token's that predicts it.
        to_unit = torch.from_numpy(np.isin(batch.target_ids, np.arange(40, VOCAB_SIZE)))
        assert torch.equal(batch.target_modalities == SPEECH, to_unit)
        text_only = model.loss(batch, LossConfig(speech_weight=0.0))
        torch.testing.assert_close(text_only, nats[has_target & ~to_unit].mean())


def test_a_batch_without_any_target_has_no_loss() -> None:
    model = LatentSpeechTextModel(SMALL, VOCAB_SIZE)
    lonely = Document("one", np.array([1], np.int32), np.array([TEXT], np.uint8))
    loss = model.loss(pack_documents([[(lonely, unpatched(1))]], 4))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_ids_and_lengths_that_do_not_fit_are_named(make_document: Callable[..., Document]) -> None:
    document = make_document(3, 60)
    for ids in (document.token_ids + VOCAB_SIZE, document.token_ids - VOCAB_SIZE):
        batch = pack_documents([[(dataclasses.replace(document, token_ids=ids), unpatched(60))]], 60)
        with pytest.raises(
            ValueError, match=rf"token ids reach from {ids.min()} to {ids.max()}, but .* vocabulary is 0 to 59"
        ):
            build()(batch)
    with pytest.raises(
        ValueError, match=r"a document has 60 patches, but the model's context is 50.*model\.max_patches"
    ):
        build(dataclasses.replace(SMALL, max_patches=50))(pack_documents([[(document, unpatched(60))]], 60))
    for change, message in (
        ({"global_kv_heads": 3}, "global_kv_heads=3: must divide model.global_heads=2"),
        ({"init": "xavier"}, "model.init=xavier: allowed are depth_scaled, mup"),
        ({"max_patches": 0}, "model.max_patches=0: must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            LatentSpeechTextModel(dataclasses.replace(SMALL, **change), VOCAB_SIZE)


def logit_change(init: str, dim: int, batch: PackedBatch) -> float:
    """How much some steps of Adam, by the rates that go with the initial weights, change the logits."""
    config = dataclasses.replace(
        BASELINE, global_dim=dim, global_heads=dim // 16, init=init, mup_base_dim=32, init_std=0.1, ffn_multiple_of=4
    )
    model = LatentSpeechTextModel(config, VOCAB_SIZE)
    groups = [
        {"params": [p], "lr": 0.01 * learning_rate_scale(name, p, config)} for name, p in model.named_parameters()
    ]
    optimizer = torch.optim.Adam(groups)
    with torch.no_grad():
        before = model(batch)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(batch) - before).square().mean().sqrt())


def test_mup_changes_logits_alike_at_every_width(make_document: Callable[..., Document]) -> None:
    """The coordinate check: with plain initial weights and one rate, the change grows with the width."""
    batch = small_batch(make_document, "none")
    plain, mup = ([logit_change(init, dim, batch) for dim in (32, 512)] for init in ("depth_scaled", "mup"))
    assert plain[0] == pytest.approx(mup[0], rel=0.35)
    assert mup[1] / mup[0] < 1.7
    assert plain[1] / plain[0] > 2 * mup[1] / mup[0]
