"""The front door of the diagonal SSM: it checks arguments, chooses a path, and registers with PyTorch."""

from __future__ import annotations

import torch

from lst.kernels.checks import (
    check_devices,
    check_modes,
    check_starts,
    check_state_lengths,
    check_tensor,
    wide_dtype,
)
from lst.kernels.native import library
from lst.kernels.operator import differentiable
from lst.kernels.paths import PathChoice
from lst.kernels.ssm.chunks import carried_state, choose_chunk_tokens, chunk_table
from lst.kernels.ssm.compiled import native_ssm
from lst.kernels.ssm.convolution import convolution_ssm
from lst.kernels.ssm.kernels import chunk_matrices, planes
from lst.kernels.ssm.matrix import chunked_ssm
from lst.kernels.ssm.reference import diagonal_ssm_reference

PATHS = ("native", "matrix", "triton", "convolution", "reference")
_choice = PathChoice("SSM", PATHS, on_cpu="native", otherwise="matrix", narrow=("native", "triton"))
forced_path = _choice.force


def diagonal_ssm(
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    *,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    state_lengths: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """x_t = decay ⊙ x_{t−1} + u_t, y_t = 2·Re Σ_z readout_z·x_{t,z} + skip·u_t, for each channel of each document.

    The diagonal SSM of H3 (Dao, Fu et al. 2023, section 3), discretised, with B̄ in the readout. State passing over
    chunks (section 4.2) computes it exactly. Autocast does not change it.

    Args:
        u_NC: [N, C], the tokens of all documents; float32, float64, bfloat16 or float16. Sums are in float32, or
            float64 for float64.
        decay_HZ, readout_HZ: complex128 or complex64 [H, Z]; H divides C, and channel c uses set c // (C / H).
            Their powers are computed in double precision.
        skip_H: real [H] or None.
        starts: int64 [S + 1], offsets of the documents, strictly increasing from 0 to N. On a GPU the host does not
            read the values, except on the path ``convolution``.
        initial_state: complex [S, C, Z] before each document, or None for zeros.
        state_lengths: int64 [S], from 0 to the documents' lengths, or None. With it, the state of each document after
            that many inputs is returned too.

    Returns:
        y [N, C] of the input's type; with ``state_lengths``, (y, states [S, C, Z]). States are complex64, or complex128
        for float64. Gradients flow to every real or complex argument, from the states too. A gradient of a gradient
        raises where it is not available. No output depends on a later input, except that on the paths ``matrix`` and
        ``triton`` an infinity or NaN spreads over its chunk of up to 64 tokens and all after it.

    Raises:
        ValueError: shapes, types or devices do not fit together, or the forced path cannot do what is asked.
    """
    _check(u_NC, decay_HZ, readout_HZ, skip_H, starts, initial_state, state_lengths)
    path = ssm_path(u_NC.device, u_NC.dtype)
    with torch.autocast(u_NC.device.type, enabled=False):
        if path == "convolution":
            if initial_state is not None or state_lengths is not None:
                raise ValueError(
                    "diagonal_ssm: the path 'convolution' takes no initial_state and returns no state (state_lengths "
                    "was given): leave them out, or take another path"
                )
            return convolution_ssm(u_NC, decay_HZ, readout_HZ, skip_H, starts).to(u_NC.dtype)
        if path == "reference":
            return diagonal_ssm_reference(
                u_NC,
                decay_HZ,
                readout_HZ,
                skip_H,
                starts=starts,
                initial_state=initial_state,
                state_lengths=state_lengths,
            )
        if path == "native":
            return native_ssm(u_NC, decay_HZ, readout_HZ, skip_H, starts, initial_state, state_lengths)
        return _by_chunks(path, u_NC, decay_HZ, readout_HZ, skip_H, starts, initial_state, state_lengths)


def ssm_path(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The path, one of ``PATHS``, that runs for inputs of this type on a device.

    Neither ``native`` nor ``triton`` takes float64, which only tests and checks of gradients use: ``matrix`` runs.

    Raises:
        ValueError: a path is forced that cannot run there.
    """
    path = _choice.on(device, dtype)
    if "native" not in (path, _choice.forced) or (device.type == "cpu" and library.is_available()):
        return path
    if _choice.forced == "native":
        raise ValueError(
            f"diagonal_ssm: the path 'native' is forced, which needs inputs on the CPU (they are on {device}) and the "
            "compiled library (a warning says why it is missing): force 'matrix', or none"
        )
    return "matrix"


def _by_chunks(
    path: str,
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """The paths ``matrix`` and ``triton``, which pass states from chunk to chunk."""
    wide = wide_dtype(u_NC.dtype)
    chunk_tokens = choose_chunk_tokens(u_NC.shape[0], starts.shape[0] - 1)
    matrices = chunk_matrices(decay_HZ, readout_HZ, skip_H, chunk_tokens, wide)
    initial_SCW = None if initial_state is None else planes(initial_state).to(wide)
    if path == "triton":
        y_NC, before_CGW = _run(u_NC, *matrices, initial_SCW, starts)
    else:
        table = chunk_table(starts, u_NC.shape[0], chunk_tokens)
        y_NC, before_CGW = chunked_ssm(u_NC, matrices, initial_SCW, starts, table)
    y_NC = y_NC.to(u_NC.dtype)
    if state_lengths is None:
        return y_NC
    table = chunk_table(starts, u_NC.shape[0], chunk_tokens)
    return y_NC, carried_state(u_NC, before_CGW, matrices, table, starts, state_lengths)


def _check(
    u_NC: torch.Tensor,
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    starts: torch.Tensor,
    initial_state: torch.Tensor | None,
    state_lengths: torch.Tensor | None,
) -> None:
    name = "diagonal_ssm"
    check_tensor(name, "u", u_NC, ("N", "C"))
    check_modes(name, decay_HZ, readout_HZ, skip_H, u_NC)
    check_starts(name, starts, len(u_NC))
    check_devices(name, u_NC.device, starts=starts, initial_state=initial_state, state_lengths=state_lengths)
    state_shape = (starts.shape[0] - 1, u_NC.shape[1], decay_HZ.shape[1])
    check_tensor(name, "initial_state", initial_state, state_shape, "complex")
    check_state_lengths(name, state_lengths, starts)


@torch.library.custom_op("lst::diagonal_ssm", mutates_args=())
def _forward(
    u_NC: torch.Tensor,
    into_state_HTW: torch.Tensor,
    out_of_state_HWT: torch.Tensor,
    within_HTT: torch.Tensor,
    chunk_decay_HW: torch.Tensor,
    initial_SCW: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    from lst.kernels.ssm import gpu

    return gpu.forward(u_NC, into_state_HTW, out_of_state_HWT, within_HTT, chunk_decay_HW, initial_SCW, starts)


@_forward.register_fake
def _(u_NC: torch.Tensor, into_state_HTW: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (num_tokens, num_channels), starts = u_NC.shape, others[-1]
    num_chunks = num_tokens // into_state_HTW.shape[1] + starts.shape[0] - 1
    before_CGW = into_state_HTW.new_empty(num_channels, num_chunks, into_state_HTW.shape[2])
    return u_NC.new_empty(num_tokens, num_channels), before_CGW


@torch.library.custom_op("lst::diagonal_ssm_backward", mutates_args=())
def _backward(
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
    from lst.kernels.ssm import gpu

    return gpu.backward(
        grad_NC,
        grad_before_CGW,
        u_NC,
        into_state_HTW,
        out_of_state_HWT,
        within_HTT,
        chunk_decay_HW,
        before_CGW,
        starts,
    )


@_backward.register_fake
def _(_grad: torch.Tensor, _grad_before: torch.Tensor, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
    *likes, before_CGW, starts = saved
    grad_initial = before_CGW.new_empty(starts.shape[0] - 1, saved[0].shape[1], before_CGW.shape[2])
    return *(x.new_empty(x.shape) for x in likes), grad_initial


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, initial_SCW, starts = inputs
    ctx.save_for_backward(*tensors, output[1], starts)
    ctx.has_initial = initial_SCW is not None
    # Without states handed on, no zeros are made for their gradient.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_NC, grad_before_CGW):  # type: ignore[no-untyped-def]
    if grad_NC is None:
        grad_NC = torch.zeros_like(ctx.saved_tensors[0])
    *grads, grad_initial = torch.ops.lst.diagonal_ssm_backward(grad_NC, grad_before_CGW, *ctx.saved_tensors)
    return *grads, grad_initial if ctx.has_initial else None, None


_run = differentiable("diagonal_ssm", _forward, _gradients, _setup)
