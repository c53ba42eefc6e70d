"""Triton kernels of the diagonal state space model: see ``lst.kernels.ssm.gpu``, which launches them."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction


def tuned(kernel: Any) -> Any:
    """Tunes rows and warps of a program by measurement on the first call; the interpreter tunes nothing."""
    if isinstance(kernel, InterpretedFunction):
        return kernel
    configs = [
        triton.Config({"BLOCK_R": rows}, num_warps=warps, num_stages=stages)
        for rows, warps, stages in ((32, 4, 1), (64, 4, 1), (64, 8, 1), (64, 8, 2), (128, 8, 1))
    ]
    return triton.autotune(configs, key=["CHUNK", "WIDTH", "PRECISION"])(kernel)


@triton.jit
def transpose_kernel(x, out, num_rows, num_columns, stride_row, stride_column, BLOCK: tl.constexpr):
    """out [columns, rows] = the transpose of x [rows, columns] with any strides.

    Programs have one dimension: a GPU allows 65,535 in the others, which may be too few.
    """
    row_blocks = tl.cdiv(num_rows, BLOCK)
    rows = (tl.program_id(0) % row_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    columns = (tl.program_id(0) // row_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_column = rows < num_rows, columns < num_columns
    offsets = rows[:, None] * stride_row + columns[None, :] * stride_column
    tile = tl.load(x + offsets, mask=is_row[:, None] & is_column[None, :])
    out_offsets = columns[:, None] * num_rows + rows[None, :]
    tl.store(out + out_offsets, tl.trans(tile), mask=is_column[:, None] & is_row[None, :])


@triton.jit
def chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows):
    """Offset into [C, N] of the first token of each row, and its number of tokens.

    Row r is chunk r % G of the set's channel r // G.
    """
    is_row = rows < num_rows
    member, chunk = rows // num_chunks, rows % num_chunks
    channel = head * (num_rows // num_chunks) + member
    first = tl.load(first_tokens + chunk, mask=is_row, other=0)
    count = tl.load(counts + chunk, mask=is_row, other=0)
    return channel * num_tokens + first, count


@tuned
@triton.jit
def chunk_state_kernel(
    x,
    matrices,
    states,
    first_tokens,
    counts,
    num_tokens,
    num_chunks,
    num_rows,
    stride_time,
    stride_state,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """states [C·G, 2Z] = tokens of each chunk [C·G, T] @ matrix [T, 2Z] of the channel's set."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    head = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    is_row, is_column = rows < num_rows, columns < WIDTH
    first, count = chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
    total = tl.zeros([BLOCK_R, BLOCK_W], tl.float32)
    for first_time in range(0, CHUNK, BLOCK_T):
        times = first_time + tl.arange(0, BLOCK_T)
        tokens = tl.load(x + first[:, None] + times[None, :], mask=times[None, :] < count[:, None], other=0.0)
        matrix = tl.load(
            matrices + head * CHUNK * WIDTH + times[:, None] * stride_time + columns[None, :] * stride_state,
            mask=is_column[None, :],
            other=0.0,
        )
        total += tl.dot(tokens.to(tl.float32), matrix, input_precision=PRECISION)
    tl.store(
        states + (head * num_rows + rows)[:, None] * WIDTH + columns[None, :],
        total,
        mask=is_row[:, None] & is_column[None, :],
    )


