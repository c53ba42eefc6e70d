"""The chunked diagonal state space model on a GPU, in Triton: chunk states, the pass from one to the next, outputs.

A row of the matrix products is a chunk of one channel, and the rows of a program are of one set of modes, as each has
its own matrices. Tokens are laid out channel by channel beforehand, so that a chunk is one stretch of memory. The
backward pass runs the same kernels with the matrices transposed and the pass of states reversed; one more kernel sums
the gradients of the matrices, in one order and without atomic additions, so that they repeat bit for bit. The table of
chunks is made on the device, and the host waits for nothing.

States lie as planes, the real and then the imaginary parts: W = 2Z.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from lst.kernels.paths import float32_precision, on_device_of
from lst.kernels.ssm.chunks import ChunkTable, chunk_table

# Programs that sum the gradients of matrices, at which a GPU is about full.
_GRADIENT_PROGRAMS = 512
# Side of a tile that is transposed.
_TILE = 64
# Terms of a product that are summed at a time: exact float32 products hold all of their operands in registers.
_BLOCK_TIMES = 16


def _tuned(kernel: Any) -> Any:
    """Rows a program and warps are measured on the first call, but under the interpreter, which has no clock for it."""
    if isinstance(kernel, InterpretedFunction):
        return kernel
    configs = [
        triton.Config({"BLOCK_R": rows}, num_warps=warps, num_stages=stages)
        for rows, warps, stages in ((32, 4, 1), (64, 4, 1), (64, 8, 1), (64, 8, 2), (128, 8, 1))
    ]
    return triton.autotune(configs, key=["CHUNK", "WIDTH", "PRECISION"])(kernel)


@triton.jit
def _transpose_kernel(x, out, num_rows, num_columns, stride_row, stride_column, BLOCK: tl.constexpr):
    """out [columns, rows] = the transpose of x [rows, columns], of whatever strides. Programs are counted in one
    dimension: of the others a GPU allows 65,535, which either side's blocks can exceed."""
    row_blocks = tl.cdiv(num_rows, BLOCK)
    rows = (tl.program_id(0) % row_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    columns = (tl.program_id(0) // row_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_column = rows < num_rows, columns < num_columns
    offsets = rows[:, None] * stride_row + columns[None, :] * stride_column
    tile = tl.load(x + offsets, mask=is_row[:, None] & is_column[None, :])
    out_offsets = columns[:, None] * num_rows + rows[None, :]
    tl.store(out + out_offsets, tl.trans(tile), mask=is_column[:, None] & is_row[None, :])


@triton.jit
def _chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows):
    """Offset into [C, N] of each row's first token, and its number of tokens: row r is chunk r % G of the set's channel
    r // G."""
    is_row = rows < num_rows
    member, chunk = rows // num_chunks, rows % num_chunks
    channel = head * (num_rows // num_chunks) + member
    first = tl.load(first_tokens + chunk, mask=is_row, other=0)
    count = tl.load(counts + chunk, mask=is_row, other=0)
    return channel * num_tokens + first, count


@_tuned
@triton.jit
def _chunk_state_kernel(
    x, matrices, states, first_tokens, counts, num_tokens, num_chunks, num_rows, stride_time, stride_state,
    CHUNK: tl.constexpr, WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
):  # fmt: skip
    """states [C·G, 2Z] = tokens of each chunk [C·G, T] @ matrix [T, 2Z] of the channel's set."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    head = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    is_row, is_column = rows < num_rows, columns < WIDTH
    first, count = _chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
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
def _state_pass_kernel(
    states, decay, initial, first_chunks, last, before, grad_decay, num_channels, num_chunks, members,
    MODES: tl.constexpr, HAS_INITIAL: tl.constexpr, IS_BACKWARD: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_Z: tl.constexpr,
):  # fmt: skip
    """Of one document: what a chunk adds is replaced by the state before it; backward, by the gradient of the same,
    walking from the last chunk to the first with the conjugate decay. ``last`` takes what the walk ends with."""
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


@_tuned
@triton.jit
def _chunk_output_kernel(
    x, within, states, readouts, out, first_tokens, counts, num_tokens, num_chunks, num_rows,
    stride_in, stride_out, stride_state, stride_time,
    CHUNK: tl.constexpr, WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Tokens of each chunk [C·G, T] = tokens @ within [T, T] + states [C·G, 2Z] @ readouts [2Z, T]."""
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    head = tl.program_id(1).to(tl.int64)
    is_row = rows < num_rows
    outputs = tl.arange(0, CHUNK)
    first, count = _chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
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
def _matrix_gradient_kernel(
    x, grad, before, grad_added, grad_within, grad_out_of, grad_into, first_tokens, counts,
    num_tokens, num_chunks, num_rows,
    PARTS: tl.constexpr, CHUNK: tl.constexpr, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Gradients of one set's matrices, summed over every PARTS-th block of rows: products of what goes in, transposed,
    and the gradient of what comes out."""
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
        first, count = _chunk_rows(first_tokens, counts, rows, head, num_tokens, num_chunks, num_rows)
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


def forward(
    u_NC: torch.Tensor,
    into_state_HTW: torch.Tensor,
    out_of_state_HWT: torch.Tensor,
    within_HTT: torch.Tensor,
    chunk_decay_HW: torch.Tensor,
    initial_SCW: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [N, C] of the input's type and states before each chunk, float32 [C, G, 2Z].

    Args:
        u_NC: inputs [N, C] of at most 32 bits.
        into_state_HTW, out_of_state_HWT, within_HTT, chunk_decay_HW: ``ChunkMatrices`` in float32, T a power of two
            and at least 16.
        initial_SCW: float32 [S, C, 2Z] or None.
        starts: int64 [S + 1].
    """
    chunk_tokens = into_state_HTW.shape[1]
    u_CN, table = _transposed(u_NC), chunk_table(starts, u_NC.shape[0], chunk_tokens)
    before_CGW = _chunk_states(u_CN, into_state_HTW, table)
    _pass_states(before_CGW, chunk_decay_HW, table, initial_SCW=initial_SCW)
    y_CN = _chunk_outputs(u_CN, within_HTT, before_CGW, out_of_state_HWT, table)
    return _transposed(y_CN), before_CGW


def backward(
    grad_NC: torch.Tensor,
    grad_before_CGW: torch.Tensor | None,
    u_NC: torch.Tensor,
    into_state_HTW: torch.Tensor,
    out_of_state_HWT: torch.Tensor,
    within_HTT: torch.Tensor,
    chunk_decay_HW: torch.Tensor,
    before_CGW: torch.Tensor,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of u, the four matrices and the initial state [S, C, 2Z]."""
    num_heads, chunk_tokens, width = into_state_HTW.shape
    u_CN, grad_CN = _transposed(u_NC), _transposed(grad_NC)
    table = chunk_table(starts, u_NC.shape[0], chunk_tokens)
    # The gradient of a state as its own chunk's outputs see it, and then as those of all later chunks do.
    grad_added_CGW = _chunk_states(grad_CN, out_of_state_HWT.transpose(1, 2), table)
    if grad_before_CGW is not None:
        grad_added_CGW += grad_before_CGW
    grad_initial_SCW, grad_decay_SCW = _pass_states(grad_added_CGW, chunk_decay_HW, table, before_CGW=before_CGW)
    grad_decay_HW = grad_decay_SCW.sum(0).view(num_heads, -1, width).sum(1)
    grad_u_CN = _chunk_outputs(
        grad_CN, within_HTT.transpose(1, 2), grad_added_CGW, into_state_HTW.transpose(1, 2), table
    )
    grad_matrices = _matrix_gradients(u_CN, grad_CN, before_CGW, grad_added_CGW, into_state_HTW, table)
    return _transposed(grad_u_CN), *grad_matrices, grad_decay_HW, grad_initial_SCW


def _transposed(x: torch.Tensor) -> torch.Tensor:
    """A contiguous transpose; PyTorch's own copy takes about twice as long."""
    num_rows, num_columns = x.shape
    out = torch.empty(num_columns, num_rows, dtype=x.dtype, device=x.device)
    with on_device_of(x):
        _transpose_kernel[(triton.cdiv(num_rows, _TILE) * triton.cdiv(num_columns, _TILE),)](
            x, out, num_rows, num_columns, *x.stride(), BLOCK=_TILE
        )
    return out


def _chunk_states(x_CN: torch.Tensor, matrices_HTW: torch.Tensor, table: ChunkTable) -> torch.Tensor:
    """[C, G, 2Z]: the tokens of each chunk times the matrix of its set, of whatever strides."""
    num_heads, _, width = matrices_HTW.shape
    states = torch.empty(x_CN.shape[0], len(table.first_token), width, dtype=torch.float32, device=x_CN.device)
    num_rows, sizes = states.shape[0] * states.shape[1] // num_heads, _sizes(matrices_HTW.shape[1], width)
    block_width = _block_width(width)
    column_blocks = triton.cdiv(width, block_width)
    matrices_HTW = _dense_sets(matrices_HTW)
    with on_device_of(x_CN):
        _chunk_state_kernel[lambda meta: (triton.cdiv(num_rows, meta["BLOCK_R"]), num_heads, column_blocks)](
            x_CN, matrices_HTW, states, table.first_token, table.num_tokens, x_CN.shape[1], states.shape[1], num_rows,
            *matrices_HTW.stride()[1:], BLOCK_W=block_width, BLOCK_T=_BLOCK_TIMES, **sizes, **_fixed_rows(),
        )  # fmt: skip
    return states


def _pass_states(
    states_CGW: torch.Tensor,
    decay_HW: torch.Tensor,
    table: ChunkTable,
    initial_SCW: torch.Tensor | None = None,
    before_CGW: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns what chunks add into the states before them, in place; with those, gradients of the latter into gradients
    of the former. Returns the gradients of the initial states and of the decay [S, C, 2Z], empty in a forward pass."""
    num_channels, num_chunks, width = states_CGW.shape
    num_documents, is_backward = len(table.first_chunk) - 1, before_CGW is not None
    shape = (num_documents, num_channels, width) if is_backward else (0,)
    last, grad_decay = (states_CGW.new_empty(shape) for _ in range(2))
    block_z = min(32, triton.next_power_of_2(width // 2))
    block_c = max(1, 128 // block_z)
    with on_device_of(states_CGW):
        _state_pass_kernel[(triton.cdiv(num_channels, block_c) * num_documents, triton.cdiv(width // 2, block_z))](
            states_CGW, decay_HW.contiguous(), states_CGW if initial_SCW is None else initial_SCW.contiguous(),
            table.first_chunk, last, states_CGW if before_CGW is None else before_CGW, grad_decay,
            num_channels, num_chunks, num_channels // len(decay_HW), MODES=width // 2,
            HAS_INITIAL=initial_SCW is not None, IS_BACKWARD=is_backward, BLOCK_C=block_c, BLOCK_Z=block_z,
        )  # fmt: skip
    return last, grad_decay


def _chunk_outputs(
    x_CN: torch.Tensor,
    within_HTT: torch.Tensor,
    states_CGW: torch.Tensor,
    readouts_HWT: torch.Tensor,
    table: ChunkTable,
) -> torch.Tensor:
    """[C, N]: tokens and states of each chunk, each times a matrix of its set, of whatever strides."""
    num_heads, width, chunk_tokens = readouts_HWT.shape
    out = torch.empty_like(x_CN)
    num_rows, sizes = states_CGW.shape[0] * states_CGW.shape[1] // num_heads, _sizes(chunk_tokens, width)
    within_HTT, readouts_HWT = _dense_sets(within_HTT), _dense_sets(readouts_HWT)
    with on_device_of(x_CN):
        _chunk_output_kernel[lambda meta: (triton.cdiv(num_rows, meta["BLOCK_R"]), num_heads)](
            x_CN, within_HTT, states_CGW, readouts_HWT, out, table.first_token, table.num_tokens, x_CN.shape[1],
            states_CGW.shape[1], num_rows, *within_HTT.stride()[1:], *readouts_HWT.stride()[1:],
            BLOCK_T=_BLOCK_TIMES, **sizes, **_fixed_rows(),
        )  # fmt: skip
    return out


def _matrix_gradients(
    u_CN: torch.Tensor,
    grad_CN: torch.Tensor,
    before_CGW: torch.Tensor,
    grad_added_CGW: torch.Tensor,
    into_state_HTW: torch.Tensor,
    table: ChunkTable,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of into_state, out_of_state and within."""
    num_heads, chunk_tokens, width = into_state_HTW.shape
    num_rows, sizes = before_CGW.shape[0] * before_CGW.shape[1] // num_heads, _sizes(chunk_tokens, width)
    block_rows, block_width = 16, _block_width(width)
    column_blocks = triton.cdiv(width, block_width)
    parts = max(1, min(triton.cdiv(num_rows, block_rows), _GRADIENT_PROGRAMS // (num_heads * column_blocks)))
    shapes = ((chunk_tokens, width), (width, chunk_tokens), (chunk_tokens, chunk_tokens))
    into, out_of, within = (before_CGW.new_empty(parts, num_heads, *shape) for shape in shapes)
    with on_device_of(u_CN):
        _matrix_gradient_kernel[(num_heads, parts, column_blocks)](
            u_CN, grad_CN, before_CGW, grad_added_CGW, within, out_of, into, table.first_token, table.num_tokens,
            u_CN.shape[1], before_CGW.shape[1], num_rows, PARTS=parts, BLOCK_R=block_rows,
            # With fewer warps, the three sums do not fit the registers.
            BLOCK_W=block_width, num_warps=8, num_stages=2, **sizes,
        )  # fmt: skip
    return into.sum(0), out_of.sum(0), within.sum(0)


def _dense_sets(matrices: torch.Tensor) -> torch.Tensor:
    """The matrices, one set's after another's, each stored by rows or by columns."""
    rows, columns = matrices.shape[1:]
    is_dense = matrices.stride() in ((rows * columns, columns, 1), (rows * columns, 1, rows))
    return matrices if is_dense else matrices.contiguous()


def _sizes(chunk_tokens: int, width: int) -> dict[str, Any]:
    """Constants of the products."""
    return {"CHUNK": chunk_tokens, "WIDTH": width, "PRECISION": float32_precision()}


def _block_width(width: int) -> int:
    """Columns of states a program: a matrix product takes 16 or more, above 64 would not fit the registers."""
    return min(64, max(16, triton.next_power_of_2(width)))


def _fixed_rows() -> dict[str, int]:
    """Rows a program where nothing is tuned."""
    return {"BLOCK_R": 64} if isinstance(_chunk_state_kernel, InterpretedFunction) else {}
