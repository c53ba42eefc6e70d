"""The front door of H3's mixing: for whole documents, and for one more token of each document."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.kernels.checks import (
    check_devices,
    check_modes,
    check_starts,
    check_state_lengths,
    check_tensor,
    wide_dtype,
)
from lst.kernels.fir import short_convolution
from lst.kernels.h3.compiled import native_h3
from lst.kernels.ssm import diagonal_ssm, ssm_path
from lst.kernels.ssm.chunks import last_inputs
from lst.kernels.ssm.step import step_checked


class H3State(NamedTuple):
    """All that the next token needs of the tokens before it. Its size does not depend on their number.

    Attributes:
        keys: [S, K − 1, D], the last keys of each document, oldest first; float32, or float64 for float64 keys.
        modes: complex [S, D·d, Z], the diagonal SSM's state.
    """

    keys: torch.Tensor
    modes: torch.Tensor


def h3_mix(
    query_ND: torch.Tensor,
    key_ND: torch.Tensor,
    value_ND: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    *,
    starts: torch.Tensor,
    initial_state: H3State | None = None,
    state_lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, H3State | None]:
    """out_j = Σ_i query_i · ssm((taps ∗ key)_i · value_j) over the channels i, j of a head, for each document.

    The H3 layer between its linear maps (Dao, Fu et al. 2023, section 3): Q ⊙ SSM_diag(SSM_shift(K) ⊙ V).

    Args:
        query_ND, key_ND, value_ND: [N, D], the tokens of all documents; float32, float64, bfloat16 or float16. Sums
            are in float32 or wider, under autocast too.
        taps_DK: real [D, K], the short convolution of the keys; a skip is part of its first tap.
        decay_HZ, readout_HZ: complex128 or complex64 [H, Z], one SSM for each of H heads of d = D / H channels.
        skip_H: real [H] or None, of the SSM.
        starts: int64 [S + 1], offsets of the documents, strictly increasing from 0 to N.
        initial_state: the state before each document, or None.
        state_lengths: int64 [S] or None. With it, the state of each document after that many tokens is returned.

    Returns:
        [N, D] of the values' type, and the state (None without ``state_lengths``). Every argument gets a gradient.

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """
    _check_rows("h3_mix", query_ND, key_ND, value_ND, taps_DK)
    check_modes("h3_mix", decay_HZ, readout_HZ, skip_H, value_ND)
    check_starts("h3_mix", starts, len(value_ND))
    check_devices("h3_mix", value_ND.device, starts=starts, state_lengths=state_lengths)
    check_state_lengths("h3_mix", state_lengths, starts)
    _check_state("h3_mix", initial_state, len(starts) - 1, value_ND, taps_DK, decay_HZ)
    keys, modes = (None, None) if initial_state is None else initial_state
    with torch.autocast(value_ND.device.type, enabled=False):
        mix = native_h3 if h3_path(value_ND) == "native" else _composed
        out_ND, state = mix(
            query_ND, key_ND, value_ND, taps_DK, decay_HZ, readout_HZ, skip_H, starts, modes, keys, state_lengths
        )
        if state is None or state_lengths is None:
            return out_ND, None
        # In the type of sums, so that later steps add unrounded keys.
        last_keys = last_inputs(key_ND.to(wide_dtype(key_ND.dtype)), starts, state_lengths, taps_DK.shape[1] - 1, keys)
    return out_ND, H3State(last_keys, state)


def h3_path(value: torch.Tensor) -> str:
    """The path: ``native``, or ``composed`` of the operators ``fir`` and ``ssm`` on their own paths."""
    return "native" if ssm_path(value.device, value.dtype) == "native" else "composed"


def _composed(
    query_ND: torch.Tensor,
    key_ND: torch.Tensor,
    value_ND: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    modes: torch.Tensor | None,
    keys: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    num_tokens, dim = value_ND.shape
    num_heads, dtype = len(decay_HZ), value_ND.dtype
    wide = wide_dtype(dtype)
    filtered_ND = short_convolution(key_ND.to(wide), taps_DK.to(wide), starts=starts, history=keys)
    query, key, value = (x.to(wide).view(num_tokens, num_heads, -1) for x in (query_ND, filtered_ND, value_ND))
    products = (key[..., :, None] * value[..., None, :]).flatten(1)
    mixed = diagonal_ssm(
        products, decay_HZ, readout_HZ, skip_H, starts=starts, initial_state=modes, state_lengths=state_lengths
    )
    state = None
    if isinstance(mixed, tuple):
        mixed, state = mixed
    size = dim // num_heads
    out_ND = (query[..., :, None] * mixed.view(num_tokens, num_heads, size, size)).sum(dim=2).flatten(1)
    return out_ND.to(dtype), state


def h3_step(
    query_SD: torch.Tensor,
    key_SD: torch.Tensor,
    value_SD: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state: H3State,
) -> tuple[torch.Tensor, H3State]:
    """One more token of each document: outputs [S, D] and the state after it; see ``h3_mix``.

    Args:
        query_SD, key_SD, value_SD: [S, D] of one type. Sums are in the state's precision, under autocast too.
        taps_DK, decay_HZ, readout_HZ, skip_H: as in ``h3_mix``.
        state: from ``h3_mix`` or from the step before.

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """
    _check_rows("h3_step", query_SD, key_SD, value_SD, taps_DK)
    check_modes("h3_step", decay_HZ, readout_HZ, skip_H, value_SD)
    _check_state("h3_step", state, len(value_SD), value_SD, taps_DK, decay_HZ)
    with torch.autocast(value_SD.device.type, enabled=False):
        return _step(query_SD, key_SD, value_SD, taps_DK, decay_HZ, readout_HZ, skip_H, state)


def _step(
    query_SD: torch.Tensor,
    key_SD: torch.Tensor,
    value_SD: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    state: H3State,
) -> tuple[torch.Tensor, H3State]:
    (num_documents, dim), num_heads = value_SD.shape, len(decay_HZ)
    by_head = (num_documents, num_heads, dim // num_heads)
    keys_SKD = torch.cat([state.keys, key_SD[:, None].to(state.keys.dtype)], dim=1)
    filtered_SD = torch.einsum("skd,dk->sd", keys_SKD, taps_DK.flip(1).to(keys_SKD.dtype))
    value = value_SD.to(filtered_SD.dtype)
    inputs = filtered_SD.view(by_head)[..., :, None] * value.view(by_head)[..., None, :]
    mixed_SC, modes = step_checked(inputs.flatten(1), decay_HZ, readout_HZ, skip_H, state.modes)
    mixed = mixed_SC.view(*by_head, -1)
    out_SD = (query_SD.to(mixed.dtype).view(by_head)[..., :, None] * mixed).sum(dim=2).flatten(1)
    return out_SD.to(value_SD.dtype), H3State(keys_SKD[:, 1:], modes)


def _check_rows(name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, taps_DK: torch.Tensor) -> None:
    shape, rows = value.shape, {"query": query, "key": key, "value": value}
    if len(shape) != 2 or any(x.shape != shape or not x.is_floating_point() for x in rows.values()):
        given = ", ".join(f"{row} {x.dtype} {tuple(x.shape)}" for row, x in rows.items())
        raise ValueError(f"{name}: {given}: needed are three real tensors of one shape [N, D]")
    check_tensor(name, "taps", taps_DK, (shape[1], "K"), least=1)
    check_devices(name, value.device, query=query, key=key, taps=taps_DK)


def _check_state(
    name: str,
    state: H3State | None,
    num_documents: int,
    value: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
) -> None:
    if state is not None:
        (num_heads, num_modes), dim = decay_HZ.shape, value.shape[1]
        check_tensor(name, "keys of the state", state.keys, (num_documents, taps_DK.shape[1] - 1, dim))
        shape = (num_documents, dim * (dim // num_heads), num_modes)
        check_tensor(name, "modes of the state", state.modes, shape, "complex")
        check_devices(name, value.device, **{"keys of the state": state.keys, "modes of the state": state.modes})
