"""The front door of the diagonal state space model: checks, choice of a path, registration with PyTorch."""

from __future__ import annotations

import torch

from lst.kernels.devices import check_devices
from lst.kernels.native import library
from lst.kernels.offsets import check_starts, check_state_lengths
from lst.kernels.paths import PathChoice, has_triton
from lst.kernels.ssm.checks import check_modes
from lst.kernels.ssm.chunks import carried_state, choose_chunk_tokens, chunk_table
from lst.kernels.ssm.compiled import native_ssm
from lst.kernels.ssm.convolution import convolution_ssm
from lst.kernels.ssm.kernels import chunk_matrices, planes
from lst.kernels.ssm.matrix import chunked_ssm
from lst.kernels.ssm.reference import diagonal_ssm_reference

PATHS = ("native", "matrix", "triton", "convolution", "reference")
_choice = PathChoice("SSM", PATHS)
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

    The diagonal SSM of H3 (Dao, Fu et al. 2023, section 3), already discretised and with B̄ in the readout, by state
    passing over chunks (section 4.2), which is exact. Autocast does not change it.

    Args:
        u_NC: [N, C], the tokens of all documents; float32, float64, bfloat16 or float16. Sums are float32, of float64
            float64.
        decay_HZ, readout_HZ: complex128 or complex64 [H, Z]; H divides C, and channel c uses set c // (C / H).
            Their powers are taken in double precision.
        skip_H: real [H] or None.
        starts: int64 [S + 1], offsets of the documents: 0 first, N last, strictly increasing. On a GPU the values are
            not read by the host (but by the path ``convolution``).
        initial_state: complex [S, C, Z] before each document, or None for zeros.
        state_lengths: None, or int64 [S] from 0 to the documents' lengths: return the states after so many inputs too.

    Returns:
        y [N, C] of the input's type; with ``state_lengths``, (y, states [S, C, Z]), complex64, for float64 complex128.
        Gradients flow to everything real or complex, from the states too; a gradient of a gradient is refused
        where it is not available. An output depends on no later input, but for an infinity or NaN: on the paths
        ``matrix`` and ``triton`` that spoils the chunk of up to 64 tokens it lies in, and all after it.

    Raises:
        ValueError: shapes or types do not go together, or the path cannot do what is asked.
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
    """Which of ``PATHS`` runs for inputs of this type on a device. Neither ``native`` nor ``triton`` takes float64,
    which only tests and checks of gradients use: there ``matrix`` runs.

    Raises:
        ValueError: a path is forced that cannot run there.
    """
    path = _choice.forced_on(device)
    if path == "native" and not (device.type == "cpu" and library.is_available()):
        raise ValueError(
            f"diagonal_ssm: the path 'native' is forced, which needs inputs on the CPU (they are on {device}) and the "
            "compiled library (a warning says why, if it is absent): force 'matrix', or none"
        )
    if not path and device.type == "cuda" and has_triton():
        path = "triton"
    elif not path:
        path = "native" if device.type == "cpu" and library.is_available() else "matrix"
    return "matrix" if path in ("native", "triton") and dtype == torch.float64 else path


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
    """The paths that pass states from chunk to chunk."""
    wide = torch.float64 if u_NC.dtype == torch.float64 else torch.float32
    chunk_tokens = choose_chunk_tokens(u_NC.shape[0], starts.shape[0] - 1)
    matrices = chunk_matrices(decay_HZ, readout_HZ, skip_H, chunk_tokens, wide)
    initial_SCW = None if initial_state is None else planes(initial_state).to(wide)
    if path == "triton":
        y_NC, before_CGW = torch.ops.lst.diagonal_ssm(u_NC, *matrices, initial_SCW, starts)
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
    """Raises ValueError that says what was given and what is needed."""
    if u_NC.ndim != 2 or not u_NC.is_floating_point():
        raise ValueError(f"diagonal_ssm: u is {u_NC.dtype} {tuple(u_NC.shape)}, needed is a real [N, C]")
    num_tokens, num_channels = u_NC.shape
    check_modes(decay_HZ, readout_HZ, skip_H, u_NC, "diagonal_ssm")
    check_starts(starts, num_tokens, "diagonal_ssm")
    check_devices("diagonal_ssm", u_NC.device, starts=starts, initial_state=initial_state, state_lengths=state_lengths)
    state_shape = (starts.shape[0] - 1, num_channels, decay_HZ.shape[1])
    if initial_state is not None and (initial_state.shape != state_shape or not initial_state.is_complex()):
        raise ValueError(
            f"diagonal_ssm: initial_state is {initial_state.dtype} {tuple(initial_state.shape)}, needed is a complex "
            f"{state_shape}"
        )
    check_state_lengths(state_lengths, starts, "diagonal_ssm")


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
def _(
    u_NC: torch.Tensor,
    into_state_HTW: torch.Tensor,
    out_of_state_HWT: torch.Tensor,
    within_HTT: torch.Tensor,
    chunk_decay_HW: torch.Tensor,
    initial_SCW: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    num_tokens, num_channels = u_NC.shape
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

    matrices = (into_state_HTW, out_of_state_HWT, within_HTT, chunk_decay_HW)
    return gpu.backward(grad_NC, grad_before_CGW, u_NC, *matrices, before_CGW, starts)


@_backward.register_fake
def _(
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
    matrices = (into_state_HTW, out_of_state_HWT, within_HTT, chunk_decay_HW)
    grads = [x.new_empty(x.shape) for x in (u_NC, *matrices)]
    grad_initial = before_CGW.new_empty(starts.shape[0] - 1, u_NC.shape[1], before_CGW.shape[2])
    return grads[0], grads[1], grads[2], grads[3], grads[4], grad_initial


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, initial_SCW, starts = inputs
    ctx.save_for_backward(*tensors, output[1], starts)
    ctx.has_initial = initial_SCW is not None
    # Where no state is handed on, none of its gradient need be made.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_NC, grad_before_CGW):  # type: ignore[no-untyped-def]
    if grad_NC is None:
        grad_NC = torch.zeros_like(ctx.saved_tensors[0])
    *grads, grad_initial = torch.ops.lst.diagonal_ssm_backward(grad_NC, grad_before_CGW, *ctx.saved_tensors)
    return *grads, grad_initial if ctx.has_initial else None, None


_forward.register_autograd(_gradients, setup_context=_setup)
