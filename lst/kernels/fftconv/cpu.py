"""The convolution in blocks of a few rows: each is padded, transformed, multiplied and transformed back in the cache.

On a CPU large temporaries cost more than arithmetic. The code is the same on every device; only the size of a block
differs. Each block is converted to the type of sums on its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch

from lst.kernels.checks import wide_dtype

# Bytes of a block's padded signals: a core's caches hold several of them, or they fill an accelerator.
_BLOCK_BYTES_CPU, _BLOCK_BYTES = 1 << 19, 1 << 28

# Of u, kernel, skip, pre gate and post gate; None for the unwanted ones.
Gradients = list[torch.Tensor | None]


@functools.cache
def fast_size(least: int) -> int:
    """The smallest even size of ``least`` or more whose only prime factors are 2, 3 and 5.

    >>> fast_size(61)
    64
    """
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


def cut_taps(kernel_HK: torch.Tensor, skip_H: torch.Tensor | None, u_BHL: torch.Tensor) -> torch.Tensor:
    """A copy of the kernel, cut to u's length, in the type of sums, with the skip added to its first tap."""
    taps_HK = kernel_HK[:, : u_BHL.shape[-1]].to(
        wide_dtype(u_BHL.dtype), copy=True, memory_format=torch.contiguous_format
    )
    if skip_H is not None:
        taps_HK[:, 0] += skip_H
    return taps_HK


def forward(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
) -> torch.Tensor:
    """``post · (kernel ∗ (pre · u) + skip · (pre · u))``, [B, H, L] in u's type."""
    plan = _Blocks(u_BHL, kernel_HK, skip_H)
    out_BHL = torch.empty(u_BHL.shape, dtype=u_BHL.dtype, device=u_BHL.device)
    buffer = plan.buffer()
    for channels in plan.channels():
        taps_HF = plan.taps_spectrum(channels)
        for rows in plan.rows():
            x = plan.padded(buffer, u_BHL[rows, channels], _part(pre_gate_BHL, rows, channels))
            y = plan.signal(torch.fft.rfft(x).mul_(taps_HF))
            if post_gate_BHL is not None:
                y.mul_(post_gate_BHL[rows, channels])
            out_BHL[rows, channels] = y
    return out_BHL


