"""The long convolution: every path against the direct sum in float64, values and every gradient, at odd lengths.

Without a GPU, Triton's kernels run under its interpreter (see conftest.py): that shows their arithmetic, masks and
addressing, not the compiled code.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lst.kernels.fftconv import cpu, fft_convolution, fftconv_path, forced_path
from lst.kernels.fftconv.reference import direct_convolution_reference

HAS_GPU = torch.cuda.is_available()
NAMES = ("u", "kernel", "skip", "pre", "post")
# Which of the optional arguments are given.
KINDS = {"plain": "", "skip": "skip", "gates": "pre post", "pre": "pre skip", "post": "post", "all": "skip pre post"}


def inputs(batch: int, channels: int, length: int, taps: int, kind: str = "all") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(length + taps)
    shape = (batch, channels, length)
    shapes = {"u": shape, "kernel": (channels, taps), "skip": (channels,), "pre": shape, "post": shape}
    wanted = ("u", "kernel", *KINDS[kind].split())
    return {name: torch.randn(shapes[name], generator=generator) for name in wanted}


def value_and_gradients(function: Callable[..., torch.Tensor], tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
    out = function(*(leaves.get(name) for name in NAMES))
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(out)
    grads = torch.autograd.grad((out * weight).sum(), list(leaves.values()))
    return {"value": out.detach(), **dict(zip(leaves, grads, strict=True))}


def assert_same(fast: dict[str, torch.Tensor], slow: dict[str, torch.Tensor], tolerance: float) -> None:
    assert fast.keys() == slow.keys()
    for name in fast:
        a, b = fast[name].double().cpu(), slow[name].double().cpu()
        error = (a - b).norm() / b.norm()
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


def compare(path: str, tensors: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    slow = value_and_gradients(direct_convolution_reference, {name: x.double() for name, x in tensors.items()})
    device = "cuda" if HAS_GPU and path == "triton" else "cpu"
    with forced_path(path):
        fast = value_and_gradients(fft_convolution, {name: x.to(device) for name, x in tensors.items()})
    assert fast["value"].dtype == tensors["u"].dtype
    assert all(fast[name].dtype == x.dtype for name, x in tensors.items())
    assert_same(fast, slow, tolerance)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory is filled with NaN, so that an element that nothing writes shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("path", ["cpu", "reference"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 1024])
def test_cpu_and_reference_equal_the_direct_sum(length: int, batch: int, path: str) -> None:
    for kind, taps in itertools.product(KINDS, (length, max(1, length // 3), length + 7)):
        if kind in ("plain", "all") or taps == length <= 65:
            compare(path, inputs(batch, 2, length, taps, kind))


@pytest.mark.parametrize("path", ["cpu", "reference"])
def test_a_length_just_beyond_a_power_of_two(path: str) -> None:
    compare(path, inputs(1, 1, 4097, 4097))
    compare(path, inputs(3, 1, 4097, 4097))


@pytest.mark.parametrize("block_bytes", [1, 40_000])
def test_blocks_that_do_not_divide_rows_and_channels(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_BLOCK_BYTES_CPU", block_bytes)
    compare("cpu", inputs(7, 5, 65, 65))
    compare("cpu", inputs(2, 70, 65, 10))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("length", "taps", "batch", "kind"),
    [
        (1, 1, 3, "all"),
        (2, 5, 1, "plain"),
        (63, 63, 3, "all"),
        (64, 64, 1, "plain"),
        (64, 3, 2, "post"),
        (65, 80, 3, "pre"),
        (256, 256, 1, "gates"),
        (256, 256, 6, "all"),
        (300, 300, 3, "all"),
        (1000, 1000, 3, "all"),
        (1024, 100, 1, "skip"),
        (2048, 2048, 1, "all"),
    ],
)
def test_triton_equals_the_direct_sum(length: int, taps: int, batch: int, kind: str) -> None:
    """On a GPU where there is one, else interpreted."""
    pytest.importorskip("triton", reason="Triton is not installed")
    compare("triton", inputs(batch, 2, length, taps, kind))


@pytest.mark.parametrize("length", [3000, 4097])
def test_triton_with_three_factors(length: int) -> None:
    """On a GPU where there is one, else interpreted."""
    pytest.importorskip("triton", reason="Triton is not installed")
    compare("triton", inputs(3 if length == 3000 else 1, 1, length, length))


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lst.kernels.fftconv import gpu
from lst.kernels.paths import EXACT_PRECISION

FLAGS = {"HAS_GATE", "HAS_FACTOR", "HAS_PRE", "HAS_POST", "HAS_SKIP"}
FLAGS |= {"WANTS_U", "WANTS_PRE", "WANTS_POST", "WANTS_TAPS"}
for kernel, size in (
    (gpu._convolution_kernel, 256), (gpu._convolution_kernel, 4096), (gpu._gradients_kernel, 256),
    (gpu._spectra_kernel, 4096),
):
    constants = {"PRECISION": EXACT_PRECISION, "ROWS": max(1, 1024 // size)}
    constants |= dict(zip(("N1", "N2", "N3"), gpu.FACTORS[size])) | dict.fromkeys(FLAGS, True)
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    numbers = {"num_rows", "num_channels", "length", "num_taps", "stride_channel"}
    wide = {"spectra", "tables", "grad_kernel", "grad_skip"}
    signature = {
        name: "constexpr" if name in constants else "i32" if name in numbers else "*fp32" if name in wide else "*bf16"
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32), options=gpu._launch(8)).asm["cubin"]
"""


