"""The slow, obviously right version: a loop over tokens and taps' worth of inputs."""

from __future__ import annotations

import itertools

import torch


def short_convolution_reference(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, *, starts: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """See ``short_convolution``; everything is computed in ``u_NC``'s precision, of float32 or wider."""
    dtype = torch.float64 if u_NC.dtype == torch.float64 else torch.float32
    num_taps = taps_CK.shape[1]
    # Newest input first in the filter, oldest first in time.
    weights_KC = taps_CK.to(dtype).flip(1).t()
    outputs = []
    for document, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        before = u_NC.new_zeros(num_taps - 1, u_NC.shape[1]) if history is None else history[document]
        inputs_LC = torch.cat([before.to(dtype), u_NC[start:end].to(dtype)])
        outputs += [(weights_KC * inputs_LC[t : t + num_taps]).sum(0) for t in range(end - start)]
    return torch.stack(outputs).to(u_NC.dtype)