def backward(
    grad_BHL: torch.Tensor,
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients of u, kernel, skip, pre and post, None for the unwanted ones; spectra are recomputed.

    Let g = post · grad and x = pre · u, with spectra G and X. The gradient of x is the correlation of g with the taps,
    with spectrum G · conj(taps). The gradient of the taps is the correlation of g with x, with spectrum G · conj(X),
    summed over the batch before one inverse FFT. The gradient of the skip is that of the first tap. It is summed
    directly, because the rounding error of an FFT is relative to all taps.
    """
    plan = _Blocks(u_BHL, kernel_HK, skip_H)
    grads = empty_gradients(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL, wanted)
    grad_u, grad_kernel, grad_skip, grad_pre, grad_post = grads
    buffers = plan.buffer(), plan.buffer()
    for channels in plan.channels():
        taps_HF = plan.taps_spectrum(channels)
        taps_conj_HF = taps_HF.conj().resolve_conj()
        total_HF = torch.zeros_like(taps_HF)
        for rows in plan.rows():
            pre, post = (_part(gate, rows, channels) for gate in (pre_gate_BHL, post_gate_BHL))
            u, grad = u_BHL[rows, channels], grad_BHL[rows, channels]
            g = plan.padded(buffers[0], grad, post)
            g_spectrum = torch.fft.rfft(g)
            if grad_kernel is not None or grad_skip is not None or grad_post is not None:
                x = plan.padded(buffers[1], u, pre)
                x_spectrum = torch.fft.rfft(x)
                if grad_kernel is not None:
                    _add_correlation(total_HF, g_spectrum, x_spectrum)
                if grad_skip is not None:
                    grad_skip[channels] += g.mul_(x).sum(dim=(0, 2))
                if grad_post is not None:
                    grad_post[rows, channels] = plan.signal(x_spectrum.mul_(taps_HF)).mul_(grad)
            if grad_u is not None or grad_pre is not None:
                grad_x = plan.signal(g_spectrum.mul_(taps_conj_HF))
                if grad_pre is not None:
                    grad_pre[rows, channels] = grad_x * u
                if grad_u is not None:
                    grad_u[rows, channels] = grad_x if pre is None else grad_x.mul_(pre)
        if grad_kernel is not None:
            # Taps beyond the sequence have no effect.
            grad_kernel[channels, plan.num_taps :] = 0.0
            grad_kernel[channels, : plan.num_taps] = torch.fft.irfft(total_HF, n=plan.fft_size)[:, : plan.num_taps]
    return grads


def empty_gradients(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Tensors for the wanted gradients of u, kernel, skip, pre and post.

    The skip's is zeros in the type of sums: rows are added to it.
    """
    likes = (u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    grads: Gradients = [
        torch.empty(like.shape, dtype=like.dtype, device=like.device) if like is not None and want else None
        for like, want in zip(likes, wanted, strict=True)
    ]
    if grads[2] is not None:
        grads[2] = torch.zeros_like(grads[2], dtype=wide_dtype(u_BHL.dtype))
    return grads


class _Blocks:
    """The blocks of rows and channels, and the FFT and inverse FFT of a block.

    The size of the FFT is L + K − 1 or more, so that nothing wraps around into the L places that are kept.
    """

    def __init__(self, u_BHL: torch.Tensor, kernel_HK: torch.Tensor, skip_H: torch.Tensor | None) -> None:
        self.u_BHL, self.kernel_HK, self.skip_H = u_BHL, kernel_HK, skip_H
        self.num_rows, self.num_channels, self.length = u_BHL.shape
        self.num_taps = min(kernel_HK.shape[1], self.length)
        self.dtype = wide_dtype(u_BHL.dtype)
        self.device = u_BHL.device
        self.fft_size = fast_size(self.length + self.num_taps - 1)
        block_bytes = _BLOCK_BYTES_CPU if self.device.type == "cpu" else _BLOCK_BYTES
        signals = max(1, block_bytes // (self.fft_size * self.dtype.itemsize))
        self.channels_a_block = max(1, min(self.num_channels, signals))
        self.rows_a_block = max(1, min(self.num_rows, signals // self.channels_a_block))

    def channels(self) -> Iterator[slice]:
        for start in range(0, self.num_channels, self.channels_a_block):
            yield slice(start, start + self.channels_a_block)

    def rows(self) -> Iterator[slice]:
        for start in range(0, self.num_rows, self.rows_a_block):
            yield slice(start, start + self.rows_a_block)

    def buffer(self) -> torch.Tensor:
        """Zeros for a block's padded signals. Only the first L of each are written, so the padding stays zero."""
        shape = (self.rows_a_block, self.channels_a_block, self.fft_size)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def taps_spectrum(self, channels: slice) -> torch.Tensor:
        """Spectrum of some channels' taps, [channels, fft_size / 2 + 1]."""
        skip = None if self.skip_H is None else self.skip_H[channels]
        return torch.fft.rfft(cut_taps(self.kernel_HK[channels], skip, self.u_BHL), n=self.fft_size)

    def padded(self, buffer: torch.Tensor, x: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
        """The block x times its gate, in the type of sums and padded with zeros, [rows, channels, fft_size]."""
        padded = buffer[: x.shape[0], : x.shape[1]]
        padded[..., : self.length] = x
        if gate is not None:
            padded[..., : self.length] *= gate
        return padded

    def signal(self, spectrum: torch.Tensor) -> torch.Tensor:
        """The first L places of the inverse FFT."""
        return torch.fft.irfft(spectrum, n=self.fft_size)[..., : self.length]


def _add_correlation(total_HF: torch.Tensor, g_spectrum: torch.Tensor, x_spectrum: torch.Tensor) -> None:
    """Adds Σ G · conj(X) over the rows in order, so that sums repeat bit for bit."""
    for g, x in zip(g_spectrum, x_spectrum, strict=True):
        total_HF.addcmul_(g, x.conj())


def _part(gate_BHL: torch.Tensor | None, rows: slice, channels: slice) -> torch.Tensor | None:
    return None if gate_BHL is None else gate_BHL[rows, channels]
