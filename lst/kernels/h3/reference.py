"""The plain twin of H3's mixing: the last keys and the modes, token by token."""

from __future__ import annotations

import itertools

import torch


def h3_mix_reference(
    query_ND: torch.Tensor,
    key_ND: torch.Tensor,
    value_ND: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    *,
    starts: torch.Tensor,
    keys: torch.Tensor | None = None,
    modes: torch.Tensor | None = None,
    state_lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Outputs [N, D], and keys and modes after ``state_lengths`` tokens of each document; see ``h3_mix``."""
    (dim, num_taps), (num_heads, num_modes) = taps_DK.shape, decay_HZ.shape
    size = dim // num_heads
    outputs, last_keys, last_modes = [], [], []
    for document, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        before = key_ND.new_zeros(num_taps - 1, dim) if keys is None else keys[document]
        padded_LD, length = torch.cat([before, key_ND[start:end]]), end - start
        filtered_LD = sum(
            taps_DK[:, lag] * padded_LD[num_taps - 1 - lag : num_taps - 1 - lag + length] for lag in range(num_taps)
        )
        assert isinstance(filtered_LD, torch.Tensor)
        state = torch.zeros(num_heads, size, size, num_modes, dtype=decay_HZ.dtype)
        if modes is not None:
            state = modes[document].view_as(state)
        states = [state]
        for token in range(length):
            value = value_ND[start + token].view(num_heads, 1, size)
            product = filtered_LD[token].view(num_heads, size, 1) * value
            state = decay_HZ[:, None, None] * state + product[..., None]
            mixed = 2 * (readout_HZ[:, None, None] * state).sum(-1).real
            if skip_H is not None:
                mixed = mixed + skip_H[:, None, None] * product
            outputs.append((query_ND[start + token].view(num_heads, size, 1) * mixed).sum(dim=1).flatten())
            states.append(state)
        if state_lengths is not None:
            kept = int(state_lengths[document])
            last_keys.append(padded_LD[kept : kept + num_taps - 1])
            last_modes.append(states[kept].reshape(dim * size, num_modes))
    out_ND = torch.stack(outputs)
    return (out_ND, torch.stack(last_keys), torch.stack(last_modes)) if last_keys else (out_ND, None, None)