def test_triton_compiles_for_a_gpu_that_is_not_there() -> None:
    """The interpreter takes more than the compiler does; compiled for an A100, not run."""
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("path", ["cpu", "reference", "triton"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_at_the_edges(dtype: torch.dtype, path: str) -> None:
    """Float32 inside, kernel and skip in float32: what is lost is the rounding of the result.

    Triton's interpreter cuts bfloat16 off where a GPU rounds it.
    """
    if path == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    tensors = inputs(2, 2, 130, 130)
    for name in ("u", "pre", "post"):
        tensors[name] = tensors[name].to(dtype)
    compare(path, tensors, 5e-3 if dtype == torch.bfloat16 else 5e-4)


@pytest.mark.parametrize("path", ["cpu", "reference", "triton"])
def test_a_large_mean_does_not_overflow_in_half_precision(path: str) -> None:
    """The zero frequency is beyond float16's 65,504."""
    if path == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    u = torch.full((1, 1, 1000), 200.0, dtype=torch.float16)
    kernel = torch.zeros(1, 1000)
    kernel[0, 0] = 1.0
    with forced_path(path):
        y = fft_convolution(*(x.to("cuda" if HAS_GPU and path == "triton" else "cpu") for x in (u, kernel)))
    torch.testing.assert_close(y.cpu(), u, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("path", ["cpu", "reference"])
def test_autocast_changes_nothing(path: str) -> None:
    tensors = inputs(2, 3, 100, 100)
    with forced_path(path):
        plain = value_and_gradients(fft_convolution, tensors)
        with torch.autocast("cpu", torch.bfloat16):
            cast = value_and_gradients(fft_convolution, tensors)
    assert all(torch.equal(plain[name], cast[name]) for name in plain)


@pytest.mark.parametrize("path", ["cpu", "triton"])
def test_the_future_has_no_effect(path: str) -> None:
    """Rounding is relative to the whole row, so the tolerance grows with what is changed."""
    if path == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    tensors = inputs(1, 2, 300, 300, "gates")
    device = "cuda" if HAS_GPU and path == "triton" else "cpu"
    for size in (1.0, 1e4):
        changed = dict(tensors, u=tensors["u"].clone())
        changed["u"][..., 200:] += size
        with forced_path(path):
            before, after = (
                fft_convolution(*(None if name not in x else x[name].to(device) for name in NAMES)).cpu()
                for x in (tensors, changed)
            )
        scale = size * tensors["kernel"].norm() * 100**0.5
        assert (before - after)[..., :200].abs().max() <= 1e-6 * scale
        assert (before - after)[..., 200:].abs().max() >= 1e-2 * scale


def test_only_the_wanted_gradients_are_computed() -> None:
    full = value_and_gradients(fft_convolution, inputs(3, 2, 70, 70))
    for name in NAMES:
        tensors = inputs(3, 2, 70, 70)
        tensors[name].requires_grad_()
        out = fft_convolution(*tensors.values())
        weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(out)
        (out * weight).sum().backward()
        torch.testing.assert_close(tensors[name].grad, full[name], rtol=0, atol=0)


def test_gradients_repeat_bit_for_bit() -> None:
    once, again = (value_and_gradients(fft_convolution, inputs(5, 9, 1000, 1000)) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


class LargestTensors(TorchDispatchMode):
    """Storage of every tensor made within, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {
            x.untyped_storage().data_ptr()
            for x in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(x, torch.Tensor)
        }
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes.append(x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("channels", [64, 256])
def test_memory_beside_results_does_not_grow_with_the_channels(channels: int) -> None:
    """No tensor of the CPU path is larger than a block of 0.5 MB, but for outputs and gradients."""
    tensors = inputs(3, channels, 1000, 1000)
    u, kernel, skip, pre, post = tensors.values()
    with LargestTensors() as made:
        cpu.forward(u, kernel, skip, pre, post)
        cpu.backward(u, u, kernel, skip, pre, post, (True,) * 5)
    results = sorted(x.nbytes for x in (u, u, pre, post, kernel))
    for size in results:
        made.sizes.remove(size)
    assert max(made.sizes) <= 1.01 * cpu._BLOCK_BYTES_CPU


def test_fast_sizes() -> None:
    assert [cpu.fast_size(least) for least in (1, 2, 7, 127, 1999, 2047, 8193)] == [2, 2, 8, 128, 2000, 2048, 8640]


def test_compiles_as_one_graph() -> None:
    tensors = inputs(2, 3, 65, 65)
    compiled = torch.compile(lambda *x: fft_convolution(*x) * 2, fullgraph=True, backend="aot_eager")
    slow = value_and_gradients(lambda *x: direct_convolution_reference(*x) * 2, tensors)
    assert_same(value_and_gradients(compiled, tensors), slow, 1e-5)


@pytest.mark.parametrize("kind", ["plain", "all"])
def test_registration_is_sound(kind: str) -> None:
    """PyTorch's own checks of the operator: fake shapes, autograd, tracing."""
    tensors = {name: x.double().requires_grad_() for name, x in inputs(2, 2, 20, 9, kind).items()}
    torch.library.opcheck(torch.ops.lst.fft_convolution, tuple(tensors.get(name) for name in NAMES))


def test_an_empty_batch() -> None:
    result = value_and_gradients(fft_convolution, inputs(0, 2, 5, 5))
    assert result["value"].shape == (0, 2, 5)
    assert not result["kernel"].any()


def test_the_path_is_chosen_by_device_and_length_and_can_be_forced() -> None:
    cuda = torch.device("cuda")
    assert fftconv_path(torch.device("cpu"), 10) == "cpu"
    assert fftconv_path(cuda, 4097) == fftconv_path(torch.device("xpu"), 10) == "blocked"
    with forced_path("reference"):
        assert fftconv_path(cuda, 10) == "reference"
    with forced_path("blocked"):
        compare("blocked", inputs(2, 2, 30, 30))
    with pytest.raises(ValueError, match="cpu, blocked, triton, reference"), forced_path("fast"):
        pass
    with forced_path("triton"), pytest.raises(ValueError, match=r"8193.*ends at 8192"):
        fft_convolution(torch.ones(1, 1, 8193), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": torch.ones(3, 4)}, r"kernel is torch.float32 \(3, 4\), needed is a real \[2, K\]"),
        ({"kernel": torch.ones(2, 0)}, r"kernel .*\(2, 0\), needed is a real \[2, K\] with K of 1 or more"),
        ({"u": torch.ones(2, 5)}, r"u is torch.float32 \(2, 5\), needed is a real \[B, H, L\]"),
        ({"skip": torch.ones(1)}, r"skip is torch.float32 \(1,\), needed is a real \[2\]"),
        ({"post": torch.ones(1, 2, 5)}, r"post_gate is torch.float32 \(1, 2, 5\), needed is a real \[3, 2, 5\]"),
        ({"kernel": torch.ones(2, 4, dtype=torch.complex64)}, r"kernel is torch.complex64 .*real"),
        ({"pre": torch.ones(3, 2, 5, device="meta")}, r"pre_gate on meta.*one device"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change: dict[str, torch.Tensor], message: str) -> None:
    tensors = {**inputs(3, 2, 5, 5), **change}
    with pytest.raises(ValueError, match=message):
        fft_convolution(*(tensors[name] for name in NAMES))
