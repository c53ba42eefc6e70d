"""The plain twin of interval attention: one dense mask."""

from __future__ import annotations

import torch


def interval_mask(first_key_Q: torch.Tensor, last_key_Q: torch.Tensor, num_keys: int) -> torch.Tensor:
    """Boolean [Q, K], True where a query sees a key."""
    keys = torch.arange(num_keys, device=first_key_Q.device)
    return (keys >= first_key_Q[:, None]) & (keys <= last_key_Q[:, None])


def interval_attention_reference(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> torch.Tensor:
    """Softmax attention [Q, H, D] under ``interval_mask``; see ``interval_attention`` for the arguments."""
    group = query_QHD.shape[1] // key_KGD.shape[1]
    key_KHD, value_KHD = (x.repeat_interleave(group, dim=1) for x in (key_KGD, value_KGD))
    scores_HQK = torch.einsum("qhd,khd->hqk", query_QHD, key_KHD) / query_QHD.shape[-1] ** 0.5
    mask_QK = interval_mask(first_key_Q, last_key_Q, key_KGD.shape[0])
    weights_HQK = scores_HQK.masked_fill(~mask_QK, float("-inf")).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", weights_HQK, value_KHD)
