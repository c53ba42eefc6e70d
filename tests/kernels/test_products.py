"""Products by oneDNN against PyTorch's: values and every gradient, in the layouts that models have."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lst.kernels import products
from lst.model.pointwise import Linear


@pytest.fixture(autouse=True)
def _small_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_LEAST_PRODUCTS", 64 * 24 * 40)


@pytest.mark.skipif(not products.has_onednn(), reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(64, 24), (3, 50, 24), (130, 24)])
def test_a_linear_layer_equals_pytorchs(shape: tuple[int, ...], biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Linear(24, 40, bias=biased)
    # Rows of a wider tensor, as those of joined projections are.
    x = torch.randn(*shape[:-1], 48, generator=generator)[..., 24:].requires_grad_()
    assert products.can_multiply(x, layer.weight)
    weight = torch.randn(*shape[:-1], 40, generator=generator)
    leaves = [x, *layer.parameters()]
    fast, slow = layer(x), functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad((out * weight).sum(), leaves) for out in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_a_frozen_layer_has_no_gradient() -> None:
    layer = Linear(24, 40).requires_grad_(False)
    x = torch.randn(80, 24, requires_grad=True)
    assert torch.autograd.grad(layer(x).sum(), x)[0].shape == x.shape
    assert not layer(x.detach()).requires_grad


def test_small_products_stay_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    large, small = torch.empty(4096, 512), torch.empty(700, 96)
    assert products.can_multiply(large, torch.empty(512, 512)) == products.has_onednn()
    assert not products.can_multiply(small, torch.empty(256, 96))


def test_other_types_devices_and_few_rows_stay_with_pytorch() -> None:
    x, weight = torch.ones(80, 24), torch.ones(40, 24)
    assert not products.can_multiply(x.double(), weight.double())
    assert not products.can_multiply(x[:2], weight)
    assert not products.can_multiply(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.can_multiply(x, weight)
