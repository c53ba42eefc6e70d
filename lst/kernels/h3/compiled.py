"""The compiled path on the CPU: shift, product, SSM and gate in one pass over memory."""

from __future__ import annotations

import torch

from lst.kernels.native import library
from lst.kernels.ssm.chunks import last_inputs
from lst.kernels.ssm.compiled import advance, call_state_space


def native_h3(
    query_ND: torch.Tensor,
    key_ND: torch.Tensor,
    value_ND: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Outputs [N, D] and, with ``state_lengths``, states [S, D·d, Z]; see ``h3_mix`` for the arguments."""
    dtype = value_ND.dtype
    query_ND, key_ND, value_ND = query_ND.float(), key_ND.float(), value_ND.float()
    history = None if history is None else history.float()
    out_ND, kept = call_state_space(
        value_ND,
        query_ND,
        key_ND,
        taps_DK.float(),
        decay_HZ,
        readout_HZ,
        skip_H,
        starts,
        initial_state,
        history,
        state_lengths,
    )
    if state_lengths is None:
        return out_ND.to(dtype), None
    num_taps, num_heads, size = taps_DK.shape[1], len(decay_HZ), library.chunk_length()
    keys = last_inputs(key_ND, starts, state_lengths, size + num_taps - 1, history)
    filtered = torch.einsum("stdk,dk->std", keys.unfold(1, num_taps, 1), taps_DK.float().flip(1))
    values = last_inputs(value_ND, starts, state_lengths, size)
    by_head = (*values.shape[:2], num_heads, values.shape[2] // num_heads)
    inputs = filtered.view(by_head)[..., :, None] * values.view(by_head)[..., None, :]
    state = advance(kept, inputs.flatten(2), decay_HZ, readout_HZ, state_lengths)
    return out_ND.to(dtype), state
