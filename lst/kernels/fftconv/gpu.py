"""The convolution on a GPU, in Triton: gates, FFT, product, inverse FFT and gates in one pass over the data.

A program computes one channel of a few rows and keeps its complex spectrum on chip. Three ideas keep the spectrum
small:

- *Right-angle convolution* (Crandall & Fagin 1994). With the weights ω^j, ω = exp(iπ/2n), the part of a cyclic
  convolution of size n that wraps around is multiplied by ω^n = i. The real part is the causal part, so n ≥ L suffices,
  without padding to 2L.
- *Block FFT* (arXiv 2212.14052, section 4). n = N1·N2·N3. The DFT of each of the three dimensions is a small matrix
  product, with twiddle factors between. Spectra of signal and taps stay in the order that this produces, and the
  inverse reverses the steps.
- The weights are part of the first DFT matrix and the first twiddles. So the first product takes a real signal and the
  last gives one: 12 real products for FFT and inverse, instead of 16.

The correlations of the backward pass need no reversal: with the conjugate of a weighted spectrum, the part that wraps
around is multiplied by −i, which again leaves the real part alone.
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

from lst.kernels.fftconv.cpu import Gradients, empty_gradients
from lst.kernels.paths import float32_precision, on_device_of

# Size → factors N1, N2, N3 (N2 = 1: two products). A matrix product needs a factor of 16 or more. N1 costs two real
# products, the others four, so the largest comes first.
FACTORS = {
    256: (16, 1, 16),
    512: (32, 1, 16),
    1024: (32, 1, 32),
    2048: (64, 1, 32),
    4096: (16, 16, 16),
    8192: (32, 16, 16),
}
# Least number of elements of a program; short rows are combined.
_LEAST_ELEMENTS = 1024
# Size → warps of the kernels that are not tuned, because their sums depend on it: the fastest on an H100.
SPECTRA_WARPS = {256: 4, 512: 4, 1024: 8, 2048: 8, 4096: 16, 8192: 32}
GRADIENT_WARPS = {256: 8, 512: 8, 1024: 8, 2048: 4, 4096: 8, 8192: 8}
# Up to this size one launch computes all gradients, and float32 is multiplied exactly. Beyond it, three launches have
# enough registers each, and tensor cores multiply.
_SMALL_SIZE = 1024


@triton.jit
def _matrix(tables, SIZE: tl.constexpr):
    """Real and imaginary part of a square matrix, and the pointer behind it in the tables."""
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
    """Inverse of ``_spectrum``: n times the real part, [N1, ROWS·N2·N3]. All matrices and twiddles are conjugated."""
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
def _scaled(y, factor, offsets, mask, HAS_FACTOR: tl.constexpr):
    if HAS_FACTOR:
        y *= tl.load(factor + offsets, mask=mask, other=0.0).to(tl.float32)
    return y


@triton.jit
def _convolution_kernel(
    x,
    gate,
    spectra,
    tables,
    out,
    factor,
    num_rows,
    num_channels,
    length,
    N1: tl.constexpr,
    N2: tl.constexpr,
    N3: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_GATE: tl.constexpr,
    HAS_FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
):
    """x · gate convolved with taps, times factor, for a few rows of one channel."""
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
    re, im = _turned(re, im, spectra + channel * (2 * N1 * M), frequency, N1 * M, 1)
    y = _scaled(_signal(re, im, tables, N1, N2, N3, ROWS, PRECISION), factor, offsets, mask, HAS_FACTOR)
    tl.store(out + offsets, y.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _spectra_kernel(
    kernel,
    skip,
    tables,
    spectra,
    num_taps,
    stride_channel,
    N1: tl.constexpr,
    N2: tl.constexpr,
    N3: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_SKIP: tl.constexpr,
):
    """Weighted spectrum over n of one channel's taps, the skip added to the first."""
    M: tl.constexpr = N2 * N3
    channel = tl.program_id(0).to(tl.int64)
    tap = tl.arange(0, N1)[:, None] * M + tl.arange(0, M)[None, :]
    values = tl.load(kernel + channel * stride_channel + tap, mask=tap < num_taps, other=0.0).to(tl.float32)
    if HAS_SKIP:
        values += tl.where(tap == 0, tl.load(skip + channel).to(tl.float32), 0.0)
    re, im = _spectrum(values * (1.0 / (N1 * M)), tables, N1, N2, N3, 1, PRECISION)
    frequency = tl.arange(0, N2 * N1)[:, None] * N3 + tl.arange(0, N3)[None, :]
    spectra += channel * (2 * N1 * M)
    tl.store(spectra + frequency, re)
    tl.store(spectra + N1 * M + frequency, im)


