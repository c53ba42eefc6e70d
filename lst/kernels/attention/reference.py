"""The slow, obviously right versions: one dense mask over everything."""

from __future__ import annotations

import torch


def masked_attention_reference(
    query_QHD: torch.Tensor, key_KHD: torch.Tensor, value_KHD: torch.Tensor, mask_QK: torch.Tensor
) -> torch.Tensor:
    """Softmax attention [Q, H, D] where ``mask_QK`` is True."""
    scores_HQK = torch.einsum("qhd,khd->hqk", query_QHD, key_KHD) / query_QHD.shape[-1] ** 0.5
    weights_HQK = scores_HQK.masked_fill(~mask_QK, float("-inf")).softmax(dim=-1)
    return torch.einsum("hqk,khd->qhd", weights_HQK, value_KHD)


def local_attention_reference(
    query_NHD: torch.Tensor, key_NHD: torch.Tensor, value_NHD: torch.Tensor, doc_ids_N: torch.Tensor, window: int
) -> torch.Tensor:
    """Twin of ``local_attention``."""
    index = torch.arange(len(doc_ids_N))
    distance_NN = index[:, None] - index[None, :]
    mask_NN = (doc_ids_N[:, None] == doc_ids_N[None, :]) & (distance_NN >= 0) & (distance_NN < window)
    return masked_attention_reference(query_NHD, key_NHD, value_NHD, mask_NN)


def patch_cross_attention_reference(
    query_NHD: torch.Tensor,
    key_MHD: torch.Tensor,
    value_MHD: torch.Tensor,
    context_patch_ids_N: torch.Tensor,
    token_doc_ids_N: torch.Tensor,
    patch_doc_ids_M: torch.Tensor,
    window: int,
) -> torch.Tensor:
    """Twin of ``patch_cross_attention``."""
    distance_NM = context_patch_ids_N[:, None] - torch.arange(len(patch_doc_ids_M))[None, :]
    mask_NM = (token_doc_ids_N[:, None] == patch_doc_ids_M[None, :]) & (distance_NM >= 0) & (distance_NM < window)
    return masked_attention_reference(query_NHD, key_MHD, value_MHD, mask_NM)


def patch_pool_attention_reference(
    query_MKHD: torch.Tensor, key_NHD: torch.Tensor, value_NHD: torch.Tensor, patch_ids_N: torch.Tensor
) -> torch.Tensor:
    """Twin of ``patch_pool_attention``."""
    num_patches, num_queries = query_MKHD.shape[:2]
    mask_MN = torch.arange(num_patches)[:, None] == patch_ids_N[None, :]
    flat = query_MKHD.flatten(0, 1)
    out = masked_attention_reference(flat, key_NHD, value_NHD, mask_MN.repeat_interleave(num_queries, dim=0))
    return out.view_as(query_MKHD)


def row_attention_reference(
    query_BPHD: torch.Tensor, key_BPHD: torch.Tensor, value_BPHD: torch.Tensor, doc_ids_BP: torch.Tensor
) -> torch.Tensor:
    """Twin of ``row_attention``."""
    causal_PP = torch.ones(doc_ids_BP.shape[1], doc_ids_BP.shape[1], dtype=torch.bool).tril()
    rows = [
        masked_attention_reference(q, k, v, causal_PP & (docs[:, None] == docs[None, :]))
        for q, k, v, docs in zip(query_BPHD, key_BPHD, value_BPHD, doc_ids_BP, strict=True)
    ]
    return torch.stack(rows)
