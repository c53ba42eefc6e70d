"""Recurrent mixers in the model: stepping = parallel, packed = alone, causal, published sizes, optimiser groups."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from recurrent_models import CONFIGS, NONE, PLAIN, SMALL, STATIC, VOCAB_SIZE, patching_of

from lst.configs.compose import build_config
from lst.errors import UserError
from lst.kernels.ssm import forced_path
from lst.model.batch import SPEECH, TEXT, Document, pack_documents
from lst.model.checkpoint import load_model, save_model
from lst.model.config import ModelConfig
from lst.model.flops import model_flops, workload_of_batch
from lst.model.inference.generate import SamplingOptions, generate
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.inference.token_layout import TokenLayout
from lst.model.initialise import initial_weights
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import DYNAMICS_RATE, parameter_groups
from lst.model.patching import patch_document
from lst.model.state_space import H3, DiagonalSSM, ShiftSSM

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}
LAYOUT = TokenLayout(num_text=35, first_unit_id=40, text_id=36, speech_id=37, eos_id=38)


def build(config: ModelConfig, dtype: torch.dtype = torch.float64) -> LatentSpeechTextModel:
    """A model whose weights are large enough that every path matters."""
    model = LatentSpeechTextModel(config, VOCAB_SIZE).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("query_key_value.weight", "output.weight", "embedding.weight", "head.weight")):
                parameter.mul_(8.0)
            elif name.endswith("bias"):
                parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()))
    return model


def marked_document(seed: int, num_tokens: int) -> Document:
    """A first marker, then text and speech spans behind theirs."""
    rng = np.random.default_rng(seed)
    ids, modality = [35], TEXT
    while len(ids) < num_tokens:
        low, high = (LAYOUT.first_unit_id, VOCAB_SIZE) if modality == SPEECH else (0, LAYOUT.num_text)
        ids += [LAYOUT.marker_id(modality), *rng.integers(low, high, int(rng.integers(1, 20))).tolist()]
        modality = SPEECH if modality == TEXT else TEXT
    token_ids = np.array(ids[:num_tokens], np.int32)
    return Document(f"doc-{seed}", token_ids, (token_ids >= LAYOUT.first_unit_id).astype(np.uint8))


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to the rounding of their type, measured against all logits."""
    assert (found - expected).norm() <= TOLERANCES[expected.dtype] * expected.norm()


def start(model: LatentSpeechTextModel, prompts: list[Document]) -> DecodingState:
    patching = patching_of(model.config)
    patches = [patch_document(prompt, patching.strategy, patching) for prompt in prompts]
    steppers = [PatchStepper(patching, LAYOUT.first_unit_id) for _ in prompts]
    for stepper, prompt, own in zip(steppers, prompts, patches, strict=True):
        stepper.begin(prompt, own)
    return DecodingState(model, prompts, patches, steppers)


def parallel_logits(model: LatentSpeechTextModel, *documents: Document) -> torch.Tensor:
    patching = patching_of(model.config)
    return model(pack_documents([[(d, patch_document(d, patching.strategy, patching)) for d in documents]], 1000))


def head_of(document: Document, length: int) -> Document:
    return Document("head", document.token_ids[:length], document.modalities[:length])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_stepping_equals_the_parallel_form(name: str, dtype: torch.dtype) -> None:
    """From prompts of several lengths (one of a single token) that step together: step = parallel = prefill, then step.

    Float32 takes the compiled kernels where they were built, float64 the products in PyTorch.
    """
    model = build(CONFIGS[name], dtype)
    documents = [marked_document(seed, 70) for seed in range(4)]
    expected = [parallel_logits(model, document) for document in documents]
    lengths = [1, 2, 20, 37]
    state = start(model, [head_of(d, n) for d, n in zip(documents, lengths, strict=True)])
    for offset in range(34):
        for row, (length, logits) in enumerate(zip(lengths, expected, strict=True)):
            assert_near(state.logits[row], logits[length + offset - 1])
        if offset < 33:
            places = [length + offset for length in lengths]
            state.step(
                np.array([d.token_ids[p] for d, p in zip(documents, places, strict=True)]),
                np.array([d.modalities[p] for d, p in zip(documents, places, strict=True)]),
            )


