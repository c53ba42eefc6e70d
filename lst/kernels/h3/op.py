"""The front door of H3's mixing, for whole documents and for one more token of each."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.kernels.fir import short_convolution
from lst.kernels.h3.compiled import native_h3
from lst.kernels.offsets import check_starts, check_state_lengths
from lst.kernels.ssm import diagonal_ssm, ssm_path
from lst.kernels.ssm.checks import check_modes
from lst.kernels.ssm.chunks import last_inputs
from lst.kernels.ssm.compiled import is_usable
from lst.kernels.ssm.step import ssm_step


class H3State(NamedTuple):
    """What a token needs to know of those before it; its size does not depend on how many they are.

    Attributes:
        keys: [S, K − 1, D], the last keys of each document, oldest first.
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

    Args:
        query_ND, key_ND, value_ND: [N, D], the tokens of all documents; float32, float64, bfloat16 or float16. Sums
            are float32 or wider, and autocast does not change them.
        taps_DK: real [D, K], the short convolution of the keys; a skip is part of its first tap.
        decay_HZ, readout_HZ: complex128 or complex64 [H, Z], one SSM for each of H heads of d = D / H channels.
        skip_H: real [H] or None, of the SSM.
        starts: int64 [S + 1], offsets of the documents: 0 first, N last, strictly increasing.
        initial_state: what precedes the documents, or None.
        state_lengths: None, or int64 [S]: return the state after so many tokens of each document too.

    Returns:
        [N, D] of the values' type, and the state (None without ``state_lengths``). Gradients flow to everything.

    Raises:
        ValueError: shapes do not go together.
    """
    _check(
        query_ND, key_ND, value_ND, taps_DK, decay_HZ, readout_HZ, skip_H, starts, initial_state, state_lengths
    )  # fmt: skip
    keys, modes = (None, None) if initial_state is None else initial_state
    with torch.autocast(value_ND.device.type, enabled=False):
        if h3_path(value_ND) == "native":
            out_ND, state = native_h3(
                query_ND, key_ND, value_ND, taps_DK, decay_HZ, readout_HZ, skip_H, starts, modes, keys, state_lengths
            )
        else:
            out_ND, state = _composed(
                query_ND, key_ND, value_ND, taps_DK, decay_HZ, readout_HZ, skip_H, starts, modes, keys, state_lengths
            )
        if state is None or state_lengths is None:
            return out_ND, None
        last_keys = last_inputs(key_ND, starts, state_lengths, taps_DK.shape[1] - 1, keys)
    return out_ND, H3State(last_keys, state)


def h3_path(value: torch.Tensor) -> str:
    """``native``, or ``composed`` of the operators ``fir`` and ``ssm``, whose own doors say what they pick."""
    return "native" if ssm_path(value.device) == "native" and is_usable(value) else "composed"


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
    wide = torch.float64 if dtype == torch.float64 else torch.float32
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
    """One more token of each document: outputs [S, D] and the state after it; see ``h3_mix``."""
    (num_documents, dim), num_heads = value_SD.shape, len(decay_HZ)
    by_head = (num_documents, num_heads, dim // num_heads)
    keys_SKD = torch.cat([state.keys, key_SD[:, None].to(state.keys.dtype)], dim=1)
    filtered_SD = torch.einsum("skd,dk->sd", keys_SKD, taps_DK.flip(1).to(keys_SKD.dtype))
    value = value_SD.to(filtered_SD.dtype)
    inputs = filtered_SD.view(by_head)[..., :, None] * value.view(by_head)[..., None, :]
    mixed_SC, modes = ssm_step(inputs.flatten(1), decay_HZ, readout_HZ, skip_H, state.modes)
    mixed = mixed_SC.view(*by_head, -1)
    out_SD = (query_SD.to(mixed.dtype).view(by_head)[..., :, None] * mixed).sum(dim=2).flatten(1)
    return out_SD.to(value_SD.dtype), H3State(keys_SKD[:, 1:], modes)


def _check(
    query_ND: torch.Tensor,
    key_ND: torch.Tensor,
    value_ND: torch.Tensor,
    taps_DK: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: H3State | None,
    state_lengths: torch.Tensor | None,
) -> None:
    """Raises ValueError that says what was given and what is needed."""
    shape = value_ND.shape
    if len(shape) != 2 or query_ND.shape != shape or key_ND.shape != shape or not value_ND.is_floating_point():
        raise ValueError(
            f"h3_mix: query {tuple(query_ND.shape)}, key {tuple(key_ND.shape)}, value {value_ND.dtype} {tuple(shape)}: "
            "needed are three of one shape [N, D], real"
        )
    if taps_DK.ndim != 2 or taps_DK.shape[0] != shape[1] or not taps_DK.shape[1] or taps_DK.device != value_ND.device:
        raise ValueError(
            f"h3_mix: taps {tuple(taps_DK.shape)} on {taps_DK.device}, needed are [{shape[1]}, K] with at least one "
            f"tap on {value_ND.device}"
        )
    check_modes(decay_HZ, readout_HZ, skip_H, value_ND, "h3_mix")
    check_starts(starts, shape[0], "h3_mix")
    check_state_lengths(state_lengths, starts, "h3_mix")
    if initial_state is not None:
        num_documents, (num_heads, num_modes) = len(starts) - 1, decay_HZ.shape
        wanted = (num_documents, taps_DK.shape[1] - 1, shape[1])
        modes = (num_documents, shape[1] * (shape[1] // num_heads), num_modes)
        if initial_state.keys.shape != wanted or initial_state.modes.shape != modes or (
            not initial_state.modes.is_complex()
        ):  # fmt: skip
            raise ValueError(
                f"h3_mix: a state of keys {tuple(initial_state.keys.shape)} and modes {initial_state.modes.dtype} "
                f"{tuple(initial_state.modes.shape)}: needed are {wanted} and a complex {modes}"
            )
