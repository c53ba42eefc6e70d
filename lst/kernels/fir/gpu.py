"""The short convolution on a GPU, in Triton: a program computes a block of tokens and channels, in a loop over taps.

The device finds the document of each token, so the host does not wait. Sums have a fixed order and there are no atomic
additions: results repeat bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from lst.kernels.paths import on_device_of

# Number of programs that sum the gradients of taps: about enough to fill a GPU.
_GRADIENT_PROGRAMS = 1024


@triton.jit
def _inputs(
    u,
    history,
    start,
    document,
    rows,
    lag,
    channels,
    is_row,
    num_channels,
    TAPS: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Inputs ``lag`` tokens before ``rows``, [rows, channels]; those before the document come from the history."""
    is_channel = channels < num_channels
    place = rows.to(tl.int64) - lag
    is_inside = is_row & (place >= start)
    x = tl.load(
        u + place[:, None] * num_channels + channels[None, :],
        mask=is_inside[:, None] & is_channel[None, :],
        other=0.0,
    ).to(WIDE)
    if HAS_HISTORY:
        is_before = is_row & (place < start)
        slot = document * (TAPS - 1) + (TAPS - 1) + place - start
        x += tl.load(
            history + slot[:, None] * num_channels + channels[None, :],
            mask=is_before[:, None] & is_channel[None, :],
            other=0.0,
        ).to(WIDE)
    return x


