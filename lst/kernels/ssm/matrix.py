"""The chunked form in PyTorch: batched matrix products over the chunks of one set of modes, and a scan over the states.

On a GPU the host does not wait for the documents' offsets, and it compiles as one graph on every device. Autograd gives
the gradients, except for moving tokens into chunks and for the scan: their backward passes are the same operations in
reverse.
"""

from __future__ import annotations

import torch

from lst.kernels.operator import differentiable
from lst.kernels.ssm.chunks import ChunkTable
from lst.kernels.ssm.kernels import ChunkMatrices


def chunked_ssm(
    u_NC: torch.Tensor,
    matrices: ChunkMatrices,
    initial_SCW: torch.Tensor | None,
    starts: torch.Tensor,
    table: ChunkTable,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [N, C] and the states before each chunk [C, G, 2Z], both of the matrices' type.

    Args:
        u_NC: inputs [N, C].
        matrices: of a chunk.
        initial_SCW: states [S, C, 2Z] before each document, or None for zeros.
        starts: int64 [S + 1], offsets of the documents.
        table: of the chunks.
    """
    num_heads, chunk_tokens, width = matrices.into_state.shape
    num_channels, num_chunks = u_NC.shape[1], table.first_token.shape[0]
    to_chunk, to_token = _places(starts, table, u_NC.shape[0], chunk_tokens)
    inputs_HRT = _Move.apply(u_NC, True, to_chunk, to_token).to(matrices.within.dtype)
    inputs_HRT = inputs_HRT.view(num_heads, -1, chunk_tokens)
    added_CGW = torch.bmm(inputs_HRT, matrices.into_state).view(num_channels, num_chunks, width)
    before_CGW = _states_before(added_CGW, matrices.chunk_decay, initial_SCW, table)
    outputs = torch.bmm(inputs_HRT, matrices.within)
    outputs = torch.baddbmm(outputs, before_CGW.view(num_heads, -1, width), matrices.out_of_state)
    return _Move.apply(outputs.view(num_channels, -1), False, to_chunk, to_token), before_CGW


def _places(
    starts: torch.Tensor, table: ChunkTable, num_tokens: int, chunk_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The token at each place of the chunks [G·T] (N where the place is empty), and the place of each token [N]."""
    within_T = torch.arange(chunk_tokens, device=starts.device)
    token_GT = table.first_token[:, None] + within_T
    token_GT = torch.where(within_T < table.num_tokens[:, None], token_GT, num_tokens)
    tokens_N = torch.arange(num_tokens, device=starts.device)
    document_N = torch.searchsorted(starts[1:].contiguous(), tokens_N, right=True)
    # Chunks are filled from the left, so the places of a document's tokens are consecutive.
    place_N = table.first_chunk[document_N] * chunk_tokens + tokens_N - starts[document_N]
    return token_GT.flatten(), place_N


class _Move(torch.autograd.Function):
    """Moves tokens [N, C] into chunks [C, G·T] with zeros between, or back. Each is the backward pass of the other."""

    @staticmethod
    def forward(ctx, x, into_chunks, to_chunk, to_token):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(to_chunk, to_token)
        ctx.into_chunks = into_chunks
        return _into_chunks(x, to_chunk) if into_chunks else _out_of_chunks(x, to_token)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        to_chunk, to_token = ctx.saved_tensors
        grad = _out_of_chunks(grad, to_token) if ctx.into_chunks else _into_chunks(grad, to_chunk)
        return grad, None, None, None


def _into_chunks(x_NC: torch.Tensor, to_chunk: torch.Tensor) -> torch.Tensor:
    padded = torch.nn.functional.pad(x_NC, (0, 0, 0, 1))
    return padded.index_select(0, to_chunk).t().contiguous()


def _out_of_chunks(x: torch.Tensor, to_token: torch.Tensor) -> torch.Tensor:
    return x.t().contiguous().index_select(0, to_token)


def _states_before(
    added_CGW: torch.Tensor, decay_HW: torch.Tensor, initial_SCW: torch.Tensor | None, table: ChunkTable
) -> torch.Tensor:
    """x_{g+1} = Ā^T ⊙ x_g + added_g within a document, [C, G, 2Z]; its first chunk has the initial state, or zeros."""
    first_CGW = torch.where(table.continues[:, None], added_CGW.roll(1, 1), 0.0)
    if initial_SCW is not None:
        first_CGW = first_CGW.index_copy(1, table.first_chunk[:-1], initial_SCW.transpose(0, 1))
    return _run_pass(first_CGW, decay_HW, table.continues, False)


@torch.library.custom_op("lst::pass_chunk_states", mutates_args=())
def _pass(states_CGW: torch.Tensor, decay_HW: torch.Tensor, continues_G: torch.Tensor, backwards: bool) -> torch.Tensor:
    """Scan over the chunks: y_g = x_g + Ā^T ⊙ y_{g−1} where ``continues_G``.

    ``backwards`` is its transpose: y_{g−1} = x_{g−1} + conj(Ā^T) ⊙ y_g. As an operator it is one node of a compiled
    graph for any number of chunks.
    """
    passed_CGW = states_CGW.clone(memory_format=torch.contiguous_format)
    # On other devices than the CPU, the host would wait for the flags.
    pass_in_place(passed_CGW, decay_HW, continues_G, backwards, reads_flags=continues_G.device.type == "cpu")
    return passed_CGW


def pass_in_place(
    states_CGW: torch.Tensor, decay_HW: torch.Tensor, continues_G: torch.Tensor, backwards: bool, reads_flags: bool
) -> None:
    """``lst::pass_chunk_states`` in place; with ``reads_flags`` the host reads the flags and skips chunks."""
    num_modes = decay_HW.shape[1] // 2
    by_head = states_CGW.view(decay_HW.shape[0], -1, *states_CGW.shape[1:])
    real, imaginary = by_head[..., :num_modes], by_head[..., num_modes:]
    decay_real, decay_imaginary = decay_HW[:, None, :num_modes], decay_HW[:, None, num_modes:]
    step, sign = (-1, 1) if backwards else (1, -1)
    chunks = continues_G.nonzero()[:, 0].tolist() if reads_flags else list(range(1, states_CGW.shape[1]))
    for chunk in chunks[::step]:
        source, target = (chunk, chunk - 1) if backwards else (chunk - 1, chunk)
        from_real, from_imaginary = real[:, :, source], imaginary[:, :, source]
        if not reads_flags:
            # torch.where, not a product with zero: an infinity of one document must not reach the next.
            from_real, from_imaginary = (torch.where(continues_G[chunk], x, 0.0) for x in (from_real, from_imaginary))
        real[:, :, target].addcmul_(from_real, decay_real).addcmul_(from_imaginary, decay_imaginary, value=sign)
        imaginary[:, :, target].addcmul_(from_imaginary, decay_real).addcmul_(from_real, decay_imaginary, value=-sign)


_pass.register_fake(lambda states_CGW, *_: states_CGW.new_empty(states_CGW.shape))


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, decay_HW, continues_G, ctx.backwards = inputs
    ctx.save_for_backward(output, decay_HW, continues_G)


def _gradients(ctx, grad_CGW):  # type: ignore[no-untyped-def]
    if ctx.backwards:
        raise RuntimeError("diagonal_ssm: gradients of gradients are not available")
    states_CGW, decay_HW, continues_G = ctx.saved_tensors
    grad_CGW = torch.ops.lst.pass_chunk_states(grad_CGW, decay_HW, continues_G, True)
    # The gradient of Ā^T at a chunk: the gradient of its state times the state before it.
    passed = torch.where(continues_G[:, None], grad_CGW, 0.0)[:, 1:]
    (real, imaginary), (grad_real, grad_imaginary) = states_CGW[:, :-1].chunk(2, dim=-1), passed.chunk(2, dim=-1)
    sums = (
        (real * grad_real).sum(1) + (imaginary * grad_imaginary).sum(1),
        (real * grad_imaginary).sum(1) - (imaginary * grad_real).sum(1),
    )
    grad_decay_HW = torch.cat(sums, dim=-1).view(decay_HW.shape[0], -1, decay_HW.shape[1]).sum(1)
    return grad_CGW, grad_decay_HW, None, None


_run_pass = differentiable("pass_chunk_states", _pass, _gradients, _setup)
