"""The diagonal SSM one input at a time: what generation runs."""

from __future__ import annotations

import torch


def ssm_step(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One more input of each document: outputs [S, C] and the states after it; see ``diagonal_ssm``."""
    num_documents, num_channels, num_modes = state_SCZ.shape
    by_head = state_SCZ.view(num_documents, len(decay_HZ), -1, num_modes)
    decay, readout = (x.to(state_SCZ.dtype)[:, None] for x in (decay_HZ, readout_HZ))
    inputs = u_SC.view(num_documents, len(decay_HZ), -1).to(state_SCZ.real.dtype)
    new = torch.addcmul(inputs[..., None].to(state_SCZ.dtype), decay, by_head)
    out = 2 * torch.einsum("shcz,hz->shc", new, readout[:, 0]).real
    if skip_H is not None:
        out = out + skip_H.to(out.dtype)[:, None] * inputs
    return out.reshape(num_documents, num_channels).to(u_SC.dtype), new.view(state_SCZ.shape)
