"""The diagonal SSM one input at a time, for generation."""

from __future__ import annotations

import torch

from lst.kernels.checks import check_devices, check_modes, check_tensor


def ssm_step(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One more input of each document: outputs [S, C] and the states after it; see ``diagonal_ssm``.

    Args:
        u_SC: real [S, C]. Sums are in the state's precision, under autocast too.
        decay_HZ, readout_HZ, skip_H: as in ``diagonal_ssm``.
        state_SCZ: complex [S, C, Z], as ``diagonal_ssm`` returns it.

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """
    check_tensor("ssm_step", "u", u_SC, ("S", "C"))
    check_modes("ssm_step", decay_HZ, readout_HZ, skip_H, u_SC)
    check_tensor("ssm_step", "state", state_SCZ, (*u_SC.shape, decay_HZ.shape[1]), "complex")
    check_devices("ssm_step", u_SC.device, state=state_SCZ)
    with torch.autocast(u_SC.device.type, enabled=False):
        return step_checked(u_SC, decay_HZ, readout_HZ, skip_H, state_SCZ)


def step_checked(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``ssm_step`` without its checks and outside autocast."""
    num_documents, num_channels, num_modes = state_SCZ.shape
    by_head = state_SCZ.view(num_documents, len(decay_HZ), -1, num_modes)
    decay, readout = (x.to(state_SCZ.dtype)[:, None] for x in (decay_HZ, readout_HZ))
    inputs = u_SC.view(num_documents, len(decay_HZ), -1).to(state_SCZ.real.dtype)
    new = torch.addcmul(inputs[..., None].to(state_SCZ.dtype), decay, by_head)
    out = 2 * torch.einsum("shcz,hz->shc", new, readout[:, 0]).real
    if skip_H is not None:
        out = out + skip_H.to(out.dtype)[:, None] * inputs
    return out.reshape(num_documents, num_channels).to(u_SC.dtype), new.view(state_SCZ.shape)