@triton.jit
def _forward_kernel(
    u,
    taps,
    history,
    starts,
    documents,
    out,
    num_tokens,
    num_channels,
    TAPS: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_row, is_channel = rows < num_tokens, channels < num_channels
    document = tl.load(documents + rows, mask=is_row, other=0)
    start = tl.load(starts + document, mask=is_row, other=0)
    total = tl.zeros([BLOCK_N, BLOCK_C], WIDE)
    for lag in range(TAPS):
        tap = tl.load(taps + channels.to(tl.int64) * TAPS + lag, mask=is_channel, other=0.0).to(WIDE)
        total += tap[None, :] * _inputs(
            u, history, start, document, rows, lag, channels, is_row, num_channels, TAPS, HAS_HISTORY, WIDE
        )
    tl.store(
        out + rows.to(tl.int64)[:, None] * num_channels + channels[None, :],
        total.to(out.dtype.element_ty),
        mask=is_row[:, None] & is_channel[None, :],
    )


@triton.jit
def _input_gradient_kernel(
    grad,
    taps,
    places,
    firsts,
    ends,
    grad_input,
    num_rows,
    num_channels,
    TAPS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Row r is the input at token ``places[r]``; an input of a history has a place before its document.

    It reaches the outputs from ``firsts[r]`` to ``ends[r]`` − 1.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_row, is_channel = rows < num_rows, channels < num_channels
    place = tl.load(places + rows, mask=is_row, other=0)
    first = tl.load(firsts + rows, mask=is_row, other=0)
    end = tl.load(ends + rows, mask=is_row, other=0)
    total = tl.zeros([BLOCK_N, BLOCK_C], WIDE)
    for lag in range(TAPS):
        tap = tl.load(taps + channels.to(tl.int64) * TAPS + lag, mask=is_channel, other=0.0).to(WIDE)
        output = place + lag
        is_output = (output >= first) & (output < end)
        g = tl.load(
            grad + output[:, None] * num_channels + channels[None, :],
            mask=is_output[:, None] & is_channel[None, :],
            other=0.0,
        )
        total += tap[None, :] * g.to(WIDE)
    tl.store(
        grad_input + rows.to(tl.int64)[:, None] * num_channels + channels[None, :],
        total.to(grad_input.dtype.element_ty),
        mask=is_row[:, None] & is_channel[None, :],
    )


@triton.jit
def _tap_gradient_kernel(
    grad,
    u,
    history,
    starts,
    documents,
    grad_parts,
    num_tokens,
    num_channels,
    PARTS: tl.constexpr,
    TAPS: tl.constexpr,
    HAS_HISTORY: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Gradient of one tap for some channels: the sum over every PARTS-th block of tokens."""
    lag = tl.program_id(0)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(2)
    is_channel = channels < num_channels
    total = tl.zeros([BLOCK_C], WIDE)
    for first in range(part * BLOCK_N, num_tokens, PARTS * BLOCK_N):
        rows = first + tl.arange(0, BLOCK_N)
        is_row = rows < num_tokens
        document = tl.load(documents + rows, mask=is_row, other=0)
        start = tl.load(starts + document, mask=is_row, other=0)
        g = tl.load(
            grad + rows.to(tl.int64)[:, None] * num_channels + channels[None, :],
            mask=is_row[:, None] & is_channel[None, :],
            other=0.0,
        )
        x = _inputs(u, history, start, document, rows, lag, channels, is_row, num_channels, TAPS, HAS_HISTORY, WIDE)
        total += tl.sum(g.to(WIDE) * x, axis=0)
    offsets = (part.to(tl.int64) * num_channels + channels) * TAPS + lag
    tl.store(grad_parts + offsets, total, mask=is_channel)


def forward(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor
) -> torch.Tensor:
    """Outputs [N, C]; see ``short_convolution`` for the arguments."""
    u, taps, before, offsets, sizes = _arguments(u_NC, taps_CK, history, starts)
    (num_tokens, num_channels), documents = u.shape, _documents(starts, u.shape[0])
    out = torch.empty_like(u)
    with on_device_of(u):
        _forward_kernel[_grid(num_tokens, num_channels, sizes)](
            u,
            taps,
            before,
            offsets,
            documents,
            out,
            num_tokens,
            num_channels,
            HAS_HISTORY=history is not None,
            **sizes,
        )
    return out


def backward(
    grad_NC: torch.Tensor,
    u_NC: torch.Tensor,
    taps_CK: torch.Tensor,
    history: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of u, taps and history; the last is empty without a history."""
    u, taps, before, offsets, sizes = _arguments(u_NC, taps_CK, history, starts)
    grad, documents = grad_NC.contiguous(), _documents(starts, u.shape[0])
    (num_tokens, num_channels), num_taps = u.shape, taps.shape[1]
    tokens = torch.arange(num_tokens, device=u.device)
    ends = offsets[1:][documents]
    grad_u = _input_gradient(grad, taps, tokens, tokens, ends, torch.empty_like(u), sizes)
    grad_history = u.new_empty(0)
    if history is not None:
        reach = torch.arange(1 - num_taps, 0, device=u.device)
        firsts = offsets[:-1, None].expand(-1, num_taps - 1)
        places, last = firsts + reach, offsets[1:, None].expand(-1, num_taps - 1)
        grad_history = _input_gradient(grad, taps, places, firsts, last, torch.empty_like(before), sizes)
    channel_blocks = triton.cdiv(num_channels, sizes["BLOCK_C"])
    most_parts = triton.cdiv(num_tokens, sizes["BLOCK_N"])
    parts = max(1, min(most_parts, _GRADIENT_PROGRAMS // (num_taps * channel_blocks)))
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    grad_parts = torch.empty(parts, num_channels, num_taps, dtype=wide, device=u.device)
    with on_device_of(u):
        _tap_gradient_kernel[(num_taps, channel_blocks, parts)](
            grad,
            u,
            before,
            offsets,
            documents,
            grad_parts,
            num_tokens,
            num_channels,
            PARTS=parts,
            HAS_HISTORY=history is not None,
            **sizes,
        )
    return grad_u, grad_parts.sum(0).to(taps_CK.dtype), grad_history


def _input_gradient(
    grad: torch.Tensor,
    taps: torch.Tensor,
    places: torch.Tensor,
    firsts: torch.Tensor,
    ends: torch.Tensor,
    out: torch.Tensor,
    sizes: dict[str, Any],
) -> torch.Tensor:
    """Fills ``out`` with gradients of inputs at ``places``, which reach outputs from ``firsts`` to ``ends`` − 1."""
    num_rows, num_channels = places.numel(), grad.shape[1]
    if num_rows:
        with on_device_of(grad):
            _input_gradient_kernel[_grid(num_rows, num_channels, sizes)](
                grad,
                taps,
                places.contiguous(),
                firsts.contiguous(),
                ends.contiguous(),
                out,
                num_rows,
                num_channels,
                **sizes,
            )
    return out


def _arguments(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Contiguous u, taps, history (u without a history) and offsets, and the kernels' constants."""
    u, taps = u_NC.contiguous(), taps_CK.contiguous()
    sizes = {
        "TAPS": taps.shape[1],
        "WIDE": tl.float64 if u.dtype == torch.float64 else tl.float32,
        "BLOCK_N": 64,
        "BLOCK_C": 32,
    }
    return u, taps, u if history is None else history.contiguous(), starts.contiguous(), sizes


def _documents(starts: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """The document of each token, int64 [N]."""
    return torch.searchsorted(starts[1:].contiguous(), torch.arange(num_tokens, device=starts.device), right=True)


def _grid(num_rows: int, num_channels: int, sizes: dict[str, Any]) -> tuple[int, int]:
    return triton.cdiv(num_rows, sizes["BLOCK_N"]), triton.cdiv(num_channels, sizes["BLOCK_C"])