@triton.jit
def state_pass_kernel(
    states,
    decay,
    initial,
    first_chunks,
    last,
    before,
    grad_decay,
    num_channels,
    num_chunks,
    members,
    MODES: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    IS_BACKWARD: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_Z: tl.constexpr,
):
    """Scan over the chunks of one document, in place: from the state that a chunk adds to the state before it.

    Backward, the scan runs from the last chunk to the first with the conjugate decay, and takes gradients. ``last`` is
    the final value of the scan.
    """
    # One dimension for channels and documents: of the others a GPU allows 65,535.
    channel_blocks = tl.cdiv(num_channels, BLOCK_C)
    channels = (tl.program_id(0) % channel_blocks).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    document = (tl.program_id(0) // channel_blocks).to(tl.int64)
    modes = tl.program_id(1) * BLOCK_Z + tl.arange(0, BLOCK_Z)
    tile = (channels < num_channels)[:, None] & (modes < MODES)[None, :]
    decay_offsets = (channels // members)[:, None] * (2 * MODES) + modes[None, :]
    decay_re = tl.load(decay + decay_offsets, mask=tile, other=0.0)
    decay_im = tl.load(decay + decay_offsets + MODES, mask=tile, other=0.0)
    edge_offsets = (document * num_channels + channels)[:, None] * (2 * MODES) + modes[None, :]
    carried_re = tl.zeros([BLOCK_C, BLOCK_Z], tl.float32)
    carried_im = tl.zeros([BLOCK_C, BLOCK_Z], tl.float32)
    grad_re = tl.zeros([BLOCK_C, BLOCK_Z], tl.float32)
    grad_im = tl.zeros([BLOCK_C, BLOCK_Z], tl.float32)
    if HAS_INITIAL:
        carried_re += tl.load(initial + edge_offsets, mask=tile, other=0.0)
        carried_im += tl.load(initial + edge_offsets + MODES, mask=tile, other=0.0)
    if IS_BACKWARD:
        decay_im = -decay_im
    first = tl.load(first_chunks + document)
    end = tl.load(first_chunks + document + 1)
    # What later chunks add is fetched meanwhile.
    for step in tl.range((end - first).to(tl.int32), num_stages=4):
        chunk = first + step
        if IS_BACKWARD:
            chunk = end - 1 - step
        offsets = (channels * num_chunks + chunk)[:, None] * (2 * MODES) + modes[None, :]
        added_re = tl.load(states + offsets, mask=tile, other=0.0)
        added_im = tl.load(states + offsets + MODES, mask=tile, other=0.0)
        tl.store(states + offsets, carried_re, mask=tile)
        tl.store(states + offsets + MODES, carried_im, mask=tile)
        if IS_BACKWARD:
            state_re = tl.load(before + offsets, mask=tile, other=0.0)
            state_im = tl.load(before + offsets + MODES, mask=tile, other=0.0)
            grad_re += state_re * carried_re + state_im * carried_im
            grad_im += state_re * carried_im - state_im * carried_re
        new_re = decay_re * carried_re - decay_im * carried_im + added_re
        carried_im = decay_re * carried_im + decay_im * carried_re + added_im
        carried_re = new_re
    if IS_BACKWARD:
        tl.store(last + edge_offsets, carried_re, mask=tile)
        tl.store(last + edge_offsets + MODES, carried_im, mask=tile)
        tl.store(grad_decay + edge_offsets, grad_re, mask=tile)
        tl.store(grad_decay + edge_offsets + MODES, grad_im, mask=tile)


@tuned
@triton.jit
def chunk_output_kernel(
    x,
    within,
    states,
    readouts,
    out,
    first_tokens,
    counts,
    num_tokens,
    num_chunks,
    num_rows,
    stride_in,
    stride_out,
    stride_state,
    stride_time,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_T: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Tokens of each chunk [C·G, T] = tokens @ within [T, T] + states [C·G, 2Z] @ readouts [2Z, T]."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    head = tl.program_id(1).to(tl.int64)
    is_row = rows < num_rows
    outputs = tl.arange(0, CHUNK)
    first, count = chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
    total = tl.zeros([BLOCK_R, CHUNK], tl.float32)
    for first_time in range(0, CHUNK, BLOCK_T):
        times = first_time + tl.arange(0, BLOCK_T)
        tokens = tl.load(x + first[:, None] + times[None, :], mask=times[None, :] < count[:, None], other=0.0)
        matrix = tl.load(within + head * CHUNK * CHUNK + times[:, None] * stride_in + outputs[None, :] * stride_out)
        total += tl.dot(tokens.to(tl.float32), matrix, input_precision=PRECISION)
    for first_column in range(0, WIDTH, BLOCK_T):
        columns = first_column + tl.arange(0, BLOCK_T)
        is_column = columns < WIDTH
        state = tl.load(
            states + (head * num_rows + rows)[:, None] * WIDTH + columns[None, :],
            mask=is_row[:, None] & is_column[None, :],
            other=0.0,
        )
        readout = tl.load(
            readouts + head * CHUNK * WIDTH + columns[:, None] * stride_state + outputs[None, :] * stride_time,
            mask=is_column[:, None],
            other=0.0,
        )
        total += tl.dot(state, readout, input_precision=PRECISION)
    tl.store(
        out + first[:, None] + outputs[None, :],
        total.to(out.dtype.element_ty),
        mask=outputs[None, :] < count[:, None],
    )


@triton.jit
def matrix_gradient_kernel(
    x,
    grad,
    before,
    grad_added,
    grad_within,
    grad_out_of,
    grad_into,
    first_tokens,
    counts,
    num_tokens,
    num_chunks,
    num_rows,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Gradients of the matrices of one set, summed over every PARTS-th block of rows.

    Each is the product of the transposed input and the gradient of the output.
    """
    head = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    columns = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    is_column = columns < WIDTH
    times = tl.arange(0, CHUNK)
    within = tl.zeros([CHUNK, CHUNK], tl.float32)
    out_of = tl.zeros([BLOCK_W, CHUNK], tl.float32)
    into = tl.zeros([CHUNK, BLOCK_W], tl.float32)
    for first_row in range(part * BLOCK_R, num_rows, PARTS * BLOCK_R):
        rows = first_row + tl.arange(0, BLOCK_R)
        first, count = chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
        offsets, is_token = first[:, None] + times[None, :], times[None, :] < count[:, None]
        tokens_transposed = tl.trans(tl.load(x + offsets, mask=is_token, other=0.0).to(tl.float32))
        grads = tl.load(grad + offsets, mask=is_token, other=0.0).to(tl.float32)
        state_offsets = (head * num_rows + rows)[:, None] * WIDTH + columns[None, :]
        tile = (rows < num_rows)[:, None] & is_column[None, :]
        state = tl.load(before + state_offsets, mask=tile, other=0.0)
        added = tl.load(grad_added + state_offsets, mask=tile, other=0.0)
        within += tl.dot(tokens_transposed, grads, input_precision=PRECISION)
        out_of += tl.dot(tl.trans(state), grads, input_precision=PRECISION)
        into += tl.dot(tokens_transposed, added, input_precision=PRECISION)
    slot = part.to(tl.int64) * tl.num_programs(0) + head
    tl.store(
        grad_out_of + slot * WIDTH * CHUNK + columns[:, None] * CHUNK + times[None, :], out_of, mask=is_column[:, None]
    )
    tl.store(
        grad_into + slot * CHUNK * WIDTH + times[:, None] * WIDTH + columns[None, :], into, mask=is_column[None, :]
    )
    if tl.program_id(2) == 0:
        tl.store(grad_within + slot * CHUNK * CHUNK + times[:, None] * CHUNK + times[None, :], within)
