"""The compiled state-space kernels as one operator of PyTorch, with a backward pass and a fake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from lst.kernels.native import library
from lst.kernels.operator import differentiable

_baseline: list[bool] = [False]
# Arguments with gradients, in the order of the operators; and those that are rows of tokens, whose strides may differ.
_ARGUMENTS = ("value", "query", "key", "taps", "skip", "decay", "readout", "initial_state", "history")
_ROWS = ("value", "query", "key")


@contextlib.contextmanager
def baseline_instructions() -> Iterator[None]:
    """Context manager: the version for processors without AVX2 runs."""
    _baseline.append(True)
    try:
        yield
    finally:
        _baseline.pop()


def uses_baseline() -> bool:
    """Whether the version for processors without AVX2 is asked for."""
    return _baseline[-1]


def padded_modes(num_modes: int) -> int:
    """Number of modes in storage: the next multiple of eight.

    >>> padded_modes(9)
    16
    """
    return -(-num_modes // 8) * 8


def _dense(*tensors: torch.Tensor | None) -> dict[str, torch.Tensor | None]:
    """``_ARGUMENTS`` by name, in the layout that the library reads. Rows of tokens may have a stride."""
    return {
        name: x if x is None or (name in _ROWS and (x.stride(1) == 1 or x.shape[1] == 1)) else x.contiguous()
        for name, x in zip(_ARGUMENTS, tensors, strict=True)
    }


def _problem(arrays: dict[str, torch.Tensor | None]) -> library.Problem:
    """The sizes and strides of a call."""
    value, taps, decay = arrays["value"], arrays["taps"], arrays["decay"]
    assert value is not None
    assert decay is not None
    problem = library.Problem()
    problem.num_tokens, problem.num_channels = value.shape
    problem.num_heads, problem.num_modes = decay.shape[:2]
    problem.num_taps = 1 if taps is None else taps.shape[1]
    problem.gated = arrays["query"] is not None
    for name in _ROWS:
        setattr(problem, f"{name}_stride", 0 if (x := arrays[name]) is None else x.stride(0))
    return problem


def _run(
    problem: library.Problem, arrays: Mapping[str, torch.Tensor | None], starts: torch.Tensor, backward: bool
) -> None:
    for name, tensor in arrays.items():
        setattr(problem, name, None if tensor is None else tensor.data_ptr())
    library.run(problem, starts, backward, baseline=uses_baseline())


def _num_sequences(value_NC: torch.Tensor, decay_HZ2: torch.Tensor, gated: bool) -> int:
    """Number of sequences with a state: C, or with gates d² for each head of d channels."""
    num_channels = value_NC.shape[1]
    return num_channels * (num_channels // decay_HZ2.shape[0]) if gated else num_channels


@torch.library.custom_op("lst::state_space", mutates_args=())
def state_space(
    value_NC: torch.Tensor,
    query_NC: torch.Tensor | None,
    key_NC: torch.Tensor | None,
    taps_CK: torch.Tensor | None,
    skip_H: torch.Tensor | None,
    decay_HZ2: torch.Tensor,
    readout_HZ2: torch.Tensor,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
    state_chunks: torch.Tensor | None,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The diagonal SSM of values, or with queries and keys the whole mixing of H3; float32 on the CPU.

    Args:
        value_NC: [N, C].
        query_NC, key_NC, taps_CK: [N, C], [N, C] and [C, K], or None for the SSM alone.
        skip_H: [H] or None.
        decay_HZ2, readout_HZ2: float64 [H, Z, 2].
        starts: int64 [S + 1], offsets of the documents.
        initial_state: [S, Q, 2, Z'] with Z' = ``padded_modes(Z)``, or None.
        history: [S, K − 1, C], keys before the documents, or None.
        state_chunks: int64 [S] or None; the state after that many full chunks of each document is returned.
        wants_gradient: whether the states that the backward pass needs are saved.

    Returns:
        [N, C]; the saved states; the states after ``state_chunks``, [S, Q, 2, Z'] (empty for None).
    """
    arrays = _dense(value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    problem = _problem(arrays)
    width = (2, padded_modes(decay_HZ2.shape[1]))
    num_sequences = _num_sequences(value_NC, decay_HZ2, query_NC is not None)
    starts = starts.contiguous()
    out_NC = value_NC.new_empty(value_NC.shape)
    num_blocks = library.plan_sizes(problem, starts)[0] if wants_gradient else 0
    block_states = value_NC.new_empty(num_blocks, num_sequences, *width)
    num_kept = 0 if state_chunks is None else len(state_chunks)
    kept_states = value_NC.new_empty(num_kept, num_sequences, *width)
    saved = block_states if wants_gradient else None
    arrays |= {"state_chunks": state_chunks, "out": out_NC, "kept_states": kept_states, "block_states": saved}
    _run(problem, arrays, starts, backward=False)
    return out_NC, block_states, kept_states


@state_space.register_fake
def _(
    value_NC: torch.Tensor,
    query_NC: torch.Tensor | None,
    key_NC: torch.Tensor | None,
    taps_CK: torch.Tensor | None,
    skip_H: torch.Tensor | None,
    decay_HZ2: torch.Tensor,
    readout_HZ2: torch.Tensor,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
    state_chunks: torch.Tensor | None,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = (2, padded_modes(decay_HZ2.shape[1]))
    num_sequences = _num_sequences(value_NC, decay_HZ2, query_NC is not None)
    # The number of blocks depends on the documents' lengths.
    num_blocks = torch.library.get_ctx().new_dynamic_size() if wants_gradient else 0
    num_kept = 0 if state_chunks is None else state_chunks.shape[0]
    return (
        value_NC.new_empty(value_NC.shape),
        value_NC.new_empty(num_blocks, num_sequences, *width),
        value_NC.new_empty(num_kept, num_sequences, *width),
    )


@torch.library.custom_op("lst::state_space_backward", mutates_args=())
def state_space_backward(
    grad_NC: torch.Tensor,
    grad_kept_states: torch.Tensor,
    value_NC: torch.Tensor,
    query_NC: torch.Tensor | None,
    key_NC: torch.Tensor | None,
    taps_CK: torch.Tensor | None,
    skip_H: torch.Tensor | None,
    decay_HZ2: torch.Tensor,
    readout_HZ2: torch.Tensor,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
    state_chunks: torch.Tensor | None,
    block_states: torch.Tensor,
) -> list[torch.Tensor]:
    """Gradients of ``_ARGUMENTS``, in this order; the gradient of an argument that is None is empty."""
    given = (value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    arrays = _dense(*given)
    problem = _problem(arrays)
    starts = starts.contiguous()
    spans = library.plan_sizes(problem, starts)[1]
    arrays |= {"state_chunks": state_chunks, "block_states": block_states, "grad_out": grad_NC.contiguous()}
    if state_chunks is not None:
        arrays["grad_kept_states"] = grad_kept_states.contiguous()
    grads = {
        f"grad_{name}": None if (tensor := arrays[name]) is None else tensor.new_empty(tensor.shape)
        for name in (*_ROWS, "initial_state", "history")
    }
    sums = {
        "grad_taps": None if taps_CK is None else decay_HZ2.new_empty(spans, *taps_CK.shape),
        "grad_skip": decay_HZ2.new_empty(spans, decay_HZ2.shape[0]),
        "grad_decay": decay_HZ2.new_empty(spans, *decay_HZ2.shape),
        "grad_readout": decay_HZ2.new_empty(spans, *decay_HZ2.shape),
    }
    _run(problem, arrays | grads | sums, starts, backward=True)
    found = grads | {name: None if tensor is None else tensor.sum(dim=0) for name, tensor in sums.items()}
    return [
        value_NC.new_empty(0) if (grad := found[f"grad_{name}"]) is None or tensor is None else grad.to(tensor.dtype)
        for name, tensor in zip(_ARGUMENTS, given, strict=True)
    ]


def _with_gradients(tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """``_ARGUMENTS`` among the tensors of ``state_space``: all but starts (7) and state_chunks (10)."""
    return [*tensors[:7], *tensors[8:10]]


@state_space_backward.register_fake
def _(_grad: torch.Tensor, _grad_kept: torch.Tensor, *tensors: torch.Tensor | None) -> list[torch.Tensor]:
    value = tensors[0]
    assert value is not None
    return [value.new_empty(0) if x is None else x.new_empty(x.shape) for x in _with_gradients(tensors)]


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, _wants_gradient = inputs
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx, grad_NC, _grad_blocks, grad_kept):  # type: ignore[no-untyped-def]
    *tensors, block_states = ctx.saved_tensors
    grads = torch.ops.lst.state_space_backward(grad_NC, grad_kept, *tensors, block_states)
    of = [None if x is None else grad for x, grad in zip(_with_gradients(tensors), grads, strict=True)]
    return *of[:7], None, *of[7:], None, None


run_state_space = differentiable("state_space", state_space, _gradients, _setup)
