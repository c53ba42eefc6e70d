"""Norm, rotation and gate with a backward pass of their own, against the plain formulas."""

from __future__ import annotations

import pytest
import torch

from lst.model.layers import Rotary
from lst.model.pointwise import Linear, RMSNorm, rms_norm_reference, rotate, rotate_reference, swiglu, swiglu_reference


@pytest.mark.parametrize("num_rotated", [1, 3, 5])
def test_rotate(num_rotated: int) -> None:
    generator = torch.Generator().manual_seed(num_rotated)
    heads = torch.randn(7, 5, 6, dtype=torch.float64, generator=generator).requires_grad_()
    cos, sin = (part.double() for part in Rotary(6, 100.0)(torch.arange(7)))
    weight = torch.randn(7, 5, 6, dtype=torch.float64, generator=generator)
    for function in (rotate, rotate_reference):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, cos, sin, num_rotated), heads)
    fast, slow = (function(heads, cos, sin, num_rotated) for function in (rotate, rotate_reference))
    torch.testing.assert_close(fast, slow, rtol=1e-14, atol=1e-15)
    grads = [torch.autograd.grad((out * weight).sum(), heads)[0] for out in (fast, slow)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)
    # A rotation keeps lengths, and heads beyond the rotated ones as they are.
    torch.testing.assert_close(fast.norm(dim=-1), heads.norm(dim=-1))
    assert torch.equal(fast[:, num_rotated:], heads[:, num_rotated:])


def test_rotate_keeps_the_type_of_half_precision() -> None:
    cos, sin = Rotary(6, 100.0)(torch.arange(7))
    assert rotate(torch.ones(7, 5, 6, dtype=torch.bfloat16), cos, sin, 3).dtype == torch.bfloat16


def test_swiglu() -> None:
    generator = torch.Generator().manual_seed(0)
    gate_up = (3 * torch.randn(5, 4, 14, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(swiglu, gate_up)
    fast, slow = swiglu(gate_up), swiglu_reference(gate_up)
    torch.testing.assert_close(fast, slow, rtol=1e-14, atol=0)
    grads = [torch.autograd.grad(out.square().sum(), gate_up)[0] for out in (fast, slow)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(8,), (5, 8), (3, 4, 8)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(8).double()
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(shape, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda x, w: type(norm).forward(norm, x) + 0 * w.sum(), (x, norm.weight))
    fast, slow = norm(x), rms_norm_reference(x, norm.weight)
    torch.testing.assert_close(fast, slow, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(fast, torch.nn.functional.rms_norm(x, (8,), norm.weight, 1e-5))
    for a, b in zip(
        *(torch.autograd.grad((out * weight).sum(), (x, norm.weight)) for out in (fast, slow)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_rms_norm_of_half_precision_has_wide_statistics() -> None:
    x = (300 * torch.randn(4, 64, generator=torch.Generator().manual_seed(1))).half().requires_grad_()
    out = RMSNorm(64)(x)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == torch.float16
    torch.testing.assert_close(out.float(), rms_norm_reference(x.float(), torch.ones(64)), rtol=2e-3, atol=2e-3)


def test_a_single_row_is_multiplied_in_parts() -> None:
    linear = Linear(12, 8).double()
    x = torch.randn(1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.linear(x, linear.weight)
    threads = torch.get_num_threads()
    try:
        for parts in (1, 2, 3):
            torch.set_num_threads(parts)
            with torch.no_grad():
                for row in (x, x[0], x[None]):
                    torch.testing.assert_close(linear(row), expected.view(*row.shape[:-1], 8), rtol=1e-12, atol=1e-14)
    finally:
        torch.set_num_threads(threads)
    assert linear(x).requires_grad
