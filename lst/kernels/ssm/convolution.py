"""The published baseline: the whole kernel, and one FFT over documents padded to the longest."""

from __future__ import annotations

import torch

from lst.kernels.checks import wide_dtype
from lst.kernels.ssm.kernels import ssm_kernel


def convolution_ssm(
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
) -> torch.Tensor:
    """Outputs [N, C] from zero states, in float32 or wider.

    The longest document decides the padding, so the host waits for ``starts``. This baseline of benchmarks neither
    takes an initial state nor returns a state.
    """
    dtype = wide_dtype(u_NC.dtype)
    num_tokens, num_channels = u_NC.shape
    lengths_S = starts.diff()
    longest = int(lengths_S.max()) if len(lengths_S) else 1
    tokens_N = torch.arange(num_tokens, device=starts.device)
    document_N = torch.searchsorted(starts[1:].contiguous(), tokens_N, right=True)
    place_N = document_N * longest + tokens_N - starts[document_N]
    padded = u_NC.new_zeros(len(lengths_S) * longest, num_channels, dtype=dtype).index_copy(0, place_N, u_NC.to(dtype))
    inputs_SCL = padded.view(-1, longest, num_channels).transpose(1, 2)
    kernel_HL = ssm_kernel(decay_HZ, readout_HZ, longest).to(dtype)
    kernel_CL = kernel_HL.repeat_interleave(num_channels // len(kernel_HL), 0)
    spectrum = torch.fft.rfft(inputs_SCL, n=2 * longest) * torch.fft.rfft(kernel_CL, n=2 * longest)
    outputs_SCL = torch.fft.irfft(spectrum, n=2 * longest)[..., :longest]
    outputs_NC = outputs_SCL.transpose(1, 2).reshape(-1, num_channels).index_select(0, place_N)
    if skip_H is None:
        return outputs_NC
    return outputs_NC + u_NC.to(dtype) * skip_H.to(dtype).repeat_interleave(num_channels // len(kernel_HL))
