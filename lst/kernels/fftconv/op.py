"""The front door of the long convolution: checks, choice of a path, registration with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lst.kernels.fftconv import cpu
from lst.kernels.fftconv.reference import fft_convolution_reference
from lst.kernels.paths import PathChoice, has_triton

PATHS = ("cpu", "blocked", "triton", "reference")
# Beyond the first a sequence does not fit on a GPU's chip; beyond the second it fits badly, and plain FFTs are faster.
MAX_TRITON_LENGTH, FAST_TRITON_LENGTH = 8192, 4096
_choice = PathChoice("fft_convolution", PATHS)
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

    Args:
        u_BHL: [B, H, L], float32, float64, bfloat16 or float16; L ≥ 1 is any length.
        kernel_HK: [H, K], K ≥ 1 taps, real; those beyond L have no effect.
        skip_H: [H].
        pre_gate_BHL, post_gate_BHL: [B, H, L].
            Kernel, skip and gates may have another floating type than u. None stands for a skip of 0, a gate of 1.

    Returns:
        [B, H, L] in u's type, computed in float32 (float64 where u is), under autocast too. Differentiable once, to
        every argument, each gradient in its argument's type. As of every FFT convolution, the error of each element is
        relative to the largest of its row, later ones included: with float32 about 1e-7 of it.

    Raises:
        ValueError: shapes, types or devices do not go together.
    """
    _check(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    if _choice.forced == "reference":
        # Autocast leaves FFTs and products alone where they are given as float32.
        return fft_convolution_reference(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    return torch.ops.lst.fft_convolution(u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)


def fftconv_path(device: torch.device, length: int, dtype: torch.dtype = torch.float32) -> str:
    """Which of ``cpu``, ``blocked``, ``triton`` and ``reference`` runs on a device for sequences of this length.

    On CUDA that is ``triton`` up to 4096. From there to 8192 it can be forced, but on an H100 PyTorch's FFTs took about
    half the time: the spectrum of such a sequence, and its halves for the tensor cores, overflow the registers.
    Triton has no matrix product of float64, which only tests and checks of gradients use.

    Raises:
        ValueError: ``triton`` is forced beyond 8192, or where it cannot run.
    """
    forced = _choice.forced_on(device)
    if forced:
        if forced == "triton" and length > MAX_TRITON_LENGTH:
            raise ValueError(
                f"fft_convolution: length {length} with the path 'triton' forced, which ends at {MAX_TRITON_LENGTH}: "
                "force 'blocked', or none"
            )
        return "blocked" if forced == "triton" and dtype == torch.float64 else forced
    if device.type in ("cpu", "meta"):
        return "cpu"
    fits_triton = length <= FAST_TRITON_LENGTH and dtype != torch.float64
    return "triton" if device.type == "cuda" and fits_triton and has_triton() else "blocked"


def _check(
    u: torch.Tensor,
    kernel: torch.Tensor,
    skip: torch.Tensor | None,
    pre_gate: torch.Tensor | None,
    post_gate: torch.Tensor | None,
) -> None:
    given = {"u": u, "kernel": kernel, "skip": skip, "pre_gate": pre_gate, "post_gate": post_gate}
    tensors = {name: x for name, x in given.items() if x is not None}
    fits = u.dim() == 3 and u.shape[2] >= 1 and kernel.dim() == 2 and kernel.shape[1] >= 1
    fits = fits and kernel.shape[0] == u.shape[1] and (skip is None or skip.shape == u.shape[1:2])
    fits = fits and all(gate is None or gate.shape == u.shape for gate in (pre_gate, post_gate))
    if not fits:
        raise ValueError(
            f"fft_convolution: {', '.join(f'{name} {tuple(x.shape)}' for name, x in tensors.items())}: needed are "
            "u [B, H, L], kernel [H, K], skip [H] and gates [B, H, L] with L and K at least 1"
        )
    if not all(x.is_floating_point() for x in tensors.values()):
        raise ValueError(
            f"fft_convolution: {', '.join(f'{name} {x.dtype}' for name, x in tensors.items())}: needed are real "
            "floating-point types (of a complex kernel pass the real part)"
        )
    if any(x.device != u.device for x in tensors.values()):
        raise ValueError(
            f"fft_convolution: {', '.join(f'{name} on {x.device}' for name, x in tensors.items())}: needed: one device"
        )


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


@_forward.register_fake
def _(
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
) -> torch.Tensor:
    return u_BHL.new_empty(u_BHL.shape)


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
    """Gradients of the five arguments, empty where not wanted."""
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
def _(
    grad_BHL: torch.Tensor,
    u_BHL: torch.Tensor,
    kernel_HK: torch.Tensor,
    skip_H: torch.Tensor | None,
    pre_gate_BHL: torch.Tensor | None,
    post_gate_BHL: torch.Tensor | None,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    likes = (u_BHL, kernel_HK, skip_H, pre_gate_BHL, post_gate_BHL)
    full = [
        like.new_empty(like.shape) if like is not None and want else u_BHL.new_empty(0)
        for like, want in zip(likes, wanted, strict=True)
    ]
    return full[0], full[1], full[2], full[3], full[4]


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _gradients(ctx, grad_out):  # type: ignore[no-untyped-def]
    wanted = list(ctx.needs_input_grad)
    grads = torch.ops.lst.fft_convolution_backward(grad_out, *ctx.saved_tensors, wanted)
    return tuple(grad if want else None for grad, want in zip(grads, wanted, strict=True))


_forward.register_autograd(_gradients, setup_context=_setup)
