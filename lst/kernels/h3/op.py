"""The front door of H3's mixing, for whole documents and for one more token of each."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.kernels.devices import check_devices
from lst.kernels.fir import short_convolution
from lst.kernels.h3.compiled import native_h3
from lst.kernels.offsets import check_starts, check_state_lengths
from lst.kernels.ssm import diagonal_ssm, ssm_path
from lst.kernels.ssm.checks import check_modes
from lst.kernels.ssm.chunks import last_inputs
from lst.kernels.ssm.step import step_checked


class H3State(NamedTuple):
    """What a token needs to know of those before it; its size does not depend on how many they are.

    Attributes:
        keys: [S, K − 1, D], the last keys of each document, oldest first; float32, or float64 with such keys.
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
    _check(query_ND, key_ND, value_ND, taps_DK, decay_HZ, readout_HZ, skip_H, starts, initial_state, state_lengths)
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
        # As wide as the sums: what a step adds up must not be rounded on the way.
        wide = torch.float64 if key_ND.dtype == torch.float64 else torch.float32
        last_keys = last_inputs(key_ND.to(wide), starts, state_lengths, taps_DK.shape[1] - 1, keys)
    return out_ND, H3State(last_keys, state)


def h3_path(value: torch.Tensor) -> str:
    """``native``, or ``composed`` of the operators ``fir`` and ``ssm``, whose own doors say what they pick."""
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
    """One more token of each document: outputs [S, D] and the state after it; see ``h3_mix``.

    Args:
        query_SD, key_SD, value_SD: [S, D] of one type; sums are of the state's precision, and autocast does not change
            them.
        taps_DK, decay_HZ, readout_HZ, skip_H: as there.
        state: what ``h3_mix`` or the step before returned.

    Raises:
        ValueError: shapes or types do not go together.
    """
    _check_rows("h3_step", query_SD, key_SD, value_SD, taps_DK)
    check_modes(decay_HZ, readout_HZ, skip_H, value_SD, "h3_step")
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
    _check_rows("h3_mix", query_ND, key_ND, value_ND, taps_DK)
    check_modes(decay_HZ, readout_HZ, skip_H, value_ND, "h3_mix")
    check_starts(starts, len(value_ND), "h3_mix")
    check_devices("h3_mix", value_ND.device, starts=starts, state_lengths=state_lengths)
    check_state_lengths(state_lengths, starts, "h3_mix")
    if initial_state is not None:
        _check_state("h3_mix", initial_state, len(starts) - 1, value_ND, taps_DK, decay_HZ)


def _check_rows(name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, taps_DK: torch.Tensor) -> None:
    shape, rows = value.shape, {"query": query, "key": key, "value": value}
    fits = len(shape) == 2 and all(x.shape == shape and x.is_floating_point() for x in rows.values())
    if not fits:
        given = ", ".join(f"{row} {x.dtype} {tuple(x.shape)}" for row, x in rows.items())
        raise ValueError(f"{name}: {given}: needed are three of one shape [N, D], real")
    fits = taps_DK.ndim == 2 and taps_DK.shape[0] == shape[1] and taps_DK.shape[1] > 0
    if not fits or not taps_DK.is_floating_point():
        raise ValueError(
            f"{name}: taps {taps_DK.dtype} {tuple(taps_DK.shape)}, needed are real [{shape[1]}, K], at least one tap"
        )
    check_devices(name, value.device, query=query, key=key, taps=taps_DK)


def _check_state(
    name: str, state: H3State, num_documents: int, value: torch.Tensor, taps_DK: torch.Tensor, decay_HZ: torch.Tensor
) -> None:
    (num_heads, num_modes), dim = decay_HZ.shape, value.shape[1]
    wanted = (num_documents, taps_DK.shape[1] - 1, dim)
    modes = (num_documents, dim * (dim // num_heads), num_modes)
    fits = state.keys.shape == wanted and state.modes.shape == modes
    if not fits or not state.keys.is_floating_point() or not state.modes.is_complex():
        raise ValueError(
            f"{name}: a state of keys {state.keys.dtype} {tuple(state.keys.shape)} and modes {state.modes.dtype} "
            f"{tuple(state.modes.shape)}: needed are a real {wanted} and a complex {modes}"
        )
    check_devices(name, value.device, **{"keys of the state": state.keys, "modes of the state": state.modes})
