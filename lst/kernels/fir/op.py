"""The front door of the short convolution: checks, choice of a path, registration with PyTorch."""

from __future__ import annotations

import torch

from lst.kernels.devices import check_devices
from lst.kernels.fir import cpu
from lst.kernels.fir.reference import short_convolution_reference
from lst.kernels.offsets import check_starts
from lst.kernels.paths import PathChoice, has_triton

PATHS = ("blocked", "triton", "reference")
_choice = PathChoice("short convolution", PATHS)
forced_path = _choice.force


def short_convolution(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, *, starts: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """y_t = Σ_{j<K} taps_j·u_{t−j} within each document, a filter for each channel; autocast does not change it.

    Args:
        u_NC: [N, C], the tokens of all documents; float32, float64, bfloat16 or float16. Sums are float32, of float64
            float64.
        taps_CK: real [C, K], the newest input's tap first.
        starts: int64 [S + 1], offsets of the documents: 0 first, N last, strictly increasing. On a GPU the values are
            not read by the host.
        history: real [S, K − 1, C], the inputs before each document, oldest first, or None for zeros.

    Returns:
        [N, C] of the input's type. Gradients flow to u, taps and history.

    Raises:
        ValueError: shapes or types do not go together.
    """
    _check(u_NC, taps_CK, starts, history)
    path = fir_path(u_NC.device)
    if path == "reference":
        return short_convolution_reference(u_NC, taps_CK, starts=starts, history=history)
    return torch.ops.lst.short_convolution(u_NC, taps_CK, history, starts)


def fir_path(device: torch.device) -> str:
    """Which of ``PATHS`` runs on a device."""
    forced = _choice.forced_on(device)
    if forced:
        return forced
    if device.type == "cuda" and has_triton():
        return "triton"
    return "blocked"


def _check(u_NC: torch.Tensor, taps_CK: torch.Tensor, starts: torch.Tensor, history: torch.Tensor | None) -> None:
    """Raises ValueError that says what was given and what is needed."""
    if u_NC.ndim != 2 or not u_NC.is_floating_point():
        raise ValueError(f"short_convolution: u is {u_NC.dtype} {tuple(u_NC.shape)}, needed is a real [N, C]")
    num_tokens, num_channels = u_NC.shape
    fits = taps_CK.ndim == 2 and taps_CK.shape[0] == num_channels and taps_CK.shape[1] > 0
    if not fits or not taps_CK.is_floating_point():
        raise ValueError(
            f"short_convolution: taps are {taps_CK.dtype} {tuple(taps_CK.shape)}, needed are real [{num_channels}, K] "
            "with at least one tap"
        )
    check_starts(starts, num_tokens, "short_convolution")
    needed = (starts.shape[0] - 1, taps_CK.shape[1] - 1, num_channels)
    if history is not None and (history.shape != needed or not history.is_floating_point()):
        raise ValueError(
            f"short_convolution: history is {history.dtype} {tuple(history.shape)}, needed is a real {needed}"
        )
    check_devices("short_convolution", u_NC.device, taps=taps_CK, starts=starts, history=history)


@torch.library.custom_op("lst::short_convolution", mutates_args=())
def _forward(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor
) -> torch.Tensor:
    with torch.autocast(u_NC.device.type, enabled=False):
        if fir_path(u_NC.device) == "triton":
            from lst.kernels.fir import gpu

            return gpu.forward(u_NC, taps_CK, history, starts)
        return cpu.forward(u_NC, taps_CK, history, starts)


@_forward.register_fake
def _(u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor) -> torch.Tensor:
    return u_NC.new_empty(u_NC.shape)


@torch.library.custom_op("lst::short_convolution_backward", mutates_args=())
def _backward(
    grad_NC: torch.Tensor,
    u_NC: torch.Tensor,
    taps_CK: torch.Tensor,
    history: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.autocast(u_NC.device.type, enabled=False):
        if fir_path(u_NC.device) == "triton":
            from lst.kernels.fir import gpu

            return gpu.backward(grad_NC, u_NC, taps_CK, history, starts)
        return cpu.backward(grad_NC, u_NC, taps_CK, history, starts)


@_backward.register_fake
def _(
    grad_NC: torch.Tensor,
    u_NC: torch.Tensor,
    taps_CK: torch.Tensor,
    history: torch.Tensor | None,
    starts: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad_history = u_NC.new_empty(0) if history is None else history.new_empty(history.shape)
    return u_NC.new_empty(u_NC.shape), taps_CK.new_empty(taps_CK.shape), grad_history


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _gradients(ctx, grad_out):  # type: ignore[no-untyped-def]
    history = ctx.saved_tensors[2]
    grad_u, grad_taps, grad_history = torch.ops.lst.short_convolution_backward(grad_out, *ctx.saved_tensors)
    return grad_u, grad_taps, None if history is None else grad_history, None


_forward.register_autograd(_gradients, setup_context=_setup)
