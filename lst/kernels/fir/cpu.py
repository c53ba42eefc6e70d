"""The short convolution by blocks of channels: PyTorch's direct convolution, one filter for each channel.

A stream holds the tokens of each document after its history, or after zeros. One pass over the stream serves all
documents, and a history is as long as the reach of a filter, so no document sees another. Only some channels are laid
out at a time, so intermediate results stay small.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.kernels.checks import wide_dtype

# Elements of a stream that are laid out at a time, and the multiple of channels that suits PyTorch's convolution.
_BLOCK_ELEMENTS = 1 << 19
_CHANNEL_MULTIPLE = 16
# Tokens of a block in the products that sum the gradients of taps.
_LEAST_BLOCK_TOKENS, _MOST_BLOCK_TOKENS = 16, 64


class _Stream(NamedTuple):
    """Places of the documents in a stream of N + S·(K − 1) places."""

    num_places: int
    token_places: torch.Tensor  # int64 [N]
    history_places: torch.Tensor  # int64 [S·(K − 1)]


def forward(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor
) -> torch.Tensor:
    """Outputs [N, C]; see ``short_convolution`` for the arguments."""
    num_taps = taps_CK.shape[1]
    stream = _stream(u_NC.shape[0], num_taps, starts)
    y_NC = torch.empty(u_NC.shape, dtype=u_NC.dtype, device=u_NC.device)
    for channels in _channel_blocks(u_NC.shape[1], stream):
        inputs = _inputs(u_NC, history, channels, stream)
        outputs = _correlate(inputs, taps_CK[channels].flip(1))
        # The convolution starts with the first place that has a whole filter before it: the first token.
        y_NC[:, channels] = outputs.t().index_select(0, stream.token_places - (num_taps - 1))
    return y_NC


def backward(
    grad_NC: torch.Tensor,
    u_NC: torch.Tensor,
    taps_CK: torch.Tensor,
    history: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of u, taps and history; the last is empty without a history."""
    num_taps = taps_CK.shape[1]
    stream = _stream(u_NC.shape[0], num_taps, starts)
    grad_u, grad_taps = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (u_NC, taps_CK))
    grad_history = u_NC.new_empty(0) if history is None else torch.empty_like(history)
    for channels in _channel_blocks(u_NC.shape[1], stream):
        inputs = _inputs(u_NC, history, channels, stream)
        grads = _inputs(grad_NC, None, channels, stream)
        grad_taps[channels] = _tap_gradients(inputs, grads, num_taps).to(taps_CK.dtype)
        reached = torch.nn.functional.pad(grads, (0, num_taps - 1))
        grad_inputs = _correlate(reached, taps_CK[channels]).t()
        grad_u[:, channels] = grad_inputs.index_select(0, stream.token_places).to(u_NC.dtype)
        if history is not None:
            found = grad_inputs.index_select(0, stream.history_places)
            grad_history[:, :, channels] = found.view(*history.shape[:2], found.shape[1]).to(history.dtype)
    return grad_u, grad_taps, grad_history


def _stream(num_tokens: int, num_taps: int, starts: torch.Tensor) -> _Stream:
    num_documents, reach = len(starts) - 1, num_taps - 1
    tokens_N = torch.arange(num_tokens, device=starts.device)
    document_N = torch.searchsorted(starts[1:].contiguous(), tokens_N, right=True)
    first_place_S = starts[:-1] + torch.arange(num_documents, device=starts.device) * reach
    history_places = first_place_S[:, None] + torch.arange(reach, device=starts.device)
    return _Stream(num_tokens + num_documents * reach, tokens_N + (document_N + 1) * reach, history_places.flatten())


def _channel_blocks(num_channels: int, stream: _Stream) -> list[slice]:
    multiples = max(1, _BLOCK_ELEMENTS // (stream.num_places * _CHANNEL_MULTIPLE))
    size = multiples * _CHANNEL_MULTIPLE
    return [slice(first, min(first + size, num_channels)) for first in range(0, num_channels, size)]


def _inputs(x_NC: torch.Tensor, history: torch.Tensor | None, channels: slice, stream: _Stream) -> torch.Tensor:
    """Some channels in their places of the stream, float32 or float64 [B, places]; zeros without a history."""
    x_NB = x_NC[:, channels]
    dtype = wide_dtype(x_NC.dtype)
    places = torch.zeros(stream.num_places, x_NB.shape[1], dtype=dtype, device=x_NB.device)
    places.index_copy_(0, stream.token_places, x_NB.to(dtype))
    if history is not None:
        places.index_copy_(0, stream.history_places, history[:, :, channels].flatten(0, 1).to(dtype))
    return places.t().contiguous()


def _correlate(x_BM: torch.Tensor, weights_BK: torch.Tensor) -> torch.Tensor:
    """Σ_k weights_k·x_{m+k} for each channel, [B, M − K + 1]."""
    weights = weights_BK.to(x_BM.dtype)[:, None]
    # On CUDA without Triton, TF32 would be the default.
    with torch.backends.cudnn.flags(allow_tf32=False):
        return torch.nn.functional.conv1d(x_BM[None], weights, groups=x_BM.shape[0])[0]


def _tap_gradients(inputs_BM: torch.Tensor, grads_BM: torch.Tensor, num_taps: int) -> torch.Tensor:
    """Σ_m grads_m·inputs_{m−j} for each tap j, [B, K], by products of blocks of T places.

    The outputs of a block and the inputs ``reach`` blocks before it form a matrix; each of its diagonals belongs to a
    tap.
    """
    size = max(_LEAST_BLOCK_TOKENS, min(_MOST_BLOCK_TOKENS, 1 << (num_taps - 1).bit_length()))
    num_channels, num_places = inputs_BM.shape
    num_reach, num_blocks = -(-(num_taps - 1) // size), -(-num_places // size)
    missing = num_blocks * size - num_places
    inputs = torch.nn.functional.pad(inputs_BM, (num_reach * size, missing)).view(num_channels, -1, size)
    grads = torch.nn.functional.pad(grads_BM, (0, missing)).view(num_channels, -1, size)
    # Taps from −(T − 1) on. Those before tap 0 would look ahead and are dropped.
    sums = inputs_BM.new_zeros(num_channels, (num_reach + 2) * size)
    for reach in range(num_reach + 1):
        reached = inputs[:, num_reach - reach : num_reach - reach + num_blocks]
        sums[:, reach * size :][:, : 2 * size - 1] += _diagonal_sums(torch.bmm(reached.transpose(1, 2), grads))
    return sums[:, size - 1 :][:, :num_taps]


def _diagonal_sums(matrices_BTT: torch.Tensor) -> torch.Tensor:
    """Sums [B, 2T − 1] over the diagonals (column minus row from −(T − 1) to T − 1)."""
    size = matrices_BTT.shape[1]
    # Read as rows of 2T − 1, rows of 2T shift by one each: diagonals become columns.
    skewed = torch.nn.functional.pad(matrices_BTT.flip(1), (0, size)).flatten(1)[:, : size * (2 * size - 1)]
    return skewed.view(-1, size, 2 * size - 1).sum(1)
