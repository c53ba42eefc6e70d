"""The front door of the short convolution: it checks arguments, chooses a path, and registers with PyTorch."""

from __future__ import annotations

import torch

from lst.kernels.checks import check_devices, check_starts, check_tensor
from lst.kernels.fir import cpu
from lst.kernels.fir.reference import short_convolution_reference
from lst.kernels.operator import differentiable
from lst.kernels.paths import PathChoice

PATHS = ("blocked", "triton", "reference")
_choice = PathChoice("short convolution", PATHS, on_cpu="blocked", otherwise="blocked")
forced_path = _choice.force


def short_convolution(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, *, starts: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """y_t = Σ_{j<K} taps_j · u_{t−j} within each document, with one filter for each channel.

    >>> taps = torch.tensor([[1.0, 10.0]])
    >>> short_convolution(torch.tensor([[1.0], [2.0], [3.0]]), taps, starts=torch.tensor([0, 2, 3])).flatten().tolist()
    [1.0, 12.0, 3.0]

    Args:
        u_NC: [N, C], the tokens of all documents; float32, float64, bfloat16 or float16. Sums are in float32, or
            float64 for float64, under autocast too.
        taps_CK: real [C, K], the newest input's tap first.
        starts: int64 [S + 1], offsets of the documents, strictly increasing from 0 to N. On a GPU the host does not
            read the values.
        history: real [S, K − 1, C], the inputs before each document, oldest first, or None for zeros.

    Returns:
        [N, C] of the input's type. Gradients flow to u, taps and history.

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """
    check_tensor("short_convolution", "u", u_NC, ("N", "C"))
    num_tokens, num_channels = u_NC.shape
    check_tensor("short_convolution", "taps", taps_CK, (num_channels, "K"), least=1)
    check_starts("short_convolution", starts, num_tokens)
    check_tensor("short_convolution", "history", history, (len(starts) - 1, taps_CK.shape[1] - 1, num_channels))
    check_devices("short_convolution", u_NC.device, taps=taps_CK, starts=starts, history=history)
    if fir_path(u_NC.device) == "reference":
        return short_convolution_reference(u_NC, taps_CK, starts=starts, history=history)
    return _run(u_NC, taps_CK, history, starts)


def fir_path(device: torch.device) -> str:
    """The path, one of ``PATHS``, that runs on a device.

    Raises:
        ValueError: ``triton`` is forced where it cannot run.
    """
    return _choice.on(device, torch.float32)


@torch.library.custom_op("lst::short_convolution", mutates_args=())
def _forward(
    u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, starts: torch.Tensor
) -> torch.Tensor:
    with torch.autocast(u_NC.device.type, enabled=False):
        if fir_path(u_NC.device) == "triton":
            from lst.kernels.fir import gpu

            return gpu.forward(u_NC, taps_CK, history, starts)
        return cpu.forward(u_NC, taps_CK, history, starts)


_forward.register_fake(lambda u_NC, *_: u_NC.new_empty(u_NC.shape))


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
    _grad: torch.Tensor, u_NC: torch.Tensor, taps_CK: torch.Tensor, history: torch.Tensor | None, _starts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad_history = u_NC.new_empty(0) if history is None else history.new_empty(history.shape)
    return u_NC.new_empty(u_NC.shape), taps_CK.new_empty(taps_CK.shape), grad_history


def _gradients(ctx, grad_out):  # type: ignore[no-untyped-def]
    history = ctx.saved_tensors[2]
    grad_u, grad_taps, grad_history = torch.ops.lst.short_convolution_backward(grad_out, *ctx.saved_tensors)
    return grad_u, grad_taps, None if history is None else grad_history, None


_run = differentiable("short_convolution", _forward, _gradients)
