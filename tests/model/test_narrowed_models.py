"""Models in half precision: their state spaces stay in float32, and they learn as under autocast."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from recurrent_models import CONFIGS, VOCAB_SIZE, patching_of

from lst.kernels.ssm.kernels import ssm_kernel
from lst.model.batch import Document, pack_documents
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import parameter_groups
from lst.model.patching import patch_document
from lst.model.state_space import H3, DiagonalSSM

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["all in one", "plain hybrid"])
def test_narrowing_a_model_leaves_state_spaces_in_float32(name: str, dtype: torch.dtype) -> None:
    """Converted, or built while a half precision is the default: bit for bit as before, and still widened by double."""
    model = LatentSpeechTextModel(CONFIGS[name], VOCAB_SIZE)
    before = copy.deepcopy(model.state_dict())
    parts = {key for key in before if ".ssm." in key or ".shift." in key}
    assert len(parts) >= 12
    for key, tensor in model.to(dtype).state_dict().items():
        assert tensor.dtype == (torch.float32 if key in parts else dtype), key
        assert torch.equal(tensor, before[key] if key in parts else before[key].to(dtype)), key
    mixer = model.backbone.blocks[0].mixer
    assert isinstance(mixer, H3)
    assert mixer.shift.taps().dtype == torch.float32
    assert {p.dtype for p in model.double().parameters()} == {torch.float64}
    try:
        torch.set_default_dtype(dtype)
        built = LatentSpeechTextModel(CONFIGS[name], VOCAB_SIZE).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {built[key].dtype for key in parts} == {torch.float32}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_in_bfloat16_learns_as_under_autocast(name: str, make_document: Callable[..., Document]) -> None:
    """The same loss and gradients, up to bfloat16's rounding, then a step that moves every SSM by its full rate."""
    config = CONFIGS[name]
    patching = patching_of(config)
    documents = [make_document(seed, 60) for seed in range(3)]
    batch = pack_documents([[(d, patch_document(d, patching.strategy, patching)) for d in documents]], 500)
    narrow, wide = (LatentSpeechTextModel(config, VOCAB_SIZE) for _ in range(2))
    narrow.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = wide.loss(batch)
    loss = narrow.loss(batch)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=5e-3)
    loss.backward()
    expected.backward()
    wide_grads = {key: p.grad for key, p in wide.named_parameters()}
    for key, parameter in narrow.named_parameters():
        grad, near = parameter.grad, wide_grads[key]
        assert grad is not None
        assert near is not None
        assert (grad.float() - near).norm() <= 0.1 * near.norm() + 1e-6, key
    before = copy.deepcopy(narrow.state_dict())
    optimiser = torch.optim.AdamW(parameter_groups(narrow, 1e-5, 0.0), eps=1e-30)
    torch.nn.utils.clip_grad_norm_(narrow.parameters(), 1.0)
    optimiser.step()
    for key, parameter in narrow.named_parameters():
        if key.rpartition(".")[2] in ("log_dt", "log_decay"):
            # Adam's first step is the rate itself, which no value of this size holds in bfloat16.
            moved = (parameter.detach() - before[key]).abs()
            torch.testing.assert_close(moved, torch.full_like(moved, 1e-5), rtol=0.1, atol=0)
    again = LatentSpeechTextModel(config, VOCAB_SIZE, seed=1).bfloat16()
    again.load_state_dict(narrow.state_dict())
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, narrow.state_dict()[key]), key
    with torch.no_grad():
        assert torch.equal(again.loss(batch), narrow.loss(batch))


def test_a_long_kernel_survives_narrowing() -> None:
    """What rounding the parameters would cost at length 4,096, and that nothing of it is left."""
    ssm = DiagonalSSM(8, 32, "bilinear").requires_grad_(False)
    ssm.draw_parameters(torch.Generator().manual_seed(0))
    exact = ssm_kernel(*ssm.discretised(), 4096)
    rounded = copy.deepcopy(ssm)
    for parameter in rounded.parameters():
        parameter.copy_(parameter.bfloat16())
    assert (ssm_kernel(*rounded.discretised(), 4096) - exact).norm() > 0.1 * exact.norm()
    assert torch.equal(ssm_kernel(*ssm.bfloat16().discretised(), 4096), exact)
