"""The chunks of joined documents, and the state of a document in the middle of a chunk.

Every document is cut into chunks of T tokens from its own start. Shapes alone decide the size of a table, so the host
does not wait for a device: N // T + S chunks always suffice, and unused ones hold no token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lst.kernels.ssm.kernels import ChunkMatrices, from_planes

_MOST_CHUNK_TOKENS = 64
_LEAST_CHUNK_TOKENS = 16


class ChunkTable(NamedTuple):
    """Tables of G chunks and S documents; int64 except ``continues``."""

    first_token: torch.Tensor  # [G], index of the first token, N where there is no chunk
    num_tokens: torch.Tensor  # [G], 0 where there is no chunk
    continues: torch.Tensor  # boolean [G], True where the document began in an earlier chunk
    first_chunk: torch.Tensor  # [S + 1], chunks of document s are first_chunk[s] … first_chunk[s + 1] − 1


def choose_chunk_tokens(num_tokens: int, num_documents: int) -> int:
    """T, a power of two: 64, or less where most of a chunk would be padding.

    >>> choose_chunk_tokens(1000, 1), choose_chunk_tokens(1000, 50)
    (64, 32)
    """
    # Comparisons only: symbolic sizes of a compiled graph allow no more.
    chunk_tokens = _LEAST_CHUNK_TOKENS
    while chunk_tokens < _MOST_CHUNK_TOKENS and chunk_tokens * num_documents < num_tokens:
        chunk_tokens *= 2
    return chunk_tokens


def chunk_table(starts: torch.Tensor, num_tokens: int, chunk_tokens: int) -> ChunkTable:
    """The chunks of documents with offsets ``starts`` (int64 [S + 1]), on the device of ``starts``."""
    num_documents = starts.shape[0] - 1
    counts_S = (starts.diff() + chunk_tokens - 1) // chunk_tokens
    first_chunk_S1 = torch.nn.functional.pad(counts_S.cumsum(0), (1, 0))
    chunks_G = torch.arange(num_tokens // chunk_tokens + num_documents, device=starts.device)
    document_G = torch.searchsorted(first_chunk_S1[1:], chunks_G, right=True).clamp(max=max(num_documents - 1, 0))
    place_G = chunks_G - first_chunk_S1[document_G]
    first_token_G = starts[document_G] + place_G * chunk_tokens
    num_tokens_G = (starts[document_G + 1] - first_token_G).clamp(min=0, max=chunk_tokens)
    is_chunk_G = num_tokens_G > 0
    return ChunkTable(
        torch.where(is_chunk_G, first_token_G, num_tokens),
        num_tokens_G,
        (place_G > 0) & is_chunk_G,
        first_chunk_S1,
    )


def carried_state(
    u_NC: torch.Tensor,
    before_CGW: torch.Tensor,
    matrices: ChunkMatrices,
    table: ChunkTable,
    starts: torch.Tensor,
    state_lengths: torch.Tensor,
) -> torch.Tensor:
    """Complex [S, C, Z]: each document's state after ``state_lengths`` of its inputs.

    It is the state before the chunk of the last of these inputs, decayed over the inputs of that chunk, plus those
    inputs.

    Args:
        u_NC: inputs [N, C].
        before_CGW: states before each chunk [C, G, 2Z].
        matrices: of a chunk.
        table: of the chunks.
        starts: int64 [S + 1], offsets of the documents.
        state_lengths: int64 [S], from 0 to the documents' lengths.
    """
    chunk_tokens = matrices.into_state.shape[1]
    whole_S = (state_lengths - 1).clamp(min=0) // chunk_tokens
    before_CSW = before_CGW.index_select(1, table.first_chunk[:-1] + whole_S)
    inputs_STC = last_inputs(u_NC, starts, state_lengths, chunk_tokens)
    return advanced_state(inputs_STC, before_CSW, matrices, state_lengths - whole_S * chunk_tokens)


def last_inputs(
    x_NC: torch.Tensor,
    starts: torch.Tensor,
    state_lengths: torch.Tensor,
    num_inputs: int,
    history: torch.Tensor | None = None,
) -> torch.Tensor:
    """[S, num_inputs, C]: the last of each document's first ``state_lengths`` inputs, aligned to the right.

    Args:
        x_NC: [N, C].
        starts: int64 [S + 1].
        state_lengths: int64 [S].
        num_inputs: T.
        history: [S, M, C], the inputs before each document, or None. Zeros precede it.
    """
    num_documents, num_channels = state_lengths.shape[0], x_NC.shape[1]
    places_ST = state_lengths[:, None] - num_inputs + torch.arange(num_inputs, device=starts.device)
    tokens_ST = (starts[:-1, None] + places_ST).clamp(min=0)
    inputs = x_NC.index_select(0, tokens_ST.flatten()).view(num_documents, num_inputs, num_channels)
    inputs = torch.where(places_ST[:, :, None] >= 0, inputs, 0.0)
    if history is None or not history.shape[1]:
        return inputs
    earlier_ST = (places_ST + history.shape[1]).clamp(min=0, max=history.shape[1] - 1)
    earlier = history.gather(1, earlier_ST[:, :, None].expand(-1, -1, num_channels)).to(inputs.dtype)
    is_earlier_ST = (places_ST < 0) & (places_ST >= -history.shape[1])
    return torch.where(is_earlier_ST[:, :, None], earlier, inputs)


def advanced_state(
    inputs_STC: torch.Tensor, before_CSW: torch.Tensor, matrices: ChunkMatrices, rest_S: torch.Tensor
) -> torch.Tensor:
    """Complex [S, C, Z]: the states [C, S, 2Z] advanced by the last ``rest_S`` (0 to T) of T inputs [S, T, C]."""
    num_heads, chunk_tokens, width = matrices.into_state.shape
    num_documents, _, num_channels = inputs_STC.shape
    is_input_ST = torch.arange(chunk_tokens, device=rest_S.device) >= chunk_tokens - rest_S[:, None]
    inputs_STC = torch.where(is_input_ST[:, :, None], inputs_STC, 0.0).to(before_CSW.dtype)
    inputs_HRT = inputs_STC.permute(2, 0, 1).reshape(num_heads, -1, chunk_tokens)
    from_inputs = torch.bmm(inputs_HRT, matrices.into_state).view(num_channels, num_documents, width)
    powers_HPW = torch.cat([matrices.into_state.flip(1), matrices.chunk_decay[:, None]], dim=1)
    decay_HSW = powers_HPW.index_select(1, rest_S)
    before_HMSZ = from_planes(before_CSW.reshape(num_heads, -1, num_documents, width))
    decayed = (from_planes(decay_HSW)[:, None] * before_HMSZ).view(num_channels, num_documents, -1)
    return (decayed + from_planes(from_inputs)).transpose(0, 1).contiguous()
