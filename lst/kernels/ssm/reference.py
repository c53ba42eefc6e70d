"""The plain twin of the diagonal SSM: the recurrence, token by token."""

from __future__ import annotations

import itertools

import torch

from lst.kernels.checks import wide_dtype


def diagonal_ssm_reference(
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    *,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    state_lengths: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Arguments and results of ``diagonal_ssm``; sums are float32, or float64 for float64."""
    real = wide_dtype(u_NC.dtype)
    members = u_NC.shape[1] // decay_HZ.shape[0]
    decay_CZ, readout_CZ = (x.to(real.to_complex()).repeat_interleave(members, 0) for x in (decay_HZ, readout_HZ))
    outputs, last_states = [], []
    for document, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        inputs_LC = u_NC[start:end].to(real)
        state_CZ = torch.zeros_like(decay_CZ)
        if initial_state is not None:
            state_CZ = initial_state[document].to(state_CZ.dtype)
        states = [state_CZ]
        for input_C in inputs_LC[:, :, None]:
            states.append(decay_CZ * states[-1] + input_C)
        outputs_LC = 2 * (readout_CZ * torch.stack(states[1:])).sum(-1).real
        if skip_H is not None:
            outputs_LC = outputs_LC + skip_H.to(real).repeat_interleave(members) * inputs_LC
        outputs.append(outputs_LC)
        if state_lengths is not None:
            last_states.append(states[int(state_lengths[document])])
    y_NC = torch.cat(outputs).to(u_NC.dtype)
    return y_NC if state_lengths is None else (y_NC, torch.stack(last_states))