@pytest.mark.parametrize("damage", ["no keys", "shifted keys", "states × 0.9"])
@torch.inference_mode()
def test_the_comparison_would_see_a_wrong_state(damage: str) -> None:
    """What the test above must not let through: steps from a state that is off."""
    model = build(CONFIGS["h3"], torch.float32)
    document = marked_document(3, 40)
    expected = parallel_logits(model, document)
    state = start(model, [head_of(document, 37)])
    for layer in state.states:
        keys, modes = layer.state
        wrong_keys = {"no keys": keys * 0, "shifted keys": keys.roll(1, dims=1)}.get(damage, keys)
        layer.state = (wrong_keys, modes * 0.9 if damage == "states × 0.9" else modes)
    errors = []
    for place in range(37, 40):
        state.step(document.token_ids[place : place + 1], document.modalities[place : place + 1])
        errors.append(float((state.logits[0] - expected[place]).norm() / expected[place].norm()))
    assert max(errors) > 10 * TOLERANCES[torch.float32]


@torch.inference_mode()
def test_a_state_has_one_size_at_every_length() -> None:
    model = build(CONFIGS["plain h3"], torch.float32)
    sizes = {
        sum(tensor.numel() for layer in start(model, [marked_document(0, length)]).states for tensor in layer.state)
        for length in (1, 16, 300)
    }
    assert sizes == {3 * (24 * 4 + 24 * 6)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_equals_alone(name: str, dtype: torch.dtype, make_document: Callable[..., Document]) -> None:
    model = build(CONFIGS[name], dtype)
    documents = [make_document(seed, length) for seed, length in enumerate([1, 40, 2, 17, 90])]
    with torch.no_grad():
        packed = parallel_logits(model, *documents)
        alone = torch.cat([parallel_logits(model, document) for document in documents])
    assert_near(packed, alone)


@pytest.mark.parametrize("name", CONFIGS)
def test_causal(name: str, make_document: Callable[..., Document]) -> None:
    model = build(CONFIGS[name])
    before, changed, after = (make_document(seed, 70) for seed in (1, 2, 3))
    with torch.no_grad():
        base = parallel_logits(model, before, changed, after)
        for token in (0, 1, 13, 40, 69):
            ids = changed.token_ids.copy()
            ids[token] = (ids[token] + 1) % 35 if ids[token] < 35 else ids[token]
            if changed.modalities[token] == SPEECH:
                ids[token] = 40 + (ids[token] - 39) % 20
            logits = parallel_logits(model, before, dataclasses.replace(changed, token_ids=ids), after)
            differs = (logits - base).abs().amax(dim=1) > 1e-10
            assert not differs[: 70 + token].any()
            assert not differs[140:].any()
            assert differs[70 + token] == (ids[token] != changed.token_ids[token])


@pytest.mark.parametrize("path", ["matrix", "convolution", "reference"])
@pytest.mark.parametrize("name", ["h3, heads of 8", "s4d"])
def test_every_path_of_the_kernel_gives_the_same_loss_and_gradients(
    name: str, path: str, make_document: Callable[..., Document]
) -> None:
    config = CONFIGS[name]
    documents = [make_document(seed, 60) for seed in range(3)]
    rows = [[(d, patch_document(d, "static", STATIC)) for d in documents]]

    def gradients() -> dict[str, torch.Tensor]:
        model = build(config, torch.float32)
        model.loss(pack_documents(rows, 500)).backward()
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    usual = gradients()
    with forced_path(path):
        other = gradients()
    assert usual.keys() == other.keys()
    for key, grad in usual.items():
        assert (grad - other[key]).norm() <= 2e-4 * grad.norm() + 1e-7, key


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name: str, make_document: Callable[..., Document]) -> None:
    model = build(CONFIGS[name])
    documents = [make_document(seed, 70) for seed in range(4)]
    patching = patching_of(model.config)
    model.loss(
        pack_documents([[(d, patch_document(d, patching.strategy, patching)) for d in documents]], 500)
    ).backward()
    still = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


