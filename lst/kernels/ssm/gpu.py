"""The chunked diagonal SSM on a GPU, in Triton: the states of chunks, the scan over them, and the outputs.

A row of the matrix products is a chunk of one channel. The rows of a program share a set of modes, because each set has
its own matrices. Tokens are transposed to channel by channel first, so that a chunk is contiguous in memory. The
backward pass runs the same kernels with transposed matrices and a reversed scan. One more kernel sums the gradients of
the matrices in a fixed order and without atomic additions, so that they repeat bit for bit. The device computes the
table of chunks, and the host does not wait.

A state is W = 2Z real numbers: the real parts, then the imaginary parts.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.runtime.interpreter import InterpretedFunction

from lst.kernels.paths import float32_precision, on_device_of
from lst.kernels.ssm.chunks import ChunkTable, chunk_table
from lst.kernels.ssm.gpu_kernels import (
    chunk_output_kernel,
    chunk_state_kernel,
    matrix_gradient_kernel,
    state_pass_kernel,
    transpose_kernel,
)

# Number of programs that sum the gradients of matrices: about enough to fill a GPU.
_GRADIENT_PROGRAMS = 512
# Side of the tiles of a transposition.
_TILE = 64
# Terms of a product in one step: exact float32 products keep all operands in registers.
_BLOCK_TIMES = 16


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
    # The gradient of a state through the outputs of its own chunk; the scan adds those of all later chunks.
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
        transpose_kernel[(triton.cdiv(num_rows, _TILE) * triton.cdiv(num_columns, _TILE),)](
            x, out, num_rows, num_columns, *x.stride(), BLOCK=_TILE
        )
    return out


def _chunk_states(x_CN: torch.Tensor, matrices_HTW: torch.Tensor, table: ChunkTable) -> torch.Tensor:
    """[C, G, 2Z]: the tokens of each chunk times the matrix of its set. Matrices may have any strides."""
    num_heads, _, width = matrices_HTW.shape
    states = torch.empty(x_CN.shape[0], len(table.first_token), width, dtype=torch.float32, device=x_CN.device)
    num_rows, sizes = states.shape[0] * states.shape[1] // num_heads, _sizes(matrices_HTW.shape[1], width)
    block_width = _block_width(width)
    column_blocks = triton.cdiv(width, block_width)
    matrices_HTW = _dense_sets(matrices_HTW)
    with on_device_of(x_CN):
        chunk_state_kernel[lambda meta: (triton.cdiv(num_rows, meta["BLOCK_R"]), num_heads, column_blocks)](
            x_CN,
            matrices_HTW,
            states,
            table.first_token,
            table.num_tokens,
            x_CN.shape[1],
            states.shape[1],
            num_rows,
            *matrices_HTW.stride()[1:],
            BLOCK_W=block_width,
            BLOCK_T=_BLOCK_TIMES,
            **sizes,
            **_fixed_rows(),
        )
    return states


def _pass_states(
    states_CGW: torch.Tensor,
    decay_HW: torch.Tensor,
    table: ChunkTable,
    initial_SCW: torch.Tensor | None = None,
    before_CGW: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan over the chunks, in place: from the states that chunks add to the states before them.

    With ``before_CGW`` it is the backward scan: from the gradients of the states before chunks to those of the states
    that chunks add. Returns the gradients of the initial states and of the decay [S, C, 2Z], empty in a forward pass.
    """
    num_channels, num_chunks, width = states_CGW.shape
    num_documents, is_backward = len(table.first_chunk) - 1, before_CGW is not None
    shape = (num_documents, num_channels, width) if is_backward else (0,)
    last, grad_decay = (states_CGW.new_empty(shape) for _ in range(2))
    block_z = min(32, triton.next_power_of_2(width // 2))
    block_c = max(1, 128 // block_z)
    with on_device_of(states_CGW):
        state_pass_kernel[(triton.cdiv(num_channels, block_c) * num_documents, triton.cdiv(width // 2, block_z))](
            states_CGW,
            decay_HW.contiguous(),
            states_CGW if initial_SCW is None else initial_SCW.contiguous(),
            table.first_chunk,
            last,
            states_CGW if before_CGW is None else before_CGW,
            grad_decay,
            num_channels,
            num_chunks,
            num_channels // len(decay_HW),
            MODES=width // 2,
            HAS_INITIAL=initial_SCW is not None,
            IS_BACKWARD=is_backward,
            BLOCK_C=block_c,
            BLOCK_Z=block_z,
        )
    return last, grad_decay


def _chunk_outputs(
    x_CN: torch.Tensor,
    within_HTT: torch.Tensor,
    states_CGW: torch.Tensor,
    readouts_HWT: torch.Tensor,
    table: ChunkTable,
) -> torch.Tensor:
    """[C, N]: tokens and states of each chunk, each times a matrix of its set. Matrices may have any strides."""
    num_heads, width, chunk_tokens = readouts_HWT.shape
    out = torch.empty_like(x_CN)
    num_rows, sizes = states_CGW.shape[0] * states_CGW.shape[1] // num_heads, _sizes(chunk_tokens, width)
    within_HTT, readouts_HWT = _dense_sets(within_HTT), _dense_sets(readouts_HWT)
    with on_device_of(x_CN):
        chunk_output_kernel[lambda meta: (triton.cdiv(num_rows, meta["BLOCK_R"]), num_heads)](
            x_CN,
            within_HTT,
            states_CGW,
            readouts_HWT,
            out,
            table.first_token,
            table.num_tokens,
            x_CN.shape[1],
            states_CGW.shape[1],
            num_rows,
            *within_HTT.stride()[1:],
            *readouts_HWT.stride()[1:],
            BLOCK_T=_BLOCK_TIMES,
            **sizes,
            **_fixed_rows(),
        )
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
        matrix_gradient_kernel[(num_heads, parts, column_blocks)](
            u_CN,
            grad_CN,
            before_CGW,
            grad_added_CGW,
            within,
            out_of,
            into,
            table.first_token,
            table.num_tokens,
            u_CN.shape[1],
            before_CGW.shape[1],
            num_rows,
            PARTS=parts,
            BLOCK_R=block_rows,
            # With fewer warps, the three sums do not fit the registers.
            BLOCK_W=block_width,
            num_warps=8,
            num_stages=2,
            **sizes,
        )
    return into.sum(0), out_of.sum(0), within.sum(0)


def _dense_sets(matrices: torch.Tensor) -> torch.Tensor:
    """The matrices with contiguous sets, each stored by rows or by columns."""
    rows, columns = matrices.shape[1:]
    is_dense = matrices.stride() in ((rows * columns, columns, 1), (rows * columns, 1, rows))
    return matrices if is_dense else matrices.contiguous()


def _sizes(chunk_tokens: int, width: int) -> dict[str, Any]:
    """Constants of the kernels with matrix products."""
    return {"CHUNK": chunk_tokens, "WIDTH": width, "PRECISION": float32_precision()}


def _block_width(width: int) -> int:
    """Columns of states of a program: a matrix product needs 16 or more, and above 64 registers do not suffice."""
    return min(64, max(16, triton.next_power_of_2(width)))


def _fixed_rows() -> dict[str, int]:
    """Number of rows of a program under the interpreter, where nothing is tuned."""
    return {"BLOCK_R": 64} if isinstance(chunk_state_kernel, InterpretedFunction) else {}
