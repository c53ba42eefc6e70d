"""Stepping equals the parallel form; sampling keeps to its options; sequences of a batch do not touch each other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from published_reference import PUBLISHED_CHOICES

from lst.model.batch import SPEECH, TEXT, Document, Patches, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.inference.generate import SamplingOptions, draw_token, generate
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.inference.score import score_documents
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import CAUSAL_STRATEGIES, inference_patching, inference_strategy, patch_document
from lst.model.unit_model import UnitModel

LAYOUT = TokenLayout(num_text=35, first_unit_id=40, text_id=36, speech_id=37, eos_id=38)
BOS, VOCAB_SIZE, NUM_UNITS = 35, 60, 20
SMALL = ModelConfig(
    global_dim=24,
    global_layers=2,
    global_heads=4,
    global_kv_heads=2,
    local_dim=16,
    local_heads=2,
    local_kv_heads=1,
    encoder_layers=2,
    decoder_layers=2,
    sub_queries=2,
    window_tokens=11,
    encoder_window_patches=3,
    decoder_window_patches=5,
    ffn_multiple_of=8,
)
CONFIGS = {
    "lst": SMALL,
    "own patch": dataclasses.replace(SMALL, encoder_window_patches=1, sub_queries=1),
    "wide": dataclasses.replace(SMALL, window_tokens=512, encoder_window_patches=512, decoder_window_patches=512),
    "baseline": dataclasses.replace(SMALL, encoder_layers=0, decoder_layers=0),
    "two keys": dataclasses.replace(SMALL, decoder_keys=2),
    "shared projection": dataclasses.replace(SMALL, decoder_keys=3, decoder_shared_projection=True),
    "other residual and ends": dataclasses.replace(
        SMALL, cross_residual=2, global_norm=False, patch_projection="if_needed", sub_queries=3, local_dim=8
    ),
    "latest patch": dataclasses.replace(SMALL, decoder_window_patches=1),
    "published": dataclasses.replace(
        SMALL,
        local_dim=12,
        **PUBLISHED_CHOICES,
    ),
}
CONFIGS["published, latest patch"] = dataclasses.replace(CONFIGS["published"], decoder_window_patches=1)
UNIT_MODEL = UnitModel(NUM_UNITS, context=3, seed=1)
with torch.no_grad():
    UNIT_MODEL.output.weight.mul_(60.0)
PATCHINGS = {
    "none": PatchingConfig("none"),
    "speech_bpe": PatchingConfig("speech_bpe"),
    "static": PatchingConfig("static", static_size=4),
    "static, at most 3": PatchingConfig("static", static_size=5, max_patch=3),
    "curriculum": PatchingConfig("curriculum", static_size=3),
    "marker inside": PatchingConfig("static", static_size=4, marker_inside=True),
    "marker inside, size 1": PatchingConfig("static", static_size=1, marker_inside=True),
    "published": PatchingConfig("curriculum", static_size=3, marker_inside=True, rest_closes_late=False),
    "entropy": PatchingConfig("entropy", entropy_threshold=2.4),
    "entropy, at most 3": PatchingConfig("entropy", entropy_threshold=2.4, max_patch=3),
    "surprisal": PatchingConfig("entropy", entropy_measure="surprisal", entropy_threshold=3.0, max_patch=4),
}
# And every other strategy that cuts by past units alone.
PATCHINGS |= {name: PatchingConfig(name, max_patch=3) for name in CAUSAL_STRATEGIES if name not in PATCHINGS}


MARKED = ("marker inside", "marker inside, size 1", "published")
PUBLISHED = ("two keys", "shared projection", "other residual and ends", "latest patch", "published, latest patch")


def measure_of(patching: PatchingConfig):
    return UNIT_MODEL.next_entropy if patching.entropy_measure == "entropy" else UNIT_MODEL.last_surprisal


def with_entropies(document: Document, patching: PatchingConfig) -> Document:
    if patching.strategy != "entropy":
        return document
    is_speech = document.modalities == SPEECH
    opens = is_speech & ~np.append(False, is_speech[:-1])
    starts = np.flatnonzero(opens[is_speech])
    units = document.token_ids[is_speech] - LAYOUT.first_unit_id
    values = UNIT_MODEL.measure(units, starts, patching.entropy_measure) if len(units) else np.zeros(0, np.float32)
    return dataclasses.replace(document, entropies=values)


def marked_document(seed: int, num_tokens: int, kinds: tuple[int, ...] = (TEXT, SPEECH)) -> Document:
    """<bos>, then spans of random lengths behind their markers, the last one cut where the length is reached."""
    rng = np.random.default_rng(seed)
    ids, modality = [BOS], kinds[0]
    while len(ids) < num_tokens:
        count = int(rng.integers(1, 14))
        low, high = (LAYOUT.first_unit_id, VOCAB_SIZE) if modality == SPEECH else (0, LAYOUT.num_text)
        ids += [LAYOUT.marker_id(modality), *rng.integers(low, high, count).tolist()]
        modality = kinds[(kinds.index(modality) + 1) % len(kinds)]
    token_ids = np.array(ids[:num_tokens], np.int32)
    return document_of(token_ids, f"doc-{seed}")


def document_of(token_ids: np.ndarray, name: str = "d") -> Document:
    modalities = (token_ids >= LAYOUT.first_unit_id).astype(np.uint8)
    return Document(name, token_ids, modalities, speech_marker_id=LAYOUT.speech_id)


def head_of(document: Document, length: int) -> Document:
    return document_of(document.token_ids[:length], "head")


def build(config: ModelConfig = SMALL) -> LatentSpeechTextModel:
    model = LatentSpeechTextModel(config, VOCAB_SIZE).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
    return model


def cut(document: Document, patching: PatchingConfig) -> Patches:
    return patch_document(
        with_entropies(document, patching), inference_strategy(patching), inference_patching(patching)
    )


def start(model: LatentSpeechTextModel, prompts: list[Document], patching: PatchingConfig) -> DecodingState:
    patches = [cut(prompt, patching) for prompt in prompts]
    steppers = [PatchStepper(patching, LAYOUT.first_unit_id, measure_of(patching), LAYOUT.speech_id) for _ in prompts]
    for stepper, prompt, own in zip(steppers, prompts, patches, strict=True):
        stepper.begin(prompt, own)
    return DecodingState(model, prompts, patches, steppers)


def parallel_logits(model: LatentSpeechTextModel, document: Document, patching: PatchingConfig) -> torch.Tensor:
    patches = cut(document, patching)
    return model(pack_documents([[(document, patches)]], len(patches)))


@pytest.mark.parametrize("kinds", [(TEXT,), (SPEECH,), (TEXT, SPEECH)], ids=["text", "speech", "mixed"])
@pytest.mark.parametrize(
    ("config", "patching"),
    [
        *(("lst", patching) for patching in PATCHINGS if patching not in MARKED),
        *((config, "static") for config in ("own patch", "wide")),
        ("wide", "entropy"),
        ("baseline", "none"),
    ],
)
@torch.inference_mode()
def test_stepping_equals_the_parallel_form(config: str, patching: str, kinds: tuple[int, ...]) -> None:
    """Under teacher forcing, from prompts of several lengths that step together."""
    check_stepping(build(CONFIGS[config]), PATCHINGS[patching], kinds)


@pytest.mark.parametrize(
    ("config", "patching"),
    [
        *((config, "static") for config in PUBLISHED),
        *(("published", patching) for patching in (*MARKED, "none", "entropy")),
        ("latest patch", "none"),
        ("published, latest patch", "entropy"),
    ],
)
@torch.inference_mode()
def test_stepping_of_published_choices_equals_the_parallel_form(config: str, patching: str) -> None:
    check_stepping(build(CONFIGS[config]), PATCHINGS[patching], (TEXT, SPEECH))


def check_stepping(model: LatentSpeechTextModel, patching: PatchingConfig, kinds: tuple[int, ...]) -> None:
    documents = [marked_document(seed, 70, kinds) for seed in range(5)]
    expected = [parallel_logits(model, document, patching) for document in documents]
    lengths = [1, 2, 9, 20, 37]
    state = start(model, [head_of(d, n) for d, n in zip(documents, lengths, strict=True)], patching)
    for offset in range(34):
        for row, (length, logits) in enumerate(zip(lengths, expected, strict=True)):
            torch.testing.assert_close(state.logits[row], logits[length + offset - 1], rtol=0, atol=1e-9)
        if offset < 33:
            places = [length + offset for length in lengths]
            state.step(
                np.array([d.token_ids[p] for d, p in zip(documents, places, strict=True)]),
                np.array([d.modalities[p] for d, p in zip(documents, places, strict=True)]),
            )


@pytest.mark.parametrize("patching", PATCHINGS.values(), ids=PATCHINGS)
def test_patches_told_token_by_token_are_those_of_the_whole(patching: PatchingConfig) -> None:
    document = marked_document(11, 400)
    whole = cut(document, patching)
    stepper = PatchStepper(patching, LAYOUT.first_unit_id, measure_of(patching), LAYOUT.speech_id)
    stepper.begin(head_of(document, 1), cut(head_of(document, 1), patching))
    ends, late = [0], [False]
    for place in range(1, len(document)):
        had_ended, complete = stepper.push(int(document.token_ids[place]), int(document.modalities[place]))
        if had_ended:
            ends.append(place - 1)
            late.append(True)
        if complete:
            ends.append(place)
            late.append(False)
    if stepper.num_open:
        ends.append(len(document) - 1)
        late.append(True)
    assert np.diff(ends, prepend=-1).tolist() == whole.lengths.tolist()
    assert late == whole.closes_late.tolist()


@torch.inference_mode()
def test_one_global_step_for_four_units() -> None:
    model, patching = build(), PatchingConfig("static", static_size=4)
    state = start(model, [marked_document(1, 2, (SPEECH,))], patching)
    steps = []
    for unit in range(40, 52):
        state.step(np.array([unit]), np.array([SPEECH]))
        steps.append(state.num_global_steps)
    assert steps == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


@torch.inference_mode()
def test_sequences_can_be_dropped_on_the_way() -> None:
    model, patching = build(), PATCHINGS["static"]
    documents = [marked_document(seed, 40) for seed in range(4)]
    state = start(model, [head_of(d, 10 + 3 * i) for i, d in enumerate(documents)], patching)
    state.keep([1, 3])
    for offset in range(8):
        state.step(
            np.array([documents[i].token_ids[10 + 3 * i + offset] for i in (1, 3)]),
            np.array([documents[i].modalities[10 + 3 * i + offset] for i in (1, 3)]),
        )
    for row, i in enumerate((1, 3)):
        expected = parallel_logits(model, documents[i], patching)[10 + 3 * i + 7]
        torch.testing.assert_close(state.logits[row], expected, rtol=0, atol=1e-9)


def recomputed(
    model: LatentSpeechTextModel, prompt: Document, patching: PatchingConfig, modality: str, count: int
) -> list[int]:
    """Greedy generation that computes everything anew for each token."""
    ids = prompt.token_ids
    allowed = np.arange(VOCAB_SIZE) >= LAYOUT.first_unit_id if modality == "speech" else np.arange(VOCAB_SIZE) < 35
    for _ in range(count):
        document = document_of(ids)
        logits = parallel_logits(model, document, patching)[-1]
        ids = np.append(ids, np.int32(logits.masked_fill(~torch.from_numpy(allowed), -math.inf).argmax()))
    return ids[len(prompt) :].tolist()


@pytest.mark.parametrize("modality", ["text", "speech"])
@pytest.mark.parametrize("name", ["static", "none", "entropy", "published"])
@torch.inference_mode()
def test_greedy_generation_equals_recomputing(name: str, modality: str) -> None:
    model, patching = build(), PATCHINGS[name]
    # Stops are made impossible, so that the two must agree to the end.
    kind = SPEECH if modality == "speech" else TEXT
    with torch.no_grad():
        model.head.weight[35:40] = 0.0
        model.norm.weight.fill_(1.0)
    prompts = [marked_document(seed, n, (kind,)) for seed, n in ((1, 9), (2, 23), (3, 4))]
    options = SamplingOptions(max_new_tokens=25, temperature=0.0, modality=modality)
    found = generate(
        model, [with_entropies(p, patching) for p in prompts], patching, LAYOUT, options, measure_of(patching)
    )
    for prompt, continuation in zip(prompts, found, strict=True):
        expected = recomputed(model, prompt, patching, modality, len(continuation.token_ids))
        assert continuation.token_ids.tolist() == expected
        assert continuation.ended_by in ("length", "stop")
    assert any(len(continuation.token_ids) == 25 for continuation in found)


def run(options: SamplingOptions, prompts: list[Document] | None = None, model=None) -> list:
    prompts = prompts or [marked_document(1, 9, (SPEECH,))]
    return generate(model or build(), prompts, PATCHINGS["static"], LAYOUT, options)


def test_modality_constraints_hold() -> None:
    for seed in range(4):
        (speech,) = run(SamplingOptions(40, 1.5, modality="speech", seed=seed))
        (text,) = run(SamplingOptions(40, 1.5, modality="text", seed=seed))
        (free,) = run(SamplingOptions(80, 1.5, modality="any", seed=seed))
        assert (speech.token_ids >= LAYOUT.first_unit_id).all()
        assert (speech.modalities == SPEECH).all()
        assert (text.token_ids < LAYOUT.num_text).all()
        ids = np.append(marked_document(1, 9, (SPEECH,)).token_ids, free.token_ids)
        LAYOUT.check(Document("free", ids, (ids >= LAYOUT.first_unit_id).astype(np.uint8)))


def test_draws_depend_on_seed_and_number_alone() -> None:
    prompts = [marked_document(seed, 6 + seed, (SPEECH,)) for seed in range(3)]
    options = SamplingOptions(20, 1.0, modality="speech", seed=3)
    together, again, fewer = run(options, prompts), run(options, prompts), run(options, prompts[:2])
    for a, b in zip(together, again, strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
    for a, b in zip(together, fewer, strict=False):
        assert a.token_ids.tolist() == b.token_ids.tolist()
    other = run(dataclasses.replace(options, seed=4), prompts)
    assert [x.token_ids.tolist() for x in together] != [x.token_ids.tolist() for x in other]


def test_generation_ends_by_stop_length_or_context() -> None:
    model = build()
    options = SamplingOptions(12, 0.0, modality="speech", stop_ids=tuple(range(40, 60)))
    assert [(len(x.token_ids), x.ended_by) for x in run(options, model=model)] == [(0, "stop")]
    (full,) = run(SamplingOptions(12, 1.0, modality="speech", seed=1), model=model)
    assert full.ended_by in ("length", "stop")
    model.config = dataclasses.replace(SMALL, max_patches=5)
    (context,) = run(SamplingOptions(60, 1.0, modality="speech", seed=1), model=model)
    assert context.ended_by in ("context", "stop")
    whole = np.append(marked_document(1, 9, (SPEECH,)).token_ids, context.token_ids)
    document = Document("whole", whole, (whole >= LAYOUT.first_unit_id).astype(np.uint8))
    assert len(cut(document, PATCHINGS["static"])) <= 5


def test_token_nats_are_the_models_own() -> None:
    model, prompt = build(), marked_document(1, 9, (SPEECH,))
    (found,) = run(SamplingOptions(10, 1.3, top_k=5, modality="speech", seed=2), [prompt], model)
    ids = np.append(prompt.token_ids, found.token_ids)
    document = Document("d", ids, (ids >= LAYOUT.first_unit_id).astype(np.uint8))
    with torch.no_grad():
        log_probs = parallel_logits(model, document, PATCHINGS["static"]).log_softmax(dim=-1)
    expected = [float(log_probs[len(prompt) + i - 1, token]) for i, token in enumerate(found.token_ids)]
    np.testing.assert_allclose(found.token_nats, expected, atol=1e-9)


def test_generation_and_scores_leave_the_rest_of_a_span_open() -> None:
    """Whatever the training saw, ``rest_closes_late`` changes neither; and a score is that of generation."""
    late = PatchingConfig("static", static_size=3, marker_inside=True)
    at_once = dataclasses.replace(late, rest_closes_late=False)
    model, documents = build(), [marked_document(seed, 40) for seed in range(4)]
    assert any(patch_document(document, "static", late).closes_late.any() for document in documents)
    options = SamplingOptions(20, 1.0, modality="any", seed=1)
    items = [(document, slice(1, 40)) for document in documents]
    results = []
    for patching in (late, at_once):
        found = generate(model, [head_of(document, 11) for document in documents], patching, LAYOUT, options)
        results.append((found, score_documents(model, items, patching, "static", 64)))
    (drawn, scores), (same, equal) = results
    assert [x.token_ids.tolist() for x in drawn] == [x.token_ids.tolist() for x in same]
    for document, score, score_too in zip(documents, scores, equal, strict=True):
        np.testing.assert_array_equal(score.token_nats, score_too.token_nats)
        state = start(model, [head_of(document, 1)], at_once)
        for place in range(1, 40):
            token = document.token_ids[place : place + 1]
            assert float(state.logits.log_softmax(dim=-1)[0, token[0]]) == pytest.approx(score.token_nats[place - 1])
            state.step(token, document.modalities[place : place + 1])
    with pytest.raises(ValueError, match="pass speech_marker_id="):
        PatchStepper(late, LAYOUT.first_unit_id)


def test_draws() -> None:
    logits = torch.tensor([0.0, 3.0, -math.inf, 2.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    def seen(**options: float) -> set[int]:
        return {draw_token(logits, SamplingOptions(**options), generator) for _ in range(300)}

    assert seen(temperature=0.0) == {1}
    assert seen(temperature=5.0, top_k=2) == {1, 3}
    assert seen(temperature=5.0) == {0, 1, 3}
    # Probabilities 0.705, 0.259 and 0.035: two are needed for 0.9, one for 0.7.
    assert seen(temperature=1.0, top_p=0.9) == {1, 3}
    assert seen(temperature=1.0, top_p=0.7) == {1}


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"temperature=-1.*top_k=-2.*top_p=0.*modality='song' must be one of"):
        SamplingOptions(temperature=-1, top_k=-2, top_p=0, modality="song")
    nothing = Document("nothing", np.zeros(0, np.int32), np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="'nothing' is empty"):
        run(SamplingOptions(), [nothing])
    unopened = Document("u", np.array([BOS, 41], np.int32), np.array([TEXT, SPEECH], np.uint8))
    with pytest.raises(ValueError, match="is speech without a marker"):
        run(SamplingOptions(), [unopened])
    broken = build()
    with torch.no_grad():
        broken.embedding.weight[37] = float("nan")
    with pytest.raises(ValueError, match=r"logits are not finite: embedding\.weight hold NaN"):
        run(SamplingOptions(), model=broken)
    with pytest.raises(ValueError, match=r"stop_ids=\[99, -1\] are outside the vocabulary of 0 to 59"):
        run(SamplingOptions(stop_ids=(99, 3, -1)))
    with pytest.raises(ValueError, match="entropy patching needs the unit model"):
        generate(
            build(),
            [with_entropies(marked_document(1, 9), PATCHINGS["entropy"])],
            PATCHINGS["entropy"],
            LAYOUT,
            SamplingOptions(),
        )
