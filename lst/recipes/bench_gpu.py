"""Speed of the kernels on a CUDA GPU against their plain twins: ``make bench-gpu``.

Each case is timed twice, by its Triton path and by a plain one (its reference; of the SSM the FFT of its whole kernel),
with CUDA events and the cache emptied before every call; the figures are the medians, in ms, and how many times faster
Triton is. Without a GPU it ends with status 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from lst.kernels import attention, fftconv, fir, ssm
from lst.recipes.bench_kernels import draw_parameters
from lst.recipes.benchmark import Figures

CONVOLUTION_LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
CONVOLUTION_BATCH, CONVOLUTION_CHANNELS = 4, 768
SSM_LENGTHS, NUM_TAPS = (1024, 4096, 16_384), 64
# The reference makes all pairs of a document, so sizes are those whose mask still fits.
ATTENTION_TOKENS, ATTENTION_HEADS, ATTENTION_HEAD_DIM, ATTENTION_WINDOW = (1024, 4096), 8, 64, 512


class Case(NamedTuple):
    """One call to time: ``function(*inputs)``, within ``forced_path`` of its kernel's folder, on ``triton`` and on the
    path ``plain``."""

    name: str
    function: Callable[..., torch.Tensor]
    inputs: tuple[torch.Tensor, ...]
    forced_path: Callable[[str], AbstractContextManager[None]]
    plain: str = "reference"


def convolution_cases(device: torch.device) -> Iterator[Case]:
    """Gated long convolution as in H3: kernel as long as the sequence, in float32 whatever the inputs' type."""
    for dtype in (torch.float32, torch.bfloat16):
        for length in CONVOLUTION_LENGTHS:
            if fftconv.fftconv_path(device, length) != "triton":
                # The longest needs more shared memory than some GPUs have.
                continue
            shape = (CONVOLUTION_BATCH, CONVOLUTION_CHANNELS, length)
            u, pre, post = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
            kernel = torch.randn(CONVOLUTION_CHANNELS, length, device=device) / length**0.5
            skip = torch.randn(CONVOLUTION_CHANNELS, device=device)
            name = f"convolution, length {length}, {_short(dtype)}"
            yield Case(name, fftconv.fft_convolution, (u, kernel, skip, pre, post), fftconv.forced_path)


def attention_cases(device: torch.device) -> Iterator[Case]:
    """Causal attention in a window, over one document."""
    for dtype in (torch.float32, torch.bfloat16):
        for num_tokens in ATTENTION_TOKENS:
            shape = (num_tokens, ATTENTION_HEADS, ATTENTION_HEAD_DIM)
            query, key, value = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
            last_key = torch.arange(num_tokens, device=device)
            first_key = (last_key - ATTENTION_WINDOW + 1).clamp(min=0)
            name = f"attention, {num_tokens} tokens, {_short(dtype)}"
            inputs = (query, key, value, first_key, last_key)
            yield Case(name, attention.interval_attention, inputs, attention.forced_path)


def ssm_cases(device: torch.device) -> Iterator[Case]:
    """The diagonal SSM of H3's first weights over documents of one length, and its short convolution."""
    decay, readout, skip = (x.to(device) for x in draw_parameters(CONVOLUTION_CHANNELS))
    for dtype in (torch.float32, torch.bfloat16):
        for length in SSM_LENGTHS:
            starts = torch.arange(CONVOLUTION_BATCH + 1, device=device) * length
            shape = (CONVOLUTION_BATCH * length, CONVOLUTION_CHANNELS)
            u = torch.randn(shape, device=device, dtype=dtype)
            inputs = (u, decay, readout, skip, starts)
            yield Case(f"SSM, length {length}, {_short(dtype)}", _ssm, inputs, ssm.forced_path, "convolution")
        taps = torch.randn(CONVOLUTION_CHANNELS, NUM_TAPS, device=device)
        yield Case(f"short convolution, {_short(dtype)}", _fir, (u, taps, starts), fir.forced_path, "blocked")


def _ssm(
    u: torch.Tensor, decay: torch.Tensor, readout: torch.Tensor, skip: torch.Tensor, starts: torch.Tensor
) -> torch.Tensor:
    out = ssm.diagonal_ssm(u, decay, readout, skip, starts=starts)
    assert isinstance(out, torch.Tensor)
    return out


def _fir(u: torch.Tensor, taps: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    return fir.short_convolution(u, taps, starts=starts)


# One entry a kernel.
CASES: tuple[Callable[[torch.device], Iterator[Case]], ...] = (convolution_cases, ssm_cases, attention_cases)


def forward(case: Case) -> Callable[[], object]:
    """The call alone, without gradients."""

    def call() -> torch.Tensor:
        with torch.no_grad():
            return case.function(*case.inputs)

    return call


def forward_and_backward(case: Case) -> Callable[[], object]:
    """The call and the gradients of all its real and complex inputs."""
    inputs = [x.detach().requires_grad_(x.is_floating_point() or x.is_complex()) for x in case.inputs]
    leaves = [x for x in inputs if x.requires_grad]
    with torch.no_grad():
        weight = torch.randn_like(case.function(*inputs))
    return lambda: torch.autograd.grad(case.function(*inputs), leaves, weight)


def time_case(case: Case, timer: Callable[[Callable[[], object]], float], figures: Figures) -> None:
    """Records forward, and forward and backward, of both paths."""
    for what, prepare in (("forward", forward), ("forward+backward", forward_and_backward)):
        times_ms = {}
        for path in ("triton", case.plain):
            with case.forced_path(path):
                times_ms[path] = timer(prepare(case))
            figures.add(f"{case.name}, {what}, {path}, ms", times_ms[path])
        figures.add(f"{case.name}, {what}, times faster", times_ms[case.plain] / times_ms["triton"], target=1.0)


def main() -> int:
    """Times every case on the current GPU."""
    if not torch.cuda.is_available():
        print("bench-gpu needs a CUDA GPU, and PyTorch finds none here", file=sys.stderr)
        return 2
    from triton.testing import do_bench

    device = torch.device("cuda", torch.cuda.current_device())
    print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    figures = Figures("gpu")
    for cases in CASES:
        for case in cases(device):
            time_case(case, lambda call: do_bench(call, return_mode="median"), figures)
    figures.write()
    return 0


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main())
