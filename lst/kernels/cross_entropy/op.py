"""The operator, registered with PyTorch as one node of a graph for ``torch.compile``."""

from __future__ import annotations

import torch

from lst.kernels.checks import wide_dtype
from lst.kernels.operator import differentiable
from lst.kernels.products import can_multiply, multiply

# Elements of a chunk of logits: few enough for a CPU's cache, enough to fill a GPU.
_CHUNK_ELEMENTS_CPU, _CHUNK_ELEMENTS = 1 << 22, 1 << 26
_LEAST_CHUNK_TOKENS = 128


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    target_ids_N: torch.Tensor,
    token_weights_N: torch.Tensor,
    z_weight: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy of the logits ``hidden_ND @ weight_VD.T``, in total and for each token.

    >>> hidden, weight = torch.eye(2), torch.eye(2)
    >>> total, nats = linear_cross_entropy(hidden, weight, torch.tensor([0, -1]), torch.ones(2))
    >>> nats.tolist()  # −ln softmax([1, 0])[0], and no target
    [0.31326162815093994, 0.0]

    Args:
        hidden_ND: [N, D], any floating type. Under autocast, matrix products are in autocast's type.
        weight_VD: [V, D].
        target_ids_N: int64 [N], below zero where there is no target.
        token_weights_N: [N], float32 or wider; they get no gradient.
        z_weight: weight of the squared logarithm of the softmax's denominator (PaLM, Chowdhery et al. 2022).

    Returns:
        Σ weight · (nats + z_weight · log²Z), a scalar; and nats [N], zero where there is no target, without gradient.
        Both are float32 or wider.
    """
    device_type = hidden_ND.device.type
    if torch.is_autocast_enabled(device_type):
        half = torch.get_autocast_dtype(device_type)
        hidden_ND, weight_VD = hidden_ND.to(half), weight_VD.to(half)
    wants_gradient = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    total, nats_N, _, _, _ = _run(hidden_ND, weight_VD, target_ids_N, token_weights_N, z_weight, wants_gradient)
    return total, nats_N


def compute(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    target_ids_N: torch.Tensor,
    token_weights_N: torch.Tensor,
    z_weight: float,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Total, nats [N], the total's gradients to hidden [N, D] and weight [V, D], and their scale.

    The gradients must still be multiplied by the scale, a scalar; they are empty unless ``wants_gradient``. The weights
    of a mean are tiny. In half precision the gradients are therefore relative to the largest weight: otherwise they
    would underflow.
    """
    num_tokens, vocab_size = hidden_ND.shape[0], weight_VD.shape[0]
    wide = wide_dtype(hidden_ND.dtype)
    total = hidden_ND.new_zeros((), dtype=wide)
    nats_N = hidden_ND.new_empty(num_tokens, dtype=wide)
    grad_hidden_ND, grad_weight_VD = _empty_gradients(hidden_ND, weight_VD, wants_gradient)
    grad_weight_VD.zero_()
    scale = torch.ones_like(total)
    if hidden_ND.dtype != wide:
        scale = token_weights_N.max().to(wide).clamp(min=torch.finfo(wide).tiny)
    elements = _CHUNK_ELEMENTS_CPU if hidden_ND.device.type == "cpu" else _CHUNK_ELEMENTS
    chunk = max(_LEAST_CHUNK_TOKENS, elements // vocab_size)
    for start in range(0, num_tokens, chunk):
        part = slice(start, start + chunk)
        logits_CV = _product(hidden_ND[part], weight_VD.t()).to(wide)
        has_target = target_ids_N[part] >= 0
        targets = target_ids_N[part].clamp(min=0)[:, None]
        log_z = logits_CV.logsumexp(dim=-1)
        nats_N[part] = (log_z - logits_CV.gather(1, targets)[:, 0]) * has_target
        weights = token_weights_N[part].to(wide) * has_target
        total += (weights * (nats_N[part] + z_weight * log_z.square())).sum()
        if wants_gradient:
            grads_CV = logits_CV.sub_(log_z[:, None]).exp_()
            weights = weights / scale
            grads_CV.mul_((weights * (1 + 2 * z_weight * log_z))[:, None])
            # One target in each row, so no element is added to twice.
            grads_CV.scatter_add_(1, targets, -weights[:, None])
            grads_CV = grads_CV.to(hidden_ND.dtype)
            grad_hidden_ND[part] = _product(grads_CV, weight_VD)
            _add_product(grad_weight_VD, grads_CV.t(), hidden_ND[part])
    return total, nats_N, grad_hidden_ND, grad_weight_VD, scale


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return multiply(left, right.t()) if can_multiply(left, right) else left @ right


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Adds ``left @ right`` to a float32 (or wider) total."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _empty_gradients(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    if not wanted:
        return hidden_ND.new_empty(0), weight_VD.new_empty(0, dtype=wide_dtype(weight_VD.dtype))
    return torch.empty_like(hidden_ND), torch.empty_like(weight_VD, dtype=wide_dtype(weight_VD.dtype))


_forward = torch.library.custom_op("lst::linear_cross_entropy", compute, mutates_args=())


@_forward.register_fake
def _(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    _targets: torch.Tensor,
    _weights: torch.Tensor,
    _z: float,
    wants: bool,
) -> tuple[torch.Tensor, ...]:
    total, scale = (hidden_ND.new_empty((), dtype=wide_dtype(hidden_ND.dtype)) for _ in range(2))
    return total, total.new_empty(hidden_ND.shape[0]), *_empty_gradients(hidden_ND, weight_VD, wants), scale


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*output[2:])
    ctx.hidden_dtype, ctx.weight_dtype = inputs[0].dtype, inputs[1].dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_total, *_):  # type: ignore[no-untyped-def]
    if torch.is_grad_enabled():
        # The gradients were kept as numbers, so gradients of them would be wrong.
        raise RuntimeError("linear_cross_entropy: gradients of gradients are not available (create_graph=True)")
    grad_hidden_ND, grad_weight_VD, scale = ctx.saved_tensors
    grad_total = grad_total * scale
    hidden, weight = grad_hidden_ND.to(scale.dtype) * grad_total, grad_weight_VD * grad_total
    return hidden.to(ctx.hidden_dtype), weight.to(ctx.weight_dtype), None, None, None, None


_run = differentiable("linear_cross_entropy", _forward, _gradients, _setup)
