"""The convolution on a GPU, in Triton: gates, FFT, product, inverse FFT and gates in one pass over the data.

A program owns one channel of a few rows and keeps its complex spectrum on chip. Three ideas make that small:

- *Right-angle convolution* (Crandall & Fagin 1994). With the weights ω^j, ω = exp(iπ/2n), what wraps around in a cyclic
  convolution of size n is turned by ω^n = i: the causal part is the real part, so n ≥ L does, without padding to 2L.
- *Block FFT* (arXiv 2212.14052, section 4). n = N1·N2·N3; a DFT of each of three dimensions is a small matrix product,
  with twiddle factors between. The spectrum stays in the order in which it arises; that of the taps is brought into
  this order beforehand, and the inverse goes back the same way.
- The weights are folded into the first DFT matrix and the first twiddles, so the first product takes a real signal and
  the last gives a real one: 12 real products instead of 16 there and back.

The correlations of the backward pass need no reversal: with the conjugate of a weighted spectrum what wraps around is
turned by −i, again off the real part.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from lst.kernels.fftconv.cpu import Gradients, cut_taps, empty_gradients
from lst.kernels.paths import on_device_of

# Size → its factors N1, N2, N3 (N2 = 1: two products), each of a product at least 16. N1 costs two real products there,
# the others four, so the largest comes first.
FACTORS = {
    256: (16, 1, 16),
    512: (32, 1, 16),
    1024: (32, 1, 32),
    2048: (64, 1, 32),
    4096: (16, 16, 16),
    8192: (32, 16, 16),
}
# What a program handles at once at least, in several rows where one is short, and an element's share of a warp where
# the number of warps is not tuned.
_LEAST_ELEMENTS, _ELEMENTS_A_WARP = 1024, 128
# Float32 products; with ``torch.backends.cuda.matmul.allow_tf32`` they are rounded to TF32. "tf32x3" would take three
# products on tensor cores instead, for about five times the rounding error.
EXACT_PRECISION = "ieee"


@triton.jit
def _matrix(tables, SIZE: tl.constexpr):
    """Real and imaginary part of a square matrix, and the place behind it in the tables."""
    place = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    return tl.load(tables + place), tl.load(tables + SIZE * SIZE + place), tables + 2 * SIZE * SIZE


@triton.jit
def _turned(re, im, tables, place, COUNT: tl.constexpr, SIGN: tl.constexpr):
    """A complex tile times twiddles (SIGN 1) or their conjugates (−1)."""
    cos = tl.load(tables + place)
    sin = tl.load(tables + COUNT + place) * SIGN
    return re * cos - im * sin, re * sin + im * cos


@triton.jit
def _spectrum(
    x, tables, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr
):
    """Weighted FFT of real signals [N1, ROWS·N2·N3] → complex [N2·N1·ROWS, N3], frequency k1 + N1·(k2 + N2·k3)."""
    M: tl.constexpr = N2 * N3
    first_re, first_im, tables = _matrix(tables, N1)
    last_re, last_im, tables = _matrix(tables, N3)
    re = tl.dot(first_re, x, input_precision=PRECISION)
    im = tl.dot(first_im, x, input_precision=PRECISION)
    column = tl.arange(0, ROWS * M)
    re, im = _turned(re, im, tables, tl.arange(0, N1)[:, None] * M + (column % M)[None, :], N1 * M, 1)
    if N2 > 1:
        middle_re, middle_im, tables = _matrix(tables + 2 * N1 * M, N2)
        re = tl.reshape(tl.permute(tl.reshape(re, [N1 * ROWS, N2, N3]), [1, 0, 2]), [N2, N1 * ROWS * N3])
        im = tl.reshape(tl.permute(tl.reshape(im, [N1 * ROWS, N2, N3]), [1, 0, 2]), [N2, N1 * ROWS * N3])
        new_re = tl.dot(middle_re, re, acc=-tl.dot(middle_im, im, input_precision=PRECISION), input_precision=PRECISION)
        im = tl.dot(middle_re, im, acc=tl.dot(middle_im, re, input_precision=PRECISION), input_precision=PRECISION)
        place = tl.arange(0, N2)[:, None] * N3 + (tl.arange(0, N1 * ROWS * N3) % N3)[None, :]
        re, im = _turned(new_re, im, tables, place, M, 1)
    re = tl.reshape(re, [N2 * N1 * ROWS, N3])
    im = tl.reshape(im, [N2 * N1 * ROWS, N3])
    new_re = tl.dot(re, last_re, acc=-tl.dot(im, last_im, input_precision=PRECISION), input_precision=PRECISION)
    im = tl.dot(re, last_im, acc=tl.dot(im, last_re, input_precision=PRECISION), input_precision=PRECISION)
    return new_re, im


@triton.jit
def _signal(
    re, im, tables, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr
):
    """The way back, n times the real part, [N1, ROWS·N2·N3]: every matrix and twiddle conjugated, in reverse order."""
    M: tl.constexpr = N2 * N3
    first_re, first_im, tables = _matrix(tables, N1)
    last_re, last_im, tables = _matrix(tables, N3)
    new_re = tl.dot(re, last_re, acc=tl.dot(im, last_im, input_precision=PRECISION), input_precision=PRECISION)
    im = tl.dot(im, last_re, acc=-tl.dot(re, last_im, input_precision=PRECISION), input_precision=PRECISION)
    re = new_re
    if N2 > 1:
        middle_re, middle_im, behind = _matrix(tables + 2 * N1 * M, N2)
        re = tl.reshape(re, [N2, N1 * ROWS * N3])
        im = tl.reshape(im, [N2, N1 * ROWS * N3])
        place = tl.arange(0, N2)[:, None] * N3 + (tl.arange(0, N1 * ROWS * N3) % N3)[None, :]
        re, im = _turned(re, im, behind, place, M, -1)
        new_re = tl.dot(middle_re, re, acc=tl.dot(middle_im, im, input_precision=PRECISION), input_precision=PRECISION)
        im = tl.dot(middle_re, im, acc=-tl.dot(middle_im, re, input_precision=PRECISION), input_precision=PRECISION)
        re = tl.permute(tl.reshape(new_re, [N2, N1 * ROWS, N3]), [1, 0, 2])
        im = tl.permute(tl.reshape(im, [N2, N1 * ROWS, N3]), [1, 0, 2])
    re = tl.reshape(re, [N1, ROWS * M])
    im = tl.reshape(im, [N1, ROWS * M])
    column = tl.arange(0, ROWS * M)
    re, im = _turned(re, im, tables, tl.arange(0, N1)[:, None] * M + (column % M)[None, :], N1 * M, -1)
    y = tl.dot(tl.trans(first_im), im, input_precision=PRECISION)
    return tl.dot(tl.trans(first_re), re, acc=y, input_precision=PRECISION)


@triton.jit
def _loaded(x, gate, offsets, mask, HAS_GATE: tl.constexpr):
    """Elements times their gate, in float32."""
    values = tl.load(x + offsets, mask=mask, other=0.0).to(tl.float32)
    if HAS_GATE:
        values *= tl.load(gate + offsets, mask=mask, other=0.0).to(tl.float32)
    return values


@triton.jit
def _convolution_kernel(
    x, gate, spectra, tables, out, factor, second_out, second_factor, num_rows, num_channels, length,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, PRECISION: tl.constexpr,
    HAS_GATE: tl.constexpr, HAS_OUT: tl.constexpr, HAS_FACTOR: tl.constexpr, HAS_SECOND: tl.constexpr,
    SIGN: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """``c · factor`` and ``c · second_factor``, c being x · gate convolved (SIGN 1) or correlated (−1) with taps."""
    M: tl.constexpr = N2 * N3
    blocks = tl.cdiv(num_rows, ROWS)
    channel = (tl.program_id(0) // blocks).to(tl.int64)
    column = tl.arange(0, ROWS * M)[None, :]
    row = tl.program_id(0) % blocks * ROWS + column // M
    place = tl.arange(0, N1)[:, None] * M + column % M
    mask = (row < num_rows) & (place < length)
    offsets = (row.to(tl.int64) * num_channels + channel) * length + place
    re, im = _spectrum(_loaded(x, gate, offsets, mask, HAS_GATE), tables, N1, N2, N3, ROWS, PRECISION)
    # Rows of one channel stand together, ROWS to each pair of frequencies.
    frequency = tl.arange(0, N2 * N1 * ROWS)[:, None] // ROWS * N3 + tl.arange(0, N3)[None, :]
    spectra += channel * (2 * N1 * M)
    re, im = _turned(re, im, spectra, frequency, N1 * M, SIGN)
    y = _signal(re, im, tables, N1, N2, N3, ROWS, PRECISION)
    if HAS_OUT:
        tl.store(out + offsets, _scaled(y, factor, offsets, mask, HAS_FACTOR).to(out.dtype.element_ty), mask=mask)
    if HAS_SECOND:
        second = _scaled(y, second_factor, offsets, mask, True)
        tl.store(second_out + offsets, second.to(second_out.dtype.element_ty), mask=mask)


@triton.jit
def _scaled(y, factor, offsets, mask, HAS_FACTOR: tl.constexpr):
    if HAS_FACTOR:
        y *= tl.load(factor + offsets, mask=mask, other=0.0).to(tl.float32)
    return y


@triton.jit
def _taps_gradient_kernel(
    grad, post, u, pre, tables, grad_taps, grad_skip, num_rows, num_channels, length, num_taps,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, PRECISION: tl.constexpr,
    HAS_POST: tl.constexpr, HAS_PRE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Correlation of grad · post with u · pre, summed over the batch, and its first tap: all rows of one channel."""
    M: tl.constexpr = N2 * N3
    channel = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, ROWS * M)[None, :]
    place = tl.arange(0, N1)[:, None] * M + column % M
    total_re = tl.zeros([N2 * N1 * ROWS, N3], tl.float32)
    total_im = tl.zeros([N2 * N1 * ROWS, N3], tl.float32)
    products = tl.zeros([ROWS * M], tl.float32)
    for first_row in range(0, num_rows, ROWS):
        row = first_row + column // M
        mask = (row < num_rows) & (place < length)
        offsets = (row.to(tl.int64) * num_channels + channel) * length + place
        g = _loaded(grad, post, offsets, mask, HAS_POST)
        x = _loaded(u, pre, offsets, mask, HAS_PRE)
        products += tl.sum(g * x, axis=0)
        g_re, g_im = _spectrum(g, tables, N1, N2, N3, ROWS, PRECISION)
        x_re, x_im = _spectrum(x, tables, N1, N2, N3, ROWS, PRECISION)
        total_re += g_re * x_re + g_im * x_im
        total_im += g_im * x_re - g_re * x_im
    tl.store(grad_skip + channel, tl.sum(products, axis=0))
    y = _signal(total_re, total_im, tables, N1, N2, N3, ROWS, PRECISION) * (1.0 / (N1 * M))
    y = tl.sum(tl.reshape(y, [N1, ROWS, M]), axis=1)
    tap = tl.arange(0, N1)[:, None] * M + tl.arange(0, M)[None, :]
    tl.store(grad_taps + channel * num_taps + tap, y, mask=tap < num_taps)


