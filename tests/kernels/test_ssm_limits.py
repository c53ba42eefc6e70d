"""What the diagonal SSM cannot do, and what its front door says of it."""

from __future__ import annotations

import re

import pytest
import torch

from lst.kernels import attention, fftconv, fir
from lst.kernels.native import library
from lst.kernels.ssm import diagonal_ssm, forced_path, ssm_path, ssm_step
from lst.kernels.ssm import op as front_door

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HALF = torch.full((2, 3), 0.5, dtype=torch.complex128)
OPERATORS = {
    "ssm": forced_path,
    "fir": fir.forced_path,
    "fftconv": fftconv.forced_path,
    "attention": attention.forced_path,
}
NEEDS_LIBRARY = pytest.mark.skipif(not library.is_available(), reason="the compiled kernels were not built")


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_heads_that_do_not_divide_the_channels_are_refused(channels: int) -> None:
    starts = torch.tensor([0, 5])
    with pytest.raises(ValueError, match=f"{channels} channels.*H a divisor of the channels"):
        diagonal_ssm(torch.zeros(5, channels), HALF, HALF, starts=starts)


@NEEDS_LIBRARY
@pytest.mark.parametrize(("channels", "heads", "modes"), [(0, 2, 3), (4, 0, 3), (4, 2, 0), (3, 2, 3)])
def test_the_library_refuses_such_sizes_itself(channels: int, heads: int, modes: int) -> None:
    """A compiled graph calls the operator without the front door."""
    pairs = torch.zeros(heads, modes, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="heads that divide the channels"):
        torch.ops.lst.state_space(
            torch.zeros(5, channels),
            None,
            None,
            None,
            None,
            pairs,
            pairs,
            torch.tensor([0, 5]),
            None,
            None,
            None,
            False,
        )


def gradient_of_gradient(path: str, first: int, second: int) -> torch.Tensor | str:
    """Of u, decay and readout, over two chunks; or what is said instead."""
    u = torch.randn(90, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for x in (u, HALF * 1.5, HALF)]
    with forced_path(path):
        y = diagonal_ssm(leaves[0].float(), *leaves[1:], starts=torch.tensor([0, 90]))
    (once,) = torch.autograd.grad(y.square().sum(), leaves[first], create_graph=True)
    try:
        return torch.autograd.grad(once.abs().square().sum(), leaves[second])[0]
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("path", ["matrix", *(["native"] if library.is_available() else [])])
def test_gradients_of_gradients_are_right_or_refused(path: str, first: int, second: int) -> None:
    """Never wrong: what a backward pass goes on from is saved as numbers, of which no gradient is taken."""
    found = gradient_of_gradient(path, first, second)
    if isinstance(found, str):
        assert re.search("no autograd formula|gradients of gradients are not available", found)
        # A readout's gradient needs no pass of states back: there the matrix form can go on.
        assert (path, first) != ("matrix", 2)
    else:
        expected = gradient_of_gradient("reference", first, second)
        assert isinstance(expected, torch.Tensor)
        assert (found - expected).norm() <= 1e-4 * expected.norm()
        assert path == "matrix"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("path", [None, "matrix", *(["native"] if library.is_available() else [])])
