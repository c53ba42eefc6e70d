"""The front door of the long convolution: it checks arguments, chooses a path, and registers with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lst.kernels.checks import check_devices, check_tensor
from lst.kernels.fftconv import cpu
from lst.kernels.fftconv.reference import fft_convolution_reference
from lst.kernels.operator import differentiable
from lst.kernels.paths import PathChoice

PATHS = ("cpu", "blocked", "triton", "reference")
# A longer sequence than the first does not fit on a GPU's chip. Beyond the second, plain FFTs are faster.
MAX_TRITON_LENGTH, FAST_TRITON_LENGTH = 8192, 4096
_choice = PathChoice("fft_convolution", PATHS, on_cpu="cpu", otherwise="blocked", narrow=("triton",))
forced_path = _choice.force


def fft_convolution(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None = None,
    pre_gate_BHL: torch.Tensor | None = None,
    post_gate_BHL: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal convolution of every channel with its own kernel, between two gates (arXiv 2212.14052, sections 3 and 4).

    ``y[b, h, i] = post · (Σ_{j ≤ i} kernel[h, i − j] x[b, h, j] + skip[h] x[b, h, i])`` with ``x = pre · u``.

    >>> u = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> fft_convolution(u, torch.tensor([[1.0, 10.0]])).round().flatten().tolist()
    [1.0, 12.0, 23.0]

    Args:
        u_BHL: [B, H, L], float32, float64, bfloat16 or float16; L ≥ 1 is any length.
        kernel_HK: real [H, K], K ≥ 1 taps; taps beyond L have no effect.
        skip_H: real [H], or None for a skip of 0.
        pre_gate_BHL, post_gate_BHL: real [B, H, L], or None for a gate of 1. Kernel, skip and gates may have another
            floating type than u.

    Returns:
        [B, H, L] in u's type, computed in float32 (float64 for float64), under autocast too. Every argument gets a
        gradient in its own type; there are no gradients of gradients. As in every FFT convolution, the error of an
        element is relative to the largest element of its row: about 1e-7 of it in float32.

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """
    _check(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    if _choice.forced == "reference":
        # Autocast leaves FFTs and products alone where they are given as float32.
        return fft_convolution_reference(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    return _run(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)


def fftconv_path(device: torch.device, length: int, dtype: torch.dtype = torch.float32) -> str:
    """The path, one of ``PATHS``, that runs on a device for sequences of this length.

    On CUDA that is ``triton`` up to 4096. Up to 8192 it can be forced, but on an H100 PyTorch's FFTs took about half
    the time: the spectrum of such a sequence, and its halves for the tensor cores, overflow the registers. Triton has
    no matrix product of float64: ``blocked`` runs.

    Raises:
        ValueError: ``triton`` is forced beyond 8192, or where it cannot run.
    """
    path = _choice.on(device, dtype, fits_triton=length <= FAST_TRITON_LENGTH)
    if _choice.forced == "triton" and length > MAX_TRITON_LENGTH:
        raise ValueError(
            f"fft_convolution: length {length} with the path 'triton' forced, which ends at {MAX_TRITON_LENGTH}: "
            "force 'blocked', or none"
        )
    return path


def _check(
    u: torch.Tensor,
    kernel: torch.Tensor,
    skip: torch.Tensor | None,
    pre_gate: torch.Tensor | None,
    post_gate: torch.Tensor | None,
) -> None:
    name = "fft_convolution"
    check_tensor(name, "u", u, ("B", "H", "L"))
    check_tensor(name, "u", u, (*u.shape[:2], "L"), least=1)
    check_tensor(name, "kernel", kernel, (u.shape[1], "K"), least=1)
    check_tensor(name, "skip", skip, (u.shape[1],))
    check_tensor(name, "pre_gate", pre_gate, tuple(u.shape))
    check_tensor(name, "post_gate", post_gate, tuple(u.shape))
    check_devices(name, u.device, kernel=kernel, skip=skip, pre_gate=pre_gate, post_gate=post_gate)


def _runs_triton(u_BHL: torch.Tensor) -> bool:
    return fftconv_path(u_BHL.device, u_BHL.shape[-1], u_BHL.dtype) == "triton" and u_BHL.numel() > 0


@torch.library.custom_op("lst::fft_convolution", mutates_args=())
def _forward(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
) -> torch.Tensor:
    if _runs_triton(u_BHL):
        from lst.kernels.fftconv import gpu

        return gpu.forward(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    return cpu.forward(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)


_forward.register_fake(lambda u_BHL, *_: u_BHL.new_empty(u_BHL.shape))


@torch.library.custom_op("lst::fft_convolution_backward", mutates_args=())
def _backward(
    grad_BHL: torch.Tensor,
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the five arguments; the unwanted ones are empty."""
    if _runs_triton(u_BHL):
        from lst.kernels.fftconv import gpu

        run = gpu.backward
    else:
        run = cpu.backward
    grads = run(grad_BHL, u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL, wanted)
    if grads[2] is not None and skip_H is not None:
        grads[2] = grads[2].to(skip_H.dtype)
    full = [u_BHL.new_empty(0) if grad is None else grad for grad in grads]
    return full[0], full[1], full[2], full[3], full[4]


@_backward.register_fake
def _(_grad: torch.Tensor, u_BHL: torch.Tensor, *others: Any) -> tuple[torch.Tensor, ...]:
    *likes, wanted = others
    return tuple(
        like.new_empty(like.shape) if like is not None and want else u_BHL.new_empty(0)
        for like, want in zip((u_BHL, *likes), wanted, strict=True)
    )


def _gradients(ctx, grad_out):  # type: ignore[no-untyped-def]
    wanted = list(ctx.needs_input_grad)
    grads = torch.ops.lst.fft_convolution_backward(grad_out, *ctx.saved_tensors, wanted)
    return tuple(grad if want else None for grad, want in zip(grads, wanted, strict=True))


_run = differentiable("fft_convolution", _forward, _gradients)
