"""The diagonal SSM one input at a time: what generation runs."""

from __future__ import annotations

import torch

from lst.kernels.devices import check_devices
from lst.kernels.ssm.checks import check_modes


def ssm_step(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One more input of each document: outputs [S, C] and the states after it; see ``diagonal_ssm``.

    Args:
        u_SC: [S, C], floating-point; sums are of the state's precision, and autocast does not change them.
        decay_HZ, readout_HZ, skip_H: as there.
        state_SCZ: complex [S, C, Z], as ``diagonal_ssm`` returns it.

    Raises:
        ValueError: shapes or types do not go together.
    """
    _check(u_SC, decay_HZ, readout_HZ, skip_H, state_SCZ)
    with torch.autocast(u_SC.device.type, enabled=False):
        return step_checked(u_SC, decay_HZ, readout_HZ, skip_H, state_SCZ)


def _check(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> None:
    if u_SC.ndim != 2 or not u_SC.is_floating_point():
        raise ValueError(f"ssm_step: u is {u_SC.dtype} {tuple(u_SC.shape)}, needed is a real [S, C]")
    check_modes(decay_HZ, readout_HZ, skip_H, u_SC, "ssm_step")
    needed = (*u_SC.shape, decay_HZ.shape[1])
    if state_SCZ.shape != needed or not state_SCZ.is_complex():
        raise ValueError(f"ssm_step: state is {state_SCZ.dtype} {tuple(state_SCZ.shape)}, needed is a complex {needed}")
    check_devices("ssm_step", u_SC.device, state=state_SCZ)


def step_checked(
    u_SC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state_SCZ: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``ssm_step`` of arguments that were checked, outside autocast."""
    num_documents, num_channels, num_modes = state_SCZ.shape
    by_head = state_SCZ.view(num_documents, len(decay_HZ), -1, num_modes)
    decay, readout = (x.to(state_SCZ.dtype)[:, None] for x in (decay_HZ, readout_HZ))
    inputs = u_SC.view(num_documents, len(decay_HZ), -1).to(state_SCZ.real.dtype)
    new = torch.addcmul(inputs[..., None].to(state_SCZ.dtype), decay, by_head)
    out = 2 * torch.einsum("shcz,hz->shc", new, readout[:, 0]).real
    if skip_H is not None:
        out = out + skip_H.to(out.dtype)[:, None] * inputs
    return out.reshape(num_documents, num_channels).to(u_SC.dtype), new.view(state_SCZ.shape)
