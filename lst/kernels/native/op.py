"""The compiled state-space kernels as one operator of PyTorch, with a backward pass and a fake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from lst.kernels.native import library

_baseline: list[bool] = [False]


@contextlib.contextmanager
def baseline_instructions() -> Iterator[None]:
    """Within the block the version for processors without AVX2 runs."""
    _baseline.append(True)
    try:
        yield
    finally:
        _baseline.pop()


def padded_modes(num_modes: int) -> int:
    """Modes are stored in multiples of eight."""
    return -(-num_modes // 8) * 8


def _problem(
    value_NC: torch.Tensor | None,
    query_NC: torch.Tensor | None,
    key_NC: torch.Tensor | None,
    taps_CK: torch.Tensor | None,
    decay_HZ2: torch.Tensor,
) -> library.Problem:
    assert value_NC is not None
    problem = library.Problem()
    problem.num_tokens, problem.num_channels = value_NC.shape
    problem.num_heads, problem.num_modes = decay_HZ2.shape[:2]
    problem.num_taps = 1 if taps_CK is None else taps_CK.shape[1]
    problem.gated = query_NC is not None
    # Rows may lie apart, as those of a joined projection do.
    for name, tensor in (("query", query_NC), ("key", key_NC), ("value", value_NC)):
        setattr(problem, f"{name}_stride", 0 if tensor is None else tensor.stride(0))
    return problem


def _set(problem: library.Problem, **tensors: torch.Tensor | None) -> None:
    for name, tensor in tensors.items():
        setattr(problem, name, None if tensor is None else tensor.data_ptr())


def _num_sequences(value_NC: torch.Tensor, decay_HZ2: torch.Tensor, gated: bool) -> int:
    """States of a document: one a channel, or d² a head of d channels."""
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
    """Diagonal SSM of values, or with queries and keys the whole H3 mixing; float32 on the CPU.

    Args:
        value_NC: [N, C].
        query_NC, key_NC, taps_CK: [N, C] twice and [C, K], or None for the SSM alone.
        skip_H: [H] or None.
        decay_HZ2, readout_HZ2: float64 [H, Z, 2].
        starts: int64 [S + 1].
        initial_state: [S, Q, 2, Z'] with Z' = ``padded_modes(Z)``, or None.
        history: [S, K − 1, C], keys before the documents, or None.
        state_chunks: int64 [S]: the state is kept after so many full chunks of each document; or None.
        wants_gradient: whether the states that the backward pass goes on from are saved.

    Returns:
        [N, C]; the saved states; the kept states [S, Q, 2, Z'] (empty without ``state_chunks``).
    """
    arrays = _dense(value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    problem = _problem(arrays["value"], arrays["query"], arrays["key"], taps_CK, decay_HZ2)
    width = (2, padded_modes(decay_HZ2.shape[1]))
    num_sequences = _num_sequences(value_NC, decay_HZ2, query_NC is not None)
    starts = starts.contiguous()
    out_NC = value_NC.new_empty(value_NC.shape)
    num_blocks = library.plan_sizes(problem, starts)[0] if wants_gradient else 0
    block_states = value_NC.new_empty(num_blocks, num_sequences, *width)
    num_kept = 0 if state_chunks is None else len(state_chunks)
    kept_states = value_NC.new_empty(num_kept, num_sequences, *width)
    arrays |= {"state_chunks": state_chunks, "out": out_NC, "kept_states": kept_states}
    _set(problem, **arrays, block_states=block_states if wants_gradient else None)
    library.run(problem, starts, backward=False, baseline=_baseline[-1])
    return out_NC, block_states, kept_states


def _dense(
    value_NC: torch.Tensor,
    query_NC: torch.Tensor | None,
    key_NC: torch.Tensor | None,
    taps_CK: torch.Tensor | None,
    skip_H: torch.Tensor | None,
    decay_HZ2: torch.Tensor,
    readout_HZ2: torch.Tensor,
    initial_state: torch.Tensor | None,
    history: torch.Tensor | None,
) -> dict[str, torch.Tensor | None]:
    """What the library reads, by name, in the layout that it reads."""
    rows = {"value": value_NC, "query": query_NC, "key": key_NC}
    whole = {
        "taps": taps_CK,
        "skip": skip_H,
        "decay": decay_HZ2,
        "readout": readout_HZ2,
        "initial_state": initial_state,
        "history": history,
    }
    return {
        **{name: x if x is None or x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous() for name, x in rows.items()},
        **{name: x if x is None else x.contiguous() for name, x in whole.items()},
    }


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
    # How many blocks there are depends on the documents' lengths.
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
    """Gradients of value, query, key, taps, skip, decay, readout, initial state and history, in this order; those of
    absent arguments are empty."""
    arrays = _dense(value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    problem = _problem(arrays["value"], arrays["query"], arrays["key"], taps_CK, decay_HZ2)
    starts = starts.contiguous()
    spans = library.plan_sizes(problem, starts)[1]
    arrays |= {"state_chunks": state_chunks, "block_states": block_states, "grad_out": grad_NC.contiguous()}
    if state_chunks is not None:
        arrays["grad_kept_states"] = grad_kept_states.contiguous()
    grads = {
        f"grad_{name}": None if tensor is None else tensor.new_empty(tensor.shape)
        for name, tensor in arrays.items()
        if name in ("value", "query", "key", "initial_state", "history")
    }
    sums = {
        "grad_taps": None if taps_CK is None else decay_HZ2.new_empty(spans, *taps_CK.shape),
        "grad_skip": decay_HZ2.new_empty(spans, decay_HZ2.shape[0]),
        "grad_decay": decay_HZ2.new_empty(spans, *decay_HZ2.shape),
        "grad_readout": decay_HZ2.new_empty(spans, *decay_HZ2.shape),
    }
    _set(problem, **arrays, **grads, **sums)
    library.run(problem, starts, backward=True, baseline=_baseline[-1])
    found = grads | {name: None if tensor is None else tensor.sum(dim=0) for name, tensor in sums.items()}
    if skip_H is None:
        found["grad_skip"] = None
    order = ("value", "query", "key", "taps", "skip", "decay", "readout", "initial_state", "history")
    like = (value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    return [
        value_NC.new_empty(0) if (grad := found[f"grad_{name}"]) is None or tensor is None else grad.to(tensor.dtype)
        for name, tensor in zip(order, like, strict=True)
    ]


@state_space_backward.register_fake
def _(
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
    like = (value_NC, query_NC, key_NC, taps_CK, skip_H, decay_HZ2, readout_HZ2, initial_state, history)
    return [value_NC.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in like]


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, _wants_gradient = inputs
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx, grad_NC, _grad_blocks, grad_kept):  # type: ignore[no-untyped-def]
    *tensors, block_states = ctx.saved_tensors
    value, query, key, taps, skip, decay, readout, _, initial, history, _ = tensors
    grads = torch.ops.lst.state_space_backward(grad_NC, grad_kept, *tensors, block_states)
    of = [
        None if tensor is None else grad
        for tensor, grad in zip((value, query, key, taps, skip, decay, readout, initial, history), grads, strict=True)
    ]
    return *of[:7], None, *of[7:], None, None


state_space.register_autograd(_gradients, setup_context=_setup)
