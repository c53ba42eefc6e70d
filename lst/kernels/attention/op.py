"""The front door of interval attention: it checks arguments, chooses a path, and registers with PyTorch."""

from __future__ import annotations

import functools
import warnings

import torch

from lst.kernels.attention import cpu
from lst.kernels.attention.reference import interval_attention_reference
from lst.kernels.checks import wide_dtype
from lst.kernels.operator import differentiable
from lst.kernels.paths import PathChoice, has_triton

PATHS = ("cpu", "triton", "reference")
_choice = PathChoice("attention", PATHS, on_cpu="cpu", otherwise="reference", narrow=("triton",))
forced_path = _choice.force


def interval_attention(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> torch.Tensor:
    """Softmax attention, scaled by 1/√D, of query i to keys ``first_key_Q[i]`` … ``last_key_Q[i]``.

    Args:
        query_QHD: [Q, H, D], float32, float64, bfloat16 or float16.
        key_KGD, value_KGD: [K, G, D] of the same type. H is a multiple of G: each key head serves H / G neighbouring
            query heads (grouped-query attention).
        first_key_Q, last_key_Q: int64 [Q], each non-decreasing, 0 ≤ first ≤ last < K.

    Returns:
        [Q, H, D]; sums are kept in float32 or wider.

    Raises:
        ValueError: shapes do not fit together.
    """
    if (
        query_QHD.shape[1] % key_KGD.shape[1]
        or key_KGD.shape != value_KGD.shape
        or (query_QHD.shape[2] != key_KGD.shape[2] or first_key_Q.shape != last_key_Q.shape)
    ):
        raise ValueError(
            f"interval_attention: query {tuple(query_QHD.shape)}, key {tuple(key_KGD.shape)}, value "
            f"{tuple(value_KGD.shape)}: needed are [Q, H, D] and twice [K, G, D] with H a multiple of G"
        )
    if attention_path(query_QHD.device, query_QHD.dtype) == "reference":
        return interval_attention_reference(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    out, _ = _run(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    return out


def attention_path(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The path, one of ``PATHS``, that runs on a device. Triton has no matrix product of float64: ``reference`` runs.

    Raises:
        ValueError: ``triton`` is forced where it cannot run.
    """
    path = _choice.on(device, dtype)
    if path == "reference" and not _choice.forced and not (device.type == "cuda" and has_triton()):
        _warn_once(device.type)
    return path


@functools.cache
def _warn_once(device_type: str) -> None:
    warnings.warn(
        f"attention on {device_type!r} has no fast path (without Triton): the dense reference runs, whose memory grows "
        "with the square of the batch's tokens",
        stacklevel=3,
    )


@torch.library.custom_op("lst::interval_attention", mutates_args=())
def _forward(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    if attention_path(query_QHD.device, query_QHD.dtype) == "triton":
        from lst.kernels.attention import gpu

        return gpu.forward(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    return cpu.forward(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)


@_forward.register_fake
def _(query_QHD: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    lse_HQ = query_QHD.new_empty(query_QHD.shape[1], query_QHD.shape[0], dtype=wide_dtype(query_QHD.dtype))
    return query_QHD.new_empty(query_QHD.shape), lse_HQ


@torch.library.custom_op("lst::interval_attention_backward", mutates_args=())
def _backward(
    grad_QHD: torch.Tensor,
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    out_QHD: torch.Tensor,
    lse_HQ: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if attention_path(query_QHD.device, query_QHD.dtype) == "triton":
        from lst.kernels.attention import gpu

        return gpu.backward(grad_QHD, query_QHD, key_KGD, value_KGD, out_QHD, lse_HQ, first_key_Q, last_key_Q)
    return cpu.backward(grad_QHD, query_QHD, key_KGD, value_KGD, out_QHD, lse_HQ, first_key_Q, last_key_Q)


_backward.register_fake(lambda _grad, *saved: tuple(x.new_empty(x.shape) for x in saved[:3]))


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    query, key, value, first_key, last_key = inputs
    ctx.save_for_backward(query, key, value, *output, first_key, last_key)


def _gradients(ctx, grad_out, _grad_lse):  # type: ignore[no-untyped-def]
    grads = torch.ops.lst.interval_attention_backward(grad_out, *ctx.saved_tensors)
    return *grads, None, None


_run = differentiable("interval_attention", _forward, _gradients, _setup)
