"""Patches whose ends the boundary head decides: from the prefix alone, stepwise as in parallel, and at what cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lst.data.config import InterleaveConfig, SimulatedConfig
from lst.data.documents import DocumentBuilder
from lst.data.synthesis.simulated import SimulatedSpeech, mean_phones
from lst.model.batch import SPEECH, Document, pack_documents
from lst.model.checkpoint import CONFIG_FILE, load_model, save_model
from lst.model.config import ModelConfig, PatchingConfig, patching_problems
from lst.model.flops import model_flops, typical_workload
from lst.model.inference import (
    DecodingState,
    PatchStepper,
    SamplingOptions,
    TokenLayout,
    boundary_costs,
    cut_documents,
    generate,
    score_documents,
)
from lst.model.loss_config import LossConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, is_unseen, patch_documents, unpatched
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

LAYOUT = TokenLayout(num_text=35, first_unit_id=40, text_id=36, speech_id=37, eos_id=38)
BOS, VOCAB_SIZE = 35, 60
CONFIG = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=2,
    local_dim=16,
    local_heads=2,
    encoder_layers=2,
    decoder_layers=1,
    window_tokens=11,
    encoder_window_patches=3,
    decoder_window_patches=5,
    ffn_multiple_of=8,
    init_std=0.3,
    boundary_head=True,
)
ALIGNED = PatchingConfig("aligned")
PATCHINGS = {"unlimited": ALIGNED, "at most 3": replace(ALIGNED, max_patch=3)}
every_patching = pytest.mark.parametrize("patching", PATCHINGS.values(), ids=PATCHINGS)


@pytest.fixture(scope="module")
def model() -> LatentSpeechTextModel:
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE, seed=1).double().eval()
    with torch.no_grad():
        model.boundary_head.logit.weight.mul_(4.0)
        model.boundary_head.threshold.fill_(0.2)
    return model


def document_of(ids: np.ndarray, name: str = "d") -> Document:
    ids = ids.astype(np.int32)
    return Document(name, ids, (ids >= LAYOUT.first_unit_id).astype(np.uint8), speech_marker_id=LAYOUT.speech_id)


def marked_document(seed: int, num_tokens: int) -> Document:
    """<bos>, then spans of speech and of text behind their markers."""
    draw, ids = np.random.default_rng(seed), [BOS]
    while len(ids) < num_tokens:
        is_speech = (len(ids) > 1 and ids[-1] < LAYOUT.num_text) or (len(ids) == 1 and seed % 2)
        low, high = (LAYOUT.first_unit_id, VOCAB_SIZE) if is_speech else (0, LAYOUT.num_text)
        ids += [LAYOUT.marker_id(int(is_speech)), *draw.integers(low, high, draw.integers(1, 24))]
    return document_of(np.array(ids[:num_tokens]), f"doc-{seed}")


def cut(model: LatentSpeechTextModel, documents: list[Document], patching: PatchingConfig = ALIGNED) -> list:
    return cut_documents(model, documents, "decoded", patching)


@every_patching
def test_a_document_is_cut_like_its_beginning_and_in_any_company(
    model: LatentSpeechTextModel, patching: PatchingConfig
) -> None:
    documents = [marked_document(seed, 60 + seed) for seed in range(6)]
    together = cut(model, documents, patching)
    lengths = np.concatenate([own.lengths for own in together])
    assert len(np.unique(lengths)) > 2
    assert {True, False} == {bool(late) for own in together for late in own.closes_late}
    assert not patching.max_patch or lengths.max() == patching.max_patch
    for document, own in zip(documents, together, strict=True):
        (alone,) = cut(model, [document], patching)
        assert (own.lengths == alone.lengths).all()
        assert (own.closes_late == alone.closes_late).all()
        for length in (1, 7, 20, 33):
            (head,) = cut(model, [document_of(document.token_ids[:length])], patching)
            # The last patch of a beginning may go on.
            assert (head.lengths[:-1] == own.lengths[: len(head) - 1]).all()
            if not head.closes_late[-1]:
                assert head.lengths[-1] == own.lengths[len(head) - 1]


def test_the_heads_states_are_those_of_the_encoder_whatever_the_patches(model: LatentSpeechTextModel) -> None:
    document = marked_document(3, 50)
    logits = []
    for patches in (unpatched(50), *patch_documents([document], "static", PatchingConfig())):
        batch = pack_documents([[(document, patches)]], 50)
        states = model._states(batch)[1]
        logits += [model.boundary_head(states), model.boundary_logits(batch)]
    for own in logits[1:]:
        torch.testing.assert_close(own, logits[0], rtol=0, atol=1e-12)


@every_patching
@torch.inference_mode()
def test_stepping_equals_the_parallel_form(model: LatentSpeechTextModel, patching: PatchingConfig) -> None:
    documents, lengths = [marked_document(seed, 70) for seed in range(5)], [1, 2, 9, 20, 37]
    cuts = cut(model, documents, patching)
    expected = [model(pack_documents([[pair]], len(pair[1]))) for pair in zip(documents, cuts, strict=True)]
    heads = [document_of(d.token_ids[:n]) for d, n in zip(documents, lengths, strict=True)]
    steppers = [PatchStepper(patching, LAYOUT.first_unit_id, has_boundary_head=True) for _ in heads]
    patches = cut(model, heads, patching)
    for stepper, head, own in zip(steppers, heads, patches, strict=True):
        stepper.begin(head, own)
    state = DecodingState(model, heads, patches, steppers)
    for offset in range(33):
        for row, (length, logits) in enumerate(zip(lengths, expected, strict=True)):
            torch.testing.assert_close(state.logits[row], logits[length + offset - 1], rtol=0, atol=1e-9)
        places = [length + offset for length in lengths]
        state.step(
            np.array([d.token_ids[p] for d, p in zip(documents, places, strict=True)]),
            np.array([d.modalities[p] for d, p in zip(documents, places, strict=True)]),
        )
    for starts, own, length in zip(state.patch_starts, cuts, lengths, strict=True):
        assert set(starts) <= {0, *np.cumsum(own.lengths).tolist()}, length


@every_patching
def test_likelihoods_sum_to_one_over_the_next_event_and_are_those_of_generation(
    model: LatentSpeechTextModel, patching: PatchingConfig
) -> None:
    """Every next token is scored in a document of its own, which is cut anew."""
    document = marked_document(1, 40)
    for length in (2, 5, 17, 26, 39):
        prefix = document.token_ids[:length]
        items = [(document_of(np.append(prefix, token)), slice(length, length + 1)) for token in range(VOCAB_SIZE)]
        scores = [scored.sum_nats for scored in score_documents(model, items, patching, "decoded", 64)]
        assert math.fsum(map(math.exp, scores)) == pytest.approx(1, abs=1e-6)
    prompts = [document_of(document.token_ids[:length]) for length in (3, 12)]
    drawn = generate(model, prompts, patching, LAYOUT, SamplingOptions(12, modality="speech", seed=2))
    for prompt, own in zip(prompts, drawn, strict=True):
        # The marker of speech opens the continuation of a prompt that ends in text.
        ids = np.concatenate([prompt.token_ids, own.token_ids])
        if prompt.modalities[-1] != SPEECH:
            ids = np.insert(ids, len(prompt), LAYOUT.speech_id)
        whole = document_of(ids)
        (scored,) = score_documents(
            model, [(whole, slice(len(ids) - len(own.token_ids), len(ids)))], patching, "decoded", 64
        )
        np.testing.assert_allclose(own.token_nats, scored.token_nats, rtol=0, atol=1e-9)


def test_scores_depend_neither_on_company_nor_on_order_nor_on_sharing(model: LatentSpeechTextModel) -> None:
    draw = np.random.default_rng(0)
    items = []
    for seed in range(3):
        start = marked_document(seed, 40).token_ids
        for size in (3, 8):
            ids = np.concatenate([start, [LAYOUT.speech_id], draw.integers(40, VOCAB_SIZE, size)])
            items.append((document_of(ids), slice(41, len(ids))))
    whole = score_documents(model, items, ALIGNED, "decoded", 64, shares_beginnings=False)
    shared = score_documents(model, items[::-1], ALIGNED, "decoded", 200, rows_a_batch=1)[::-1]
    for item, a, b in zip(items, whole, shared, strict=True):
        (alone,) = score_documents(model, [item], ALIGNED, "decoded", 32)
        np.testing.assert_allclose(a.token_nats, b.token_nats, rtol=0, atol=1e-9)
        np.testing.assert_allclose(a.token_nats, alone.token_nats, rtol=0, atol=1e-9)


def test_the_joint_cost_is_that_of_units_and_boundaries_by_hand() -> None:
    """A model that finds all tokens alike, and ends a patch with a probability of 1/4."""
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE).double().eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.boundary_head.logit.weight.zero_()
        model.boundary_head.logit.bias.fill_(math.log(1 / 3))
    ids = np.array([BOS, LAYOUT.speech_id, *range(40, 52), LAYOUT.eos_id])
    document = replace(
        document_of(ids), segment_lengths=np.array([5, 1, 6], np.int32), segment_is_silence=np.zeros(3, bool)
    )
    cuts = patch_documents([document, document], "aligned", ALIGNED)
    (scored,) = score_documents(model, [(document, slice(2, 14))], ALIGNED, "aligned", 64)
    assert -scored.sum_nats == pytest.approx(12 * math.log(VOCAB_SIZE), abs=1e-9)
    # Three ends, and nine units after which a patch goes on.
    by_hand = 3 * math.log(4) + 9 * math.log(4 / 3)
    assert boundary_costs(model, [document, document], cuts) == pytest.approx([by_hand, by_hand], abs=1e-9)
    batch = pack_documents([[(document, cuts[0])]], 64)
    model.boundary_head.loss(model._states(batch)[1], batch).backward()
    # No logit is above the threshold, but a quarter of the units are ends: the threshold has to fall.
    assert model.boundary_head.threshold.grad.tolist() == pytest.approx([3 / 12])


def test_without_its_gradient_the_head_changes_nothing_of_the_language_model(
    make_document: Callable[..., Document],
) -> None:
    document = make_document(6, 60)
    batch = pack_documents([list(zip([document], patch_documents([document], "aligned", ALIGNED), strict=True))], 60)
    plain = LatentSpeechTextModel(replace(CONFIG, boundary_head=False), VOCAB_SIZE, seed=4)
    plain.loss(batch).backward()
    gradients = {}
    for flows in (False, True):
        model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE, seed=4)
        model.loss(batch, LossConfig(boundary_gradient=flows)).backward()
        gradients[flows] = {name: own.grad for name, own in model.named_parameters()}
        assert all(bool(grad.any()) for name, grad in gradients[flows].items() if name.startswith("boundary_head."))
        for name, own in plain.named_parameters():
            assert torch.equal(own, model.get_parameter(name))
            if not flows:
                assert torch.equal(own.grad, gradients[flows][name])
    assert not torch.equal(gradients[True]["embedding.weight"], gradients[False]["embedding.weight"])
    extra = 16 + (16 * 16 + 16) + (16 + 1) + 1
    assert model.num_parameters - plain.num_parameters == extra
    work = typical_workload(CONFIG, 100, 30, 20)
    costs = [model_flops(replace(CONFIG, boundary_head=has), VOCAB_SIZE, work).forward for has in (True, False)]
    assert costs[0] - costs[1] == pytest.approx(100 * 2 * 16 * 17)


@pytest.fixture(scope="module")
def spoken() -> tuple[list[Document], int]:
    """Simulated speech of five words, with its alignment."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["ball", "little", "sun", "we", "garden"], 9)) for _ in range(60)]
    config = SimulatedConfig(num_units=60)
    speech = SimulatedSpeech(config, 0, mean_phones(texts))
    tokenizer = fit_text_tokenizer(texts, 300)
    vocabulary = Vocabulary(tokenizer.vocab_size, config.num_units, tokenizer.sha256, "u")
    builder = DocumentBuilder(tokenizer, vocabulary, InterleaveConfig(), 0)
    return [builder.speech(speech.utterance(f"u{n}", text)) for n, text in enumerate(texts)], vocabulary.size


