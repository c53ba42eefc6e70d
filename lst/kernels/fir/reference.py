"""The plain twin of the short convolution: a loop over tokens."""

from __future__ import annotations

import itertools

import torch

from lst.kernels.checks import wide_dtype


def short_convolution_reference(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, *, starts: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """Arguments and result of ``short_convolution``; sums are float32, or float64 for float64."""
    dtype = wide_dtype(u_NC.dtype)
    num_taps = taps_CK.shape[1]
    # The filter has the newest input first, time has the oldest first.
    weights_KC = taps_CK.to(dtype).flip(1).t()
    outputs = []
    for document, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        before = u_NC.new_zeros(num_taps - 1, u_NC.shape[1]) if history is None else history[document]
        inputs_LC = torch.cat([before.to(dtype), u_NC[start:end].to(dtype)])
        outputs += [(weights_KC * inputs_LC[t : t + num_taps]).sum(0) for t in range(end - start)]
    return torch.stack(outputs).to(u_NC.dtype)
