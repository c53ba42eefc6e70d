"""The plain twin of ``linear_cross_entropy``: all logits at once."""

from __future__ import annotations

import torch
from torch.nn import functional


def linear_cross_entropy_reference(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    target_ids_N: torch.Tensor,
    token_weights_N: torch.Tensor,
    z_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Arguments and results of ``linear_cross_entropy``; gradients are autograd's."""
    logits_NV = hidden_ND @ weight_VD.t()
    has_target = target_ids_N >= 0
    nats_N = functional.cross_entropy(logits_NV, target_ids_N.clamp(min=0), reduction="none") * has_target
    penalty_N = z_weight * logits_NV.logsumexp(dim=-1).square() * has_target
    return (token_weights_N * (nats_N + penalty_N)).sum(), nats_N
