"""The operator, registered with PyTorch so that ``torch.compile`` sees it as a whole."""

from __future__ import annotations

import torch

# Elements of a chunk of logits: few enough that their passes stay near a CPU's cache, enough to fill a GPU.
_CHUNK_ELEMENTS_CPU, _CHUNK_ELEMENTS = 1 << 22, 1 << 26
_LEAST_CHUNK_TOKENS = 128


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    target_ids_N: torch.Tensor,
    token_weights_N: torch.Tensor,
    z_weight: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy of the logits ``hidden_ND @ weight_VD.T``, and that of each token.

    Args:
        hidden_ND: [N, D]; matrix products are taken in autocast's type where that is on.
        weight_VD: [V, D].
        target_ids_N: int64 [N], below zero where there is no target.
        token_weights_N: [N], float32 or wider; no gradient flows to them.
        z_weight: of the squared logarithm of the softmax's denominator (PaLM, Chowdhery et al. 2022).

    Returns:
        Σ weight · (nats + z_weight · log²Z), a scalar; and nats [N], zero where there is no target, which carry no
        gradient. Both float32 or wider.
    """
    device_type = hidden_ND.device.type
    if torch.is_autocast_enabled(device_type):
        half = torch.get_autocast_dtype(device_type)
        hidden_ND, weight_VD = hidden_ND.to(half), weight_VD.to(half)
    wants_gradient = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    total, nats_N, _, _, _ = torch.ops.lst.linear_cross_entropy(
        hidden_ND, weight_VD, target_ids_N, token_weights_N, z_weight, wants_gradient
    )
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

    Gradients are empty where not wanted, and are yet to be multiplied by the scale, a scalar.
    Weights of a mean are tiny: in half precision gradients are formed relative to the largest, lest they vanish.
    """
    num_tokens, vocab_size = hidden_ND.shape[0], weight_VD.shape[0]
    wide = _wide(hidden_ND.dtype)
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
        logits_CV = (hidden_ND[part] @ weight_VD.t()).to(wide)
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
            # One target a row: no two additions meet.
            grads_CV.scatter_add_(1, targets, -weights[:, None])
            grads_CV = grads_CV.to(hidden_ND.dtype)
            torch.mm(grads_CV, weight_VD, out=grad_hidden_ND[part])
            _add_product(grad_weight_VD, grads_CV.t(), hidden_ND[part])
    return total, nats_N, grad_hidden_ND, grad_weight_VD, scale


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
        return hidden_ND.new_empty(0), weight_VD.new_empty(0, dtype=_wide(weight_VD.dtype))
    return torch.empty_like(hidden_ND), torch.empty_like(weight_VD, dtype=_wide(weight_VD.dtype))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


_forward = torch.library.custom_op("lst::linear_cross_entropy", compute, mutates_args=())


@_forward.register_fake
def _(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    target_ids_N: torch.Tensor,
    token_weights_N: torch.Tensor,
    z_weight: float,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    wide = _wide(hidden_ND.dtype)
    nats_N = hidden_ND.new_empty(hidden_ND.shape[0], dtype=wide)
    gradients = _empty_gradients(hidden_ND, weight_VD, wants_gradient)
    return hidden_ND.new_empty((), dtype=wide), nats_N, *gradients, hidden_ND.new_empty((), dtype=wide)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*output[2:])
    ctx.hidden_dtype, ctx.weight_dtype = inputs[0].dtype, inputs[1].dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_total, *_):  # type: ignore[no-untyped-def]
    grad_hidden_ND, grad_weight_VD, scale = ctx.saved_tensors
    grad_total = grad_total * scale
    hidden, weight = grad_hidden_ND.to(scale.dtype) * grad_total, grad_weight_VD * grad_total
    return hidden.to(ctx.hidden_dtype), weight.to(ctx.weight_dtype), None, None, None, None


_forward.register_autograd(_gradients, setup_context=_setup)
