"""Every operator gives right derivatives or a plain error: reverse mode once, and nothing else in silence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from lst.kernels import attention, cross_entropy, fftconv, fir, ssm
from lst.kernels.operator import OPERATORS

Function = Callable[[torch.Tensor], torch.Tensor]
KERNELS = Path(attention.__file__).parents[1]
STARTS = torch.tensor([0, 4, 6])
RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


KEYS, WEIGHTS, TAPS, KERNEL = normal(6, 2, 8), normal(5, 8), normal(8, 3), normal(8, 6)
DECAY, READOUT = torch.polar(torch.full((8, 4), 0.9), normal(8, 4)), torch.complex(normal(8, 4), normal(8, 4))
PLACES = torch.arange(6)


def attend(x_NC: torch.Tensor) -> torch.Tensor:
    query = x_NC.repeat(1, 2).view(6, 2, 8)
    return attention.interval_attention(query, KEYS, KEYS, PLACES * 0, PLACES)


def score(x_NC: torch.Tensor) -> torch.Tensor:
    return cross_entropy.linear_cross_entropy(x_NC, WEIGHTS, PLACES % 5, torch.ones(6))[0]


def convolve(x_NC: torch.Tensor) -> torch.Tensor:
    return fftconv.fft_convolution(x_NC.t()[None], KERNEL)


def filtered(x_NC: torch.Tensor) -> torch.Tensor:
    return fir.short_convolution(x_NC, TAPS, starts=STARTS)


def by_path(path: str) -> Function:
    def run(x_NC: torch.Tensor) -> torch.Tensor:
        with ssm.forced_path(path):
            return ssm.diagonal_ssm(x_NC, DECAY, READOUT, starts=STARTS)

    return run


# An example [6, 8] → any shape of each operator, through the function that models call.
EXAMPLES: dict[str, Function] = {
    "interval_attention": attend,
    "linear_cross_entropy": score,
    "fft_convolution": convolve,
    "short_convolution": filtered,
    "state_space": by_path("native"),
    "pass_chunk_states": by_path("matrix"),
    "diagonal_ssm": by_path("triton"),
}
on_cpu = pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "diagonal_ssm"])


def test_every_operator_is_known_and_has_an_example() -> None:
    sources = "".join(path.read_text() for path in KERNELS.rglob("*.py"))
    registered = set(re.findall(r'custom_op\(\s*"lst::(\w+)"', sources))
    with_derivatives = {name for name in registered if not name.endswith("_backward")}
    assert with_derivatives == set(OPERATORS) == set(EXAMPLES)
    assert "register_autograd" not in sources.replace("operator.register_autograd", "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_forward_mode_is_refused_and_never_zero(name: str) -> None:
    x_NC = normal(6, 8)
    told = rf"{name} has no derivatives in forward mode: use reverse mode"
    with pytest.raises(NotImplementedError, match=told):
        torch.func.jvp(OPERATORS[name], (x_NC,), (x_NC,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=told):
        OPERATORS[name](forward_ad.make_dual(x_NC, x_NC))


@on_cpu
def test_forward_mode_through_the_function_that_models_call(name: str) -> None:
    x_NC = normal(6, 8)
    for run in (
        lambda: torch.func.jvp(EXAMPLES[name], (x_NC,), (x_NC,)),
        lambda: torch.func.jacfwd(EXAMPLES[name])(x_NC),
        lambda: torch.func.jvp(torch.func.vmap(EXAMPLES[name]), (x_NC[None],), (x_NC[None],)),
    ):
        with pytest.raises((NotImplementedError, ValueError, RuntimeError)) as raised:
            run()
        assert re.search(rf"{name} has no derivatives in forward mode|override the setup_context", str(raised.value))


@on_cpu
def test_transforms_are_right_or_a_plain_error(name: str) -> None:
    function, x_NC = EXAMPLES[name], normal(6, 8)
    with pytest.raises(
        RuntimeError, match=f"{name} has no derivatives under torch.func: use rev|override the setup_con"
    ):
        torch.func.grad(lambda x: function(x).sum())(x_NC)
    together = torch.stack([x_NC, 2 * x_NC])
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.func.vmap(function)(together)
    except (NotImplementedError, ValueError, RuntimeError) as error:
        found = None
        print(f"{name} under vmap: {error}")
    if found is not None:
        torch.testing.assert_close(found, torch.stack([function(x) for x in together]))


@on_cpu
def test_gradients_of_gradients_are_an_error(name: str) -> None:
    x_NC = normal(6, 8).requires_grad_()
    out = EXAMPLES[name](x_NC)

    def twice() -> None:
        (grad,) = torch.autograd.grad(out.square().sum(), x_NC, create_graph=True)
        torch.autograd.grad(grad.sum(), x_NC)

    with pytest.raises(RuntimeError, match=r"no autograd formula|gradients of gradients are not available"):
        twice()
