"""Chunked linear cross-entropy against the plain one: values and every gradient; memory does not grow with logits."""

from __future__ import annotations

import pytest
import torch

from lst.kernels.cross_entropy import linear_cross_entropy, op
from lst.kernels.cross_entropy.reference import linear_cross_entropy_reference


def inputs(num_tokens: int, vocab_size: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_tokens)
    hidden, weight = (torch.randn(n, 12, dtype=dtype, generator=generator) for n in (num_tokens, vocab_size))
    targets = torch.randint(-1, vocab_size, (num_tokens,), generator=generator)
    targets[targets < 0] = -100
    weights = torch.rand(num_tokens, dtype=torch.float64, generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets, weights


@pytest.mark.parametrize("z_weight", [0.0, 0.3])
@pytest.mark.parametrize("num_tokens", [1, 127, 128, 129, 1000])
def test_equals_reference(num_tokens: int, z_weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "_CHUNK_ELEMENTS_CPU", 1)
    hidden, weight, targets, weights = inputs(num_tokens, 37)
    results = []
    for function in (linear_cross_entropy, linear_cross_entropy_reference):
        total, nats = function(hidden, weight, targets, weights, z_weight)
        results.append((total, nats, *torch.autograd.grad(total * 1.7, (hidden, weight))))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


def test_without_gradients_and_without_targets() -> None:
    hidden, weight, targets, weights = inputs(50, 37)
    with torch.no_grad():
        total, nats = linear_cross_entropy(hidden, weight, targets, weights)
        torch.testing.assert_close(total, (nats * weights).sum())
        assert (nats[targets < 0] == 0).all()
    total, nats = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100), weights)
    total.backward()
    assert float(total.detach()) == 0.0
    assert float(hidden.grad.abs().sum()) == 0.0


def test_half_precision_keeps_wide_sums() -> None:
    hidden, weight, targets, weights = inputs(300, 37, torch.float32)
    exact, _ = linear_cross_entropy_reference(hidden, weight, targets, weights, 0.0)
    exact_grads = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = linear_cross_entropy(hidden, weight, targets, weights)
    assert total.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(exact.detach()), rel=1e-2)
    for a, b in zip(torch.autograd.grad(total, (hidden, weight)), exact_grads, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() / b.norm() < 2e-2


def test_gradients_of_a_mean_do_not_vanish_in_float16() -> None:
    """The weights of a mean over thousands of tokens, times probabilities, are below what float16 tells from zero."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 16, generator=generator).half().requires_grad_() for n in (4096, 1024))
    targets = torch.randint(0, 1024, (4096,), generator=generator)
    weights = torch.full((4096,), 1 / 4096)
    scale = 65536.0  # what a gradient scaler begins with
    total, _ = linear_cross_entropy(hidden, weight, targets, weights)
    fast = torch.autograd.grad(total * scale, (hidden, weight))
    exact, _ = linear_cross_entropy_reference(hidden.double(), weight.double(), targets, weights.double(), 0.0)
    for a, b in zip(fast, torch.autograd.grad(exact * scale, (hidden, weight)), strict=True):
        assert torch.isfinite(a).all()
        assert (a.double() - b.double()).norm() / b.double().norm() < 5e-3


def test_logits_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor made inside is larger than a chunk of logits or an input."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, torch.Tensor))
            return out

    monkeypatch.setattr(op, "_CHUNK_ELEMENTS_CPU", 1)
    hidden, weight, targets, weights = inputs(2000, 500, torch.float32)
    with Watch():
        op.compute(hidden.detach(), weight.detach(), targets, weights, 0.0, True)
    assert max(sizes) == 128 * 500
    assert len(sizes) > 100


def test_registration_is_sound() -> None:
    hidden, weight, targets, weights = inputs(20, 11)
    torch.library.opcheck(torch.ops.lst.linear_cross_entropy, (hidden, weight, targets, weights, 0.1, True))