def test_autocast_leaves_states_in_float32(make_document: Callable[..., Document]) -> None:
    """Linear layers run in bfloat16; what enters the SSM, its parameters and its result are float32."""
    seen: list[torch.dtype] = []
    model = LatentSpeechTextModel(CONFIGS["plain h3"], VOCAB_SIZE).eval()
    mixer = model.backbone.blocks[0].mixer
    assert isinstance(mixer, H3)
    original = mixer.mix

    def spy(*inputs: torch.Tensor, **options: torch.Tensor) -> tuple[torch.Tensor, object]:
        out, state = original(*inputs, **options)
        seen.extend([*(x.dtype for x in inputs), out.dtype])
        return out, state

    mixer.mix = spy  # type: ignore[method-assign]
    document = make_document(3, 50)
    with torch.no_grad():
        exact = parallel_logits(model, document)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = parallel_logits(model, document)
    assert seen == [torch.float32] * 8
    assert (near.float() - exact).norm() <= 0.02 * exact.norm()


def test_discretisations_agree_with_the_matrix_exponential() -> None:
    """Zero-order hold is exact for held inputs; bilinear is its approximation of second order in dt."""
    for method, tolerance in (("zoh", 1e-8), ("bilinear", 2e-3)):
        ssm = DiagonalSSM(3, 2, method)
        ssm.draw_parameters(torch.Generator().manual_seed(0))
        with torch.no_grad():
            ssm.log_dt.fill_(math.log(0.02))
            decay, readout = ssm.discretised()
        a = torch.complex(torch.tensor([-0.5, -0.5]).double(), torch.pi * torch.arange(2).double())
        exact = torch.matrix_exp(torch.diag(a * ssm.log_dt.detach().double().exp()[0]))
        assert (decay[0] - torch.diagonal(exact)).abs().max() <= tolerance
        held = torch.linalg.solve(torch.diag(a), exact - torch.eye(2)) @ torch.ones(2, dtype=a.dtype)
        c = torch.view_as_complex(ssm.C.detach().double())[0]
        assert (readout[0] - c * held).abs().max() <= tolerance


def test_shift_ssm_is_its_recurrence() -> None:
    """Taps against the state that shifts, input by input."""
    shift = ShiftSSM(3, 7)
    generator = torch.Generator().manual_seed(0)
    shift.draw_parameters(generator)
    with torch.no_grad():
        shift.B.normal_(generator=generator)
    keys = torch.randn(20, 3, generator=generator)
    state, outputs = torch.zeros(3, 7), []
    for key in keys:
        state = torch.cat([torch.zeros(3, 1), state[:, :-1]], dim=1) + shift.B * key[:, None]
        outputs.append((shift.C * state).sum(dim=1) + shift.skip * key)
    padded = torch.cat([torch.zeros(6, 3), keys]).unfold(0, 7, 1)
    torch.testing.assert_close((padded * shift.taps().flip(1)).sum(-1), torch.stack(outputs))