def test_the_head_learns_where_words_of_simulated_speech_end(spoken: tuple[list[Document], int]) -> None:
    documents, vocab_size = spoken
    training, held_out = documents[:40], documents[40:]
    config = replace(CONFIG, init_std=0.02, encoder_layers=1, global_layers=1)
    model = LatentSpeechTextModel(config, vocab_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = np.random.default_rng(0)

    def mean_cost() -> float:
        costs = boundary_costs(model, held_out, patch_documents(held_out, "aligned", ALIGNED))
        return sum(costs) / sum(int((document.modalities == SPEECH).sum()) for document in held_out)

    costs = [mean_cost()]
    for _ in range(60):
        chosen = [training[place] for place in draw.integers(len(training), size=4)]
        cuts = patch_documents(chosen, "aligned", ALIGNED)
        batch = pack_documents([list(zip(chosen, cuts, strict=True))], sum(map(len, cuts)))
        optimiser.zero_grad()
        model.loss(batch).backward()
        optimiser.step()
    costs.append(mean_cost())
    ends = [
        np.concatenate([np.cumsum(own.lengths) + 1000 * number for number, own in enumerate(cuts)])
        for cuts in (cut(model, held_out), patch_documents(held_out, "aligned", ALIGNED))
    ]
    num_units = sum(int((document.modalities == SPEECH).sum()) for document in held_out)
    # Patches of text are no decision: <bos>, the marker and <eos> of each document.
    found, true = (len(own) - 3 * len(held_out) for own in ends)
    hits = len(np.intersect1d(*ends)) - 3 * len(held_out)
    share = true / num_units
    assert costs[1] < min(costs[0], -share * math.log(share) - (1 - share) * math.log(1 - share)) - 0.02
    # A constant that always says "ends" has this F1; one that never does has none.
    assert 2 * hits / (found + true) > 2 * share / (1 + share) + 0.05
    # As many patches end as in the training, so what is decoded looks like what was trained on.
    assert found == pytest.approx(true, rel=0.5)


def test_folders_without_a_head_load_and_are_scored_on_static_patches(tmp_path) -> None:
    plain = LatentSpeechTextModel(replace(CONFIG, boundary_head=False), VOCAB_SIZE)
    save_model(tmp_path, plain, ALIGNED, {})
    record = json.loads((tmp_path / CONFIG_FILE).read_text())
    # As an earlier version wrote it.
    del record["model"]["boundary_head"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(record))
    model, patching, _ = load_model(tmp_path, verify=False)
    assert not any(name.startswith("boundary_head") for name in model.state_dict())
    assert inference_strategy(patching, model.config.boundary_head) == "static"
    assert is_unseen(patching, model.config.boundary_head)
    with pytest.raises(ValueError, match="no boundary head"):
        model.boundary_logits(pack_documents([[(marked_document(0, 5), unpatched(5))]], 5))


def test_a_head_that_cannot_learn_is_refused() -> None:
    assert patching_problems(CONFIG, "aligned") == []
    assert "aligned patches end" in patching_problems(CONFIG, "static")[0]
    assert "encoder" in replace(CONFIG, encoder_layers=0, decoder_layers=0).problems()[0]
