"""The whole model on a CUDA GPU against the same on the CPU; skipped where there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from lst.configs.compose import build_config
from lst.kernels.attention import attention_path
from lst.kernels.ssm import ssm_path
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, pack_documents
from lst.model.config import PatchingConfig
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.model.patching import patch_document

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

VOCAB_SIZE = 64
STATIC = PatchingConfig("static", static_size=4)
MODELS = ["lst_debug", "baseline_debug", "lst_debug_h3"]


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in training, which asks for sums in one order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def model_of(name: str) -> LatentSpeechTextModel:
    config = build_config([f"model={name}", f"patching={strategy_of(name)}"]).model
    return LatentSpeechTextModel(config, VOCAB_SIZE, seed=3)


def strategy_of(name: str) -> str:
    return "none" if name.startswith("baseline") else "static"


def batch_of(make_document: Callable[..., Document], strategy: str) -> PackedBatch:
    documents = [make_document(seed, 40 + 31 * seed) for seed in range(5)]
    cuts = [patch_document(document, strategy, STATIC) for document in documents]
    rows = [list(zip(documents[:3], cuts[:3], strict=True)), list(zip(documents[3:], cuts[3:], strict=True))]
    return pack_documents(rows, max(sum(map(len, cuts[:3])), sum(map(len, cuts[3:]))))


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_equal_the_cpu(name: str, make_document: Callable[..., Document]) -> None:
    assert attention_path(torch.device("cuda")) == ssm_path(torch.device("cuda")) == "triton"
    model, batch = model_of(name), batch_of(make_document, strategy_of(name))
    on_gpu = copy.deepcopy(model).cuda()
    losses = []
    for each, place in ((model, "cpu"), (on_gpu, "cuda")):
        loss = each.loss(batch.to(place))
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for (key, slow), fast in zip(model.named_parameters(), on_gpu.parameters(), strict=True):
        assert slow.grad is not None, key
        assert fast.grad is not None, key
        error = (fast.grad.cpu() - slow.grad).norm() / slow.grad.norm().clamp(min=1e-6)
        assert error <= 1e-4, f"{key}: relative error {error:.2e}"


@pytest.mark.parametrize("name", MODELS)
def test_training_in_bfloat16_is_the_same_twice(name: str, make_document: Callable[..., Document]) -> None:
    """Mixed precision, fused AdamW and the loss of float32, to the rounding of bfloat16; twice: bit for bit."""
    batch = batch_of(make_document, strategy_of(name)).to("cuda")

    def train(half: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        model = model_of(name).cuda()
        optimiser = build_adamw(model, 1e-3, 0.1, (0.9, 0.95))
        losses = []
        for _ in range(8):
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                loss = model.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        return losses, model.state_dict()

    once, again, exact = train(True), train(True), train(False)
    assert once[0] == again[0]
    assert all(torch.equal(x, again[1][key]) for key, x in once[1].items())
    assert exact[0][-1] < exact[0][0]
    np.testing.assert_allclose(once[0], exact[0], rtol=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_stepping_equals_the_parallel_form(name: str) -> None:
    model = model_of(name).cuda().eval()
    first_unit = VOCAB_SIZE // 2
    rng = np.random.default_rng(5)
    # A marker, then speech.
    document = Document("d", rng.integers(first_unit, VOCAB_SIZE, 90).astype(np.int32), np.full(90, SPEECH, np.uint8))
    document.token_ids[0], document.modalities[0] = 0, TEXT
    strategy = strategy_of(name)

    def head(size: int) -> Document:
        return Document("d", document.token_ids[:size], document.modalities[:size])

    with torch.inference_mode():
        cuts = patch_document(document, strategy, STATIC)
        parallel = model.head(model.hidden(pack_documents([[(document, cuts)]], len(cuts)).to("cuda")))
        prompt = head(9)
        cuts = patch_document(prompt, strategy, STATIC)
        stepper = PatchStepper(PatchingConfig(strategy, static_size=4), first_unit)
        stepper.begin(prompt, cuts)
        state = DecodingState(model, [prompt], [cuts], [stepper])
        for place in range(9, 89):
            torch.testing.assert_close(state.logits[0], parallel[place - 1], rtol=1e-3, atol=1e-4)
            state.step(document.token_ids[place : place + 1], document.modalities[place : place + 1])