def test_the_path_that_is_told_is_the_one_that_runs(
    path: str | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    for name, function in (("native", "native_ssm"), ("matrix", "chunked_ssm")):
        real = getattr(front_door, function)
        monkeypatch.setattr(front_door, function, lambda *a, name=name, real=real: (ran.append(name), real(*a))[1])

    def call() -> str:
        diagonal_ssm(torch.ones(5, 4, dtype=dtype), HALF, HALF, starts=torch.tensor([0, 5]))
        return ssm_path(CPU, dtype)

    if path is None:
        told = call()
    else:
        with forced_path(path):
            told = call()
    assert ran == [told]
    assert told == ("matrix" if dtype == torch.float64 or not library.is_available() else path or "native")


@pytest.mark.parametrize("operator", OPERATORS)
def test_triton_forced_where_it_cannot_run_says_what_it_needs(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    paths = {
        "ssm": lambda: ssm_path(CPU),
        "fir": lambda: fir.fir_path(CPU),
        "fftconv": lambda: fftconv.fftconv_path(CPU, 9),
        "attention": lambda: attention.attention_path(CPU),
    }
    with OPERATORS[operator]("triton"), pytest.raises(ValueError, match=r"'triton' is forced.*TRITON_INTERPRET=1"):
        paths[operator]()


def test_native_forced_where_it_cannot_run_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with forced_path("native"), pytest.raises(ValueError, match="they are on cuda"):
        ssm_path(CUDA)
    monkeypatch.setattr(library, "load_library", lambda: None)
    with forced_path("native"), pytest.raises(ValueError, match="force 'matrix', or none"):
        ssm_path(CPU)
    assert ssm_path(CPU) == "matrix"


def test_float64_on_a_gpu_is_told_to_take_another_path() -> None:
    """Triton has no matrix product of float64."""
    pytest.importorskip("triton", reason="Triton is not installed")
    for wide, narrow in ((torch.float64, torch.float32), (torch.float64, torch.bfloat16)):
        assert (ssm_path(CUDA, narrow), ssm_path(CUDA, wide)) == ("triton", "matrix")
        assert (fftconv.fftconv_path(CUDA, 9, narrow), fftconv.fftconv_path(CUDA, 9, wide)) == ("triton", "blocked")
        assert (attention.attention_path(CUDA, narrow), attention.attention_path(CUDA, wide)) == ("triton", "reference")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"u_SC": torch.ones(2, 4, dtype=torch.int64)}, "u is torch.int64"),
        ({"u_SC": torch.ones(1, 4)}, r"state is torch.complex64 \(2, 4, 3\), needed is a complex \[1, 4, 3\]"),
        ({"state_SCZ": torch.ones(2, 4, 3)}, r"state is torch.float32 \(2, 4, 3\)"),
        ({"skip_H": torch.ones(2, dtype=torch.int64)}, "skip is torch.int64"),
        ({"state_SCZ": torch.ones(2, 4, 3, dtype=torch.complex64, device="meta")}, "state on meta"),
    ],
)
def test_a_step_names_what_does_not_fit(changed: dict, message: str) -> None:
    arguments = {
        "u_SC": torch.ones(2, 4),
        "decay_HZ": HALF,
        "readout_HZ": HALF,
        "skip_H": torch.ones(2),
        "state_SCZ": torch.ones(2, 4, 3, dtype=torch.complex64),
    }
    assert ssm_step(**arguments)[0].shape == (2, 4)
    with pytest.raises(ValueError, match=message):
        ssm_step(**{**arguments, **changed})


@pytest.mark.parametrize("name", ["starts", "initial_state", "state_lengths", "decay_HZ"])
def test_tensors_on_another_device_are_named(name: str) -> None:
    """A kernel would take their addresses for its own."""
    state = torch.zeros(1, 4, 3, dtype=torch.complex64)
    arguments = {
        "decay_HZ": HALF,
        "readout_HZ": HALF,
        "starts": torch.tensor([0, 5]),
        "initial_state": state,
        "state_lengths": torch.tensor([5]),
    }
    arguments[name] = arguments[name].to("meta")
    with pytest.raises(ValueError, match=f"inputs are on cpu, {name.removesuffix('_HZ')} on meta"):
        diagonal_ssm(torch.ones(5, 4), **arguments)


@NEEDS_LIBRARY
def test_arrays_of_many_megabytes() -> None:
    """From a few megabytes on, large pages are asked for under what is written."""
    u = torch.randn(40_000, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with forced_path("native"):
        joined = diagonal_ssm(u, HALF, HALF, starts=torch.tensor([0, 20_000, 40_000]))
        halves = [diagonal_ssm(half, HALF, HALF, starts=torch.tensor([0, 20_000])) for half in u.split(20_000)]
    assert joined.numel() * joined.element_size() > 2 * (2 << 20)
    torch.testing.assert_close(joined, torch.cat(halves))
    grads = [torch.autograd.grad(y.square().sum(), u)[0] for y in (joined, torch.cat(halves))]
    torch.testing.assert_close(*grads)