def test_start_is_the_published_one() -> None:
    model = LatentSpeechTextModel(dataclasses.replace(PLAIN, ssm_modes=32, shift_taps=64), VOCAB_SIZE, seed=3)
    mixer = model.backbone.blocks[1].mixer
    assert isinstance(mixer, H3)
    dt = mixer.ssm.log_dt.exp()
    assert 1e-3 <= dt.min() < dt.max() <= 0.1
    assert torch.equal(mixer.ssm.frequency[5], math.pi * torch.arange(32))
    torch.testing.assert_close(mixer.ssm.log_decay.exp(), torch.full((24, 32), 0.5))
    assert torch.equal(mixer.shift.B, torch.eye(64)[0].expand(24, 64))
    assert not mixer.query_key_value.bias.any()
    again = LatentSpeechTextModel(dataclasses.replace(PLAIN, ssm_modes=32, shift_taps=64), VOCAB_SIZE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", ["the example of docs/extend", "all in one"])
def test_a_module_that_draws_its_parameters_keeps_them(name: str) -> None:
    """Also where the model is on the meta device, which holds no values; what it does not draw begins as usual."""
    model = LatentSpeechTextModel(CONFIGS[name], VOCAB_SIZE, seed=3)
    with torch.device("meta"):
        empty = LatentSpeechTextModel(CONFIGS[name], VOCAB_SIZE, seed=3)
    later = {key: whole.clone() for key, whole in initial_weights(empty, empty.config, 3)}
    assert later.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(later[key], parameter) for key, parameter in model.named_parameters())
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    if name != "all in one":
        assert torch.equal(later["backbone.blocks.1.mixer.decay_logit"], torch.linspace(0.0, 4.0, 24))
        assert not later["backbone.blocks.1.mixer.output.bias"].any()
        assert later["backbone.blocks.1.mixer.gate_value.weight"].std() == pytest.approx(0.02, rel=0.1)


