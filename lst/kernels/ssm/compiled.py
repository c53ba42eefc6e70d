"""The compiled path on the CPU: it converts types, and computes states in the middle of a chunk."""

from __future__ import annotations

import torch

from lst.kernels.native import library
from lst.kernels.native.op import padded_modes, run_state_space
from lst.kernels.ssm.chunks import advanced_state, last_inputs
from lst.kernels.ssm.kernels import chunk_matrices, planes


def native_ssm(
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Arguments and results of ``diagonal_ssm``."""
    u_NC, dtype = u_NC.float(), u_NC.dtype
    y_NC, kept = call_state_space(
        u_NC, None, None, None, decay_HZ, readout_HZ, skip_H, starts, initial_state, None, state_lengths
    )
    if state_lengths is None:
        return y_NC.to(dtype)
    inputs = last_inputs(u_NC, starts, state_lengths, library.chunk_length())
    return y_NC.to(dtype), advance(kept, inputs, decay_HZ, readout_HZ, state_lengths)


def call_state_space(
    value: torch.Tensor,
    query: torch.Tensor | None,
    key: torch.Tensor | None,
    taps: torch.Tensor | None,
    decay: torch.Tensor,
    readout: torch.Tensor,
    skip: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [N, C], and the states [S, Q, 2, Z] before the chunk of each document's last input.

    Arguments are those of ``lst.kernels.native.op.state_space``, with complex decay, readout and initial state.
    """
    num_modes = decay.shape[1]
    if initial_state is not None:
        split = torch.stack([initial_state.real, initial_state.imag], dim=-2).float()
        initial_state = torch.nn.functional.pad(split, (0, padded_modes(num_modes) - num_modes))
    chunks = None if state_lengths is None else _whole_chunks(state_lengths)
    parameters = (value, query, key, taps, decay, readout, skip, initial_state, history)
    wants_gradient = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in parameters)
    out, _, kept = run_state_space(
        value,
        query,
        key,
        taps,
        None if skip is None else skip.float(),
        _pairs(decay),
        _pairs(readout),
        starts,
        initial_state,
        history,
        chunks,
        wants_gradient,
    )
    return out, kept[..., :num_modes]


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x.to(torch.complex128).resolve_conj())


def _whole_chunks(state_lengths: torch.Tensor) -> torch.Tensor:
    """Number of chunks before the chunk of the last input."""
    return (state_lengths - 1).clamp(min=0) // library.chunk_length()


def advance(
    kept: torch.Tensor,
    inputs_STC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    state_lengths: torch.Tensor,
) -> torch.Tensor:
    """The states after the last inputs, from the states before their chunk; see ``advanced_state``."""
    size = library.chunk_length()
    matrices = chunk_matrices(decay_HZ, readout_HZ, None, size)
    before_CSW = planes(torch.complex(kept[..., 0, :], kept[..., 1, :])).transpose(0, 1)
    return advanced_state(inputs_STC, before_CSW, matrices, state_lengths - _whole_chunks(state_lengths) * size)