@triton.jit
def _gradients_kernel(
    grad,
    post,
    u,
    pre,
    spectra,
    tables,
    grad_u,
    grad_pre,
    grad_post,
    grad_kernel,
    grad_skip,
    num_rows,
    num_channels,
    length,
    num_taps,
    stride_channel,
    N1: tl.constexpr,
    N2: tl.constexpr,
    N3: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_POST: tl.constexpr,
    HAS_PRE: tl.constexpr,
    WANTS_U: tl.constexpr,
    WANTS_PRE: tl.constexpr,
    WANTS_POST: tl.constexpr,
    WANTS_TAPS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Gradients of one channel, in a loop over rows.

    Let g = grad · post and x = u · pre. They are the correlation of g with the taps, the convolution of x with them,
    and the correlation of g with x, summed over the batch, and its first tap.
    """
    M: tl.constexpr = N2 * N3
    channel = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, ROWS * M)[None, :]
    place = tl.arange(0, N1)[:, None] * M + column % M
    frequency = tl.arange(0, N2 * N1 * ROWS)[:, None] // ROWS * N3 + tl.arange(0, N3)[None, :]
    spectra += channel * (2 * N1 * M)
    total_re = tl.zeros([N2 * N1 * ROWS, N3], tl.float32)
    total_im = tl.zeros([N2 * N1 * ROWS, N3], tl.float32)
    products = tl.zeros([ROWS * M], tl.float32)
    for first_row in range(0, num_rows, ROWS):
        row = first_row + column // M
        mask = (row < num_rows) & (place < length)
        offsets = (row.to(tl.int64) * num_channels + channel) * length + place
        if WANTS_TAPS or WANTS_U or WANTS_PRE:
            g = _loaded(grad, post, offsets, mask, HAS_POST)
            g_re, g_im = _spectrum(g, tables, N1, N2, N3, ROWS, PRECISION)
        if WANTS_TAPS or WANTS_POST:
            x = _loaded(u, pre, offsets, mask, HAS_PRE)
            x_re, x_im = _spectrum(x, tables, N1, N2, N3, ROWS, PRECISION)
            if WANTS_TAPS:
                products += tl.sum(g * x, axis=0)
                total_re += g_re * x_re + g_im * x_im
                total_im += g_im * x_re - g_re * x_im
            if WANTS_POST:
                x_re, x_im = _turned(x_re, x_im, spectra, frequency, N1 * M, 1)
                y = _scaled(_signal(x_re, x_im, tables, N1, N2, N3, ROWS, PRECISION), grad, offsets, mask, True)
                tl.store(grad_post + offsets, y.to(grad_post.dtype.element_ty), mask=mask)
        if WANTS_U or WANTS_PRE:
            g_re, g_im = _turned(g_re, g_im, spectra, frequency, N1 * M, -1)
            grad_x = _signal(g_re, g_im, tables, N1, N2, N3, ROWS, PRECISION)
            if WANTS_U:
                grad_value = _scaled(grad_x, pre, offsets, mask, HAS_PRE)
                tl.store(grad_u + offsets, grad_value.to(grad_u.dtype.element_ty), mask=mask)
            if WANTS_PRE:
                grad_value = _scaled(grad_x, u, offsets, mask, True)
                tl.store(grad_pre + offsets, grad_value.to(grad_pre.dtype.element_ty), mask=mask)
    if WANTS_TAPS:
        tl.store(grad_skip + channel, tl.sum(products, axis=0).to(grad_skip.dtype.element_ty))
        y = _signal(total_re, total_im, tables, N1, N2, N3, ROWS, PRECISION) * (1.0 / (N1 * M))
        y = tl.sum(tl.reshape(y, [N1, ROWS, M]), axis=1)
        tap = tl.arange(0, N1)[:, None] * M + tl.arange(0, M)[None, :]
        tap_offsets = channel * stride_channel + tap
        tl.store(grad_kernel + tap_offsets, y.to(grad_kernel.dtype.element_ty), mask=tap < num_taps)


def forward(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
) -> torch.Tensor:
    """``post · (kernel ∗ (pre · u) + skip · (pre · u))``, [B, H, L] in u's type, for L ≤ 8192."""
    num_rows, num_channels, length = u_BHL.shape
    spectra_H2n, tables = _spectra(kernel_HK, skip_H, length), _tables(_size(length), u_BHL.device)
    u, gate, factor = u_BHL.contiguous(), _dense(pre_gate_BHL), _dense(post_gate_BHL)
    out = torch.empty_like(u)
    size = _size(length)
    with on_device_of(u):
        _tuned(size, num_rows)[lambda meta: (num_channels * triton.cdiv(num_rows, meta["ROWS"]),)](
            u,
            gate,
            spectra_H2n,
            tables,
            out,
            factor,
            num_rows,
            num_channels,
            length,
            **_constants(size),
            HAS_GATE=gate is not None,
            HAS_FACTOR=factor is not None,
            **_fixed_rows(size, num_rows),
        )
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
    """Gradients of u, kernel, skip, pre and post, None for the unwanted ones; see ``cpu.backward`` for the formulas."""
    num_rows, num_channels, length = u_BHL.shape
    grads = empty_gradients(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL, wanted)
    grad_u, grad_kernel, grad_skip, grad_pre, grad_post = grads
    if all(grad is None for grad in grads):
        return grads
    size, num_taps = _size(length), min(length, kernel_HK.shape[1])
    rows = _rows_at_once(size, num_rows)
    # Both are computed together, so each needs memory if the other is wanted.
    taps_out = kernel_HK.new_empty(kernel_HK.shape) if grad_kernel is None else grad_kernel
    skip_out = kernel_HK.new_empty(num_channels, dtype=torch.float32) if grad_skip is None else grad_skip
    taps_out[:, num_taps:] = 0.0
    u, grad = u_BHL.contiguous(), grad_BHL.contiguous()
    pre, post = _dense(pre_gate_BHL), _dense(post_gate_BHL)
    spectra_H2n, tables = _spectra(kernel_HK, skip_H, length), _tables(size, u.device)
    for flags in _launches(grads, size):
        with on_device_of(u):
            _gradients_kernel[(num_channels,)](
                grad,
                post,
                u,
                pre,
                spectra_H2n,
                tables,
                grad_u,
                grad_pre,
                grad_post,
                taps_out,
                skip_out,
                num_rows,
                num_channels,
                length,
                num_taps,
                taps_out.stride(0),
                **_constants(size),
                HAS_POST=post is not None,
                HAS_PRE=pre is not None,
                **flags,
                ROWS=rows,
                **_launch(GRADIENT_WARPS[size]),
            )
    return grads


def _launches(grads: Gradients, size: int) -> list[dict[str, bool]]:
    """What each launch of the gradients' kernel computes: all at once for small sizes, else up to two."""
    grad_u, grad_kernel, grad_skip, grad_pre, grad_post = grads
    wants = {
        "WANTS_U": grad_u is not None,
        "WANTS_PRE": grad_pre is not None,
        "WANTS_POST": grad_post is not None,
        "WANTS_TAPS": grad_kernel is not None or grad_skip is not None,
    }
    together = [set(wants)] if size <= _SMALL_SIZE else [{"WANTS_U", "WANTS_PRE"}, {"WANTS_POST"}, {"WANTS_TAPS"}]
    launches = [{name: want and name in names for name, want in wants.items()} for names in together]
    return [flags for flags in launches if any(flags.values())]


def _dense(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _size(length: int) -> int:
    """The size of the FFT for sequences of this length: a power of two from 256 to 8192."""
    return max(min(FACTORS), triton.next_power_of_2(length))


def _rows_at_once(size: int, num_rows: int) -> int:
    """Number of rows of a program that is not tuned."""
    return min(max(1, _LEAST_ELEMENTS // size), triton.next_power_of_2(num_rows))


def _constants(size: int) -> dict[str, Any]:
    n1, n2, n3 = FACTORS[size]
    precision = float32_precision()
    if size <= _SMALL_SIZE and precision != "tf32":
        precision = "ieee"
    return {"N1": n1, "N2": n2, "N3": n3, "PRECISION": precision}


@functools.lru_cache(maxsize=32)
def _tables(size: int, device: torch.device) -> torch.Tensor:
    """The constant tables in one float32 tensor, each as real parts, then imaginary parts, computed in float64.

    DFT of N1 with the weights ω^(j1·N2·N3) [k1, j1]; DFT of N3; twiddles [k1, j2·N3 + j3] with the weights
    ω^(j2·N3 + j3); and, for three factors, DFT of N2 and twiddles [k2, j3].
    """
    n1, n2, n3 = FACTORS[size]
    rest = n2 * n3
    i1, i2, i3, i_rest = (torch.arange(count, dtype=torch.float64) for count in (n1, n2, n3, rest))
    # Angles in full turns. The weight ω^n is a quarter of a turn.
    turns = [
        -torch.outer(i1, i1) / n1 + i1 * rest / (4 * size),
        -torch.outer(i3, i3) / n3,
        -torch.outer(i1, i_rest) / size + i_rest / (4 * size),
    ]
    if n2 > 1:
        turns += [-torch.outer(i2, i2) / n2, -torch.outer(i2, i3) / rest]
    planes = [part.flatten() for turn in turns for part in ((2 * math.pi * turn).cos(), (2 * math.pi * turn).sin())]
    return torch.cat(planes).float().to(device)


def _spectra(kernel_HK: torch.Tensor, skip_H: torch.Tensor | None, length: int) -> torch.Tensor:
    """Weighted spectrum of the taps over n, divided by n, in the kernels' order: float32 [H, 2, N2, N1, N3]."""
    size, num_channels = _size(length), kernel_HK.shape[0]
    kernel = kernel_HK if kernel_HK.stride(1) == 1 else kernel_HK.contiguous()
    spectra_H2n = torch.empty(num_channels, 2, size, dtype=torch.float32, device=kernel.device)
    with on_device_of(kernel):
        _spectra_kernel[(num_channels,)](
            kernel,
            _dense(skip_H),
            _tables(size, kernel.device),
            spectra_H2n,
            min(length, kernel.shape[1]),
            kernel.stride(0),
            **_constants(size),
            HAS_SKIP=skip_H is not None,
            **_launch(SPECTRA_WARPS[size]),
        )
    return spectra_H2n


@functools.cache
def _tuned(size: int, num_rows: int) -> Any:
    """The convolution kernel, with rows and warps chosen by measurement on the GPU; the interpreter has neither.

    Only settings that do not change the order of sums are tuned, so results do not depend on the measurement.
    """
    if isinstance(_convolution_kernel, InterpretedFunction):
        return _convolution_kernel
    rows_to_try = [rows for rows in (1, 2, 4, 8) if rows <= triton.next_power_of_2(num_rows) and rows * size <= 8192]
    configs = [
        triton.Config({"ROWS": rows}, **_launch(num_warps))
        for rows in rows_to_try
        for num_warps in (4, 8, 16, 32)
        if 64 <= rows * size // num_warps <= 1024
    ]
    return triton.autotune(configs, key=["N1", "N2", "N3", "PRECISION"])(_convolution_kernel)


def _fixed_rows(size: int, num_rows: int) -> dict[str, int]:
    """Number of rows of a program of the convolution under the interpreter, where nothing is tuned."""
    return {"ROWS": _rows_at_once(size, num_rows)} if isinstance(_convolution_kernel, InterpretedFunction) else {}


def _launch(num_warps: int) -> dict[str, Any]:
    """Options of a launch, without loads ahead in loops.

    ``maxnreg`` is the share of a thread in the GPU's 65,536 registers. Without it NVIDIA's assembler falls back to 32
    registers for large tiles, and spills more.
    """
    options = {"num_warps": num_warps, "num_stages": 1}
    return options if torch.version.hip else options | {"maxnreg": min(255, 65_536 // (32 * num_warps))}