def forward(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
) -> torch.Tensor:
    """``post · (kernel ∗ (pre · u) + skip · (pre · u))``, [B, H, L] in u's type, for L ≤ 8192."""
    out = torch.empty(u_BHL.shape, dtype=u_BHL.dtype, device=u_BHL.device)
    _convolve(u_BHL, pre_gate_BHL, _spectra(cut_taps(kernel_HK, skip_H, u_BHL), u_BHL.shape[-1]), 1, out, post_gate_BHL)
    return out


def backward(
    grad_BHL: torch.Tensor,
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients of u, kernel, skip, pre and post, None where not wanted; see ``cpu.backward`` for the formulas."""
    grads = empty_gradients(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL, wanted)
    grad_u, grad_kernel, grad_skip, grad_pre, grad_post = grads
    taps_HK = cut_taps(kernel_HK, skip_H, u_BHL)
    spectra = _spectra(taps_HK, u_BHL.shape[-1])
    if grad_u is not None or grad_pre is not None:
        _convolve(grad_BHL, post_gate_BHL, spectra, -1, grad_u, pre_gate_BHL, grad_pre, u_BHL)
    if grad_post is not None:
        _convolve(u_BHL, pre_gate_BHL, spectra, 1, grad_post, grad_BHL)
    if grad_kernel is not None or grad_skip is not None:
        grad_taps = torch.empty_like(taps_HK)
        skip_out = torch.empty_like(taps_HK[:, 0]) if grad_skip is None else grad_skip
        _correlate(grad_BHL, post_gate_BHL, u_BHL, pre_gate_BHL, grad_taps, skip_out)
        if grad_kernel is not None:
            grad_kernel[:, : taps_HK.shape[1]] = grad_taps
            grad_kernel[:, taps_HK.shape[1] :] = 0.0
    return grads


def _convolve(
    x_BHL: torch.Tensor,
    gate_BHL: torch.Tensor | None,
    spectra_H2n: torch.Tensor,
    sign: int,
    out_BHL: torch.Tensor | None,
    factor_BHL: torch.Tensor | None = None,
    second_out_BHL: torch.Tensor | None = None,
    second_factor_BHL: torch.Tensor | None = None,
) -> None:
    """Starts ``_convolution_kernel``; either output may be None."""
    num_rows, num_channels, length = x_BHL.shape
    x = x_BHL.contiguous()

    constants = _constants(num_rows, length)

    def given(tensor: torch.Tensor | None) -> torch.Tensor:
        # A pointer that the kernel does not read stands in for what is absent.
        return x if tensor is None else tensor.contiguous()

    with on_device_of(x):
        _tuned(_convolution_kernel)[(num_channels * triton.cdiv(num_rows, constants["ROWS"]),)](
            x, given(gate_BHL), spectra_H2n, _tables(_size(length), x.device), given(out_BHL), given(factor_BHL),
            given(second_out_BHL), given(second_factor_BHL), num_rows, num_channels, length, **constants,
            HAS_GATE=gate_BHL is not None, HAS_OUT=out_BHL is not None, HAS_FACTOR=factor_BHL is not None,
            HAS_SECOND=second_out_BHL is not None, SIGN=sign,
        )  # fmt: skip


def _correlate(
    grad_BHL: torch.Tensor,
    post_gate_BHL: torch.Tensor | None,
    u_BHL: torch.Tensor,
    pre_gate_BHL: torch.Tensor | None,
    grad_taps_HK: torch.Tensor,
    grad_skip_H: torch.Tensor,
) -> None:
    """Starts ``_taps_gradient_kernel``."""
    num_rows, num_channels, length = u_BHL.shape
    grad, u = grad_BHL.contiguous(), u_BHL.contiguous()
    post = grad if post_gate_BHL is None else post_gate_BHL.contiguous()
    pre = u if pre_gate_BHL is None else pre_gate_BHL.contiguous()
    num_warps = min(32, max(_LEAST_ELEMENTS, _size(length)) // _ELEMENTS_A_WARP)
    with on_device_of(u):
        _taps_gradient_kernel[(num_channels,)](
            grad, post, u, pre, _tables(_size(length), u.device), grad_taps_HK, grad_skip_H, num_rows, num_channels,
            length, grad_taps_HK.shape[1], **_constants(num_rows, length), HAS_POST=post_gate_BHL is not None,
            HAS_PRE=pre_gate_BHL is not None, **_launch(num_warps),
        )  # fmt: skip


def _size(length: int) -> int:
    """The FFT's size for sequences of this length: a power of two from 256 to 8192."""
    return max(min(FACTORS), triton.next_power_of_2(length))


def _constants(num_rows: int, length: int) -> dict[str, Any]:
    size = _size(length)
    n1, n2, n3 = FACTORS[size]
    rows = min(max(1, _LEAST_ELEMENTS // size), triton.next_power_of_2(num_rows))
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else EXACT_PRECISION
    return {"N1": n1, "N2": n2, "N3": n3, "PRECISION": precision, "ROWS": rows}


@functools.lru_cache(maxsize=32)
def _tables(size: int, device: torch.device) -> torch.Tensor:
    """Float32, one after another, each as a plane of real and one of imaginary parts, computed in float64.

    DFT of N1 with the weights ω^(j1·N2·N3) [k1, j1]; DFT of N3; twiddles [k1, j2·N3 + j3] with the weights
    ω^(j2·N3 + j3); and, with three factors, DFT of N2 and twiddles [k2, j3]. They hold for inputs of any type.
    """
    n1, n2, n3 = FACTORS[size]
    rest = n2 * n3
    i1, i2, i3, i_rest = (torch.arange(count, dtype=torch.float64) for count in (n1, n2, n3, rest))
    # Angles in turns of a full circle; the weights' ω is a quarter of a turn in n steps.
    turns = [
        -torch.outer(i1, i1) / n1 + i1 * rest / (4 * size),
        -torch.outer(i3, i3) / n3,
        -torch.outer(i1, i_rest) / size + i_rest / (4 * size),
    ]
    if n2 > 1:
        turns += [-torch.outer(i2, i2) / n2, -torch.outer(i2, i3) / rest]
    planes = [part.flatten() for turn in turns for part in ((2 * math.pi * turn).cos(), (2 * math.pi * turn).sin())]
    return torch.cat(planes).float().to(device)


def _spectra(taps_HK: torch.Tensor, length: int) -> torch.Tensor:
    """Weighted spectrum of the taps over n, in the kernels' order: float32 [H, 2, N2, N1, N3]."""
    size = _size(length)
    n1, n2, n3 = FACTORS[size]
    angle_K = torch.arange(taps_HK.shape[1], dtype=torch.float64, device=taps_HK.device) * (math.pi / 2 / size)
    weights_K = torch.polar(torch.full_like(angle_K, 1 / size), angle_K).to(torch.complex64)
    spectrum = torch.view_as_real(torch.fft.fft(taps_HK * weights_K, n=size))
    return spectrum.view(-1, n3, n2, n1, 2).permute(0, 4, 2, 3, 1).contiguous()


@functools.cache
def _tuned(kernel: Any) -> Any:
    """The kernel with its number of warps chosen by trial on the GPU; the interpreter has neither.

    Only what changes no order of summation is tuned, so results do not depend on the trial.
    """
    if isinstance(kernel, InterpretedFunction):
        return kernel
    configs = [triton.Config({}, **_launch(num_warps)) for num_warps in (4, 8, 16, 32)]
    return triton.autotune(configs, key=["N1", "N2", "N3", "ROWS", "PRECISION"])(kernel)


def _launch(num_warps: int) -> dict[str, Any]:
    """Options of a launch; no loop loads ahead.

    Told how many registers a thread may have (of a GPU's 65,536), NVIDIA's assembler no longer gives up on large tiles
    at 32 and spills less.
    """
    options = {"num_warps": num_warps, "num_stages": 1}
    return options if torch.version.hip else options | {"maxnreg": min(255, 65_536 // (32 * num_warps))}
