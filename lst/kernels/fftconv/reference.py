"""The plain twins of the long convolution: one FFT over everything, and a sum over all pairs of positions."""

from __future__ import annotations

import torch

from lst.kernels.checks import wide_dtype


def fft_convolution_reference(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    pre_gate_BHL: torch.Tensor | None = None,
    post_gate_BHL: torch.Tensor | None = None,
) -> torch.Tensor:
    """The convolution theorem on signals padded to L + K; see ``fft_convolution`` for the arguments."""
    length = u_BHL.shape[-1]
    wide = wide_dtype(u_BHL.dtype)
    x_BHL = u_BHL.to(wide) if pre_gate_BHL is None else u_BHL.to(wide) * pre_gate_BHL.to(wide)
    taps_HK = kernel_HK[:, :length].to(wide)
    fft_size = length + taps_HK.shape[1]
    product = torch.fft.rfft(x_BHL, n=fft_size) * torch.fft.rfft(taps_HK, n=fft_size)
    y_BHL = torch.fft.irfft(product, n=fft_size)[..., :length]
    if skip_H is not None:
        y_BHL = y_BHL + skip_H.to(wide)[:, None] * x_BHL
    if post_gate_BHL is not None:
        y_BHL = y_BHL * post_gate_BHL.to(wide)
    return y_BHL.to(u_BHL.dtype)


def direct_convolution_reference(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    pre_gate_BHL: torch.Tensor | None = None,
    post_gate_BHL: torch.Tensor | None = None,
) -> torch.Tensor:
    """``y[i] = Σ_j kernel[i − j] x[j]`` as a product with the matrix of all pairs, [H, L, L], in the types given."""
    length = u_BHL.shape[-1]
    x_BHL = u_BHL if pre_gate_BHL is None else u_BHL * pre_gate_BHL
    taps_HK = kernel_HK[:, :length]
    # Zeros before the first tap and after the last: row i of the windows ends with tap i.
    padded = torch.nn.functional.pad(taps_HK, (length - 1, length - taps_HK.shape[1]))
    windows_HLL = padded.unfold(-1, length, 1)
    y_BHL = torch.einsum("hij,bhj->bhi", windows_HLL, x_BHL.flip(-1))
    if skip_H is not None:
        y_BHL = y_BHL + skip_H[:, None] * x_BHL
    return y_BHL if post_gate_BHL is None else y_BHL * post_gate_BHL