def test_optimiser_leaves_dynamics_without_decay_and_slow() -> None:
    model = LatentSpeechTextModel(dataclasses.replace(SMALL, global_mixers=["h3", "s4d", "attention"]), VOCAB_SIZE)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, learning_rate=5e-3, weight_decay=0.1)
    assert sorted(names.values()) == sorted(names[p] for group in groups for p in group["params"])
    found = {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, (rate, decay) in found.items():
        if name.rpartition(".")[2] in ("log_dt", "log_decay", "frequency", "B"):
            assert (rate, decay) == (DYNAMICS_RATE, 0.0), name
        else:
            assert rate == 5e-3, name
    assert found["backbone.blocks.0.mixer.ssm.C"][1] == 0.1
    assert found["backbone.blocks.0.mixer.ssm.skip"][1] == 0.0
    assert found["embedding.weight"][1] == 0.0
    copied = parameter_groups(copy.deepcopy(model), learning_rate=5e-3, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in copied] == [
        (g["lr"], g["weight_decay"], len(g["params"])) for g in groups
    ]
    slow = parameter_groups(model, learning_rate=2e-4, weight_decay=0.1)
    assert {group["lr"] for group in slow} == {2e-4}


# Millions of parameters with a vocabulary of 50,257: the names round these.
PUBLISHED = {"h3_125m": (126.1, 12), "h3_355m": (361.0, 24), "h3_1_3b": (1326.1, 24), "h3_2_7b": (2671.1, 32)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    """Counted on the meta device: nothing is allocated."""
    config = build_config([f"model={name}", "patching=none"]).model
    with torch.device("meta"):
        model = LatentSpeechTextModel(config, 50_257)
    millions, layers = PUBLISHED[name]
    assert model.num_parameters / 1e6 == pytest.approx(millions, abs=0.1)
    attention = [layer for layer, mixer in enumerate(config.mixers, start=1) if mixer == "attention"]
    assert attention == [2, 2 + layers // 2]
    dim = config.global_dim
    # Maps, feed-forward and norms of a layer with their biases; the SSMs of H3; attention's maps have no bias.
    layer = 12 * dim * dim + 13 * dim
    state_spaces = (2 * 64 + 1) * dim + (1 + 2 * 32 + 2 * 64 + 1) * dim
    total = (50_257 + 2) * dim + layers * layer + (layers - 2) * state_spaces - 2 * 4 * dim
    assert model.num_parameters == total


def test_lst_1b_with_a_hybrid_backbone() -> None:
    config = build_config(["model=lst_1b_h3"]).model
    assert (config.mixers.count("h3"), config.mixers.count("attention")) == (23, 2)
    assert config.decoder_layers == 9


def test_flops_count_the_recurrence(make_document: Callable[..., Document]) -> None:
    """Against sums written out for one layer of each mixer."""
    documents = [make_document(seed, 50) for seed in range(3)]
    rows = [[(d, patch_document(d, "none", NONE)) for d in documents]]
    dim, m = 24, 150
    expected = {
        "h3": m * (8 * dim * dim + 2 * 5 * dim + dim * 8 * (12 * 6 + 4)),
        "s4d": m * (4 * dim * dim + dim * 12 * 6),
        "window_attention": m * 8 * dim * dim + 4 * dim * 3 * sum(min(i + 1, 7) for i in range(50)),
    }
    for mixer, mixing in expected.items():
        config = dataclasses.replace(
            PLAIN, global_layers=1, global_mixers=[mixer], h3_head_dim=8, global_window_patches=7, ffn="gelu"
        )
        flops = model_flops(config, VOCAB_SIZE, workload_of_batch(pack_documents(rows, 500), config))
        assert flops.backbone == mixing + m * 16 * dim * dim


def test_generation_and_saving_of_a_hybrid(tmp_path: Path) -> None:
    model = build(CONFIGS["plain hybrid"], torch.float32)
    save_model(tmp_path / "model", model, NONE, {})
    loaded, _, _ = load_model(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model"]["global_mixers"] == ["h3_hybrid"]
    options = SamplingOptions(max_new_tokens=20, temperature=0.0, modality="any")
    prompts = [marked_document(1, 9), marked_document(2, 1)]
    first, second = (generate(m, prompts, NONE, LAYOUT, options) for m in (model, loaded.eval()))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.token_ids, b.token_ids)


def test_tied_head_is_kept_once(tmp_path: Path) -> None:
    model = build(CONFIGS["plain h3"], torch.float32)
    assert "head.weight" not in model.state_dict()
    save_model(tmp_path / "model", model, NONE, {})
    loaded, _, _ = load_model(tmp_path / "model")
    assert torch.equal(loaded.head.weight, loaded.embedding.weight)
    assert loaded.head.weight.data_ptr() == loaded.embedding.weight.data_ptr()
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_compiles_without_a_graph_break(make_document: Callable[..., Document]) -> None:
    model = build(CONFIGS["h3"], torch.float32)
    documents = [make_document(seed, 60) for seed in range(3)]
    batch = pack_documents([[(d, patch_document(d, "static", STATIC)) for d in documents]], 500)
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch), model.loss(batch))
    compiled(batch).backward()
    grads = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model.loss(batch).backward()
    for a, b in zip(grads, (p.grad for p in model.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_mup_leaves_tables_and_state_spaces_alone() -> None:
    config = dataclasses.replace(SMALL, init="mup", mup_base_dim=8, positions="learned")
    model = LatentSpeechTextModel(config, VOCAB_SIZE)
    rates = {id(p): group["lr"] for group in parameter_groups(model, 1e-3, 0.1) for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith(("query_key_value.weight", "gate_up.weight"))
        assert (rates[id(parameter)] < 1e-3) >= is_matrix, name
        if "positions" in name or ".ssm." in name or ".shift." in name or name == "embedding.weight":
            assert rates[id(parameter)] == 1e-3, name
    positions = model.backbone.positions
    assert positions is not None
    assert float(positions.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    problems = dataclasses.replace(PLAIN, init="mup", tied_head=True).problems()
    assert "need different scales" in "\n".join(problems)


def test_mistakes_are_named_all_at_once() -> None:
    wrong = dataclasses.replace(
        SMALL, global_mixers=["h3", "mamba"], positions="sine", norm="batch", embedding_dropout=1.0, shift_taps=0
    )
    problems = "\n".join(wrong.problems())
    for part in (
        "global_mixers=mamba: allowed are attention, window_attention, h3, s4d",
        "2 entries: needed is one",
        "positions=sine: allowed are rotary, learned, none",
        "norm=batch",
        "embedding_dropout=1.0",
        "shift_taps=0: must be 1 or more",
    ):
        assert part in problems
    assert "must divide model.global_dim=24" in "\n".join(dataclasses.replace(SMALL, h3_head_dim=5).problems())
    with pytest.raises(UserError, match="global_mixers"):
        build_config(["model.global_mixers=[h3,h4]"])
