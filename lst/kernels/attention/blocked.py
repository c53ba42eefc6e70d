"""Blocked attention on joined documents. Twins in ``reference``; see the package's docstring."""

from __future__ import annotations

import torch
from torch.nn import functional

# Fillers of the last, incomplete block: they match each other and no real document.
_FILLER_DOC = -2


def local_attention(
    query_NHD: torch.Tensor, key_NHD: torch.Tensor, value_NHD: torch.Tensor, doc_ids_N: torch.Tensor, window: int
) -> torch.Tensor:
    """Causal sliding-window self-attention inside documents.

    Token i sees tokens i−window+1 … i of its own document.

    Args:
        query_NHD, key_NHD, value_NHD: [N, H, D].
        doc_ids_N: int64 [N], the same for tokens of one document, which stand together.
        window: tokens seen, the own one included.

    Returns:
        [N, H, D].
    """
    num_tokens = query_NHD.shape[0]
    block = min(window, num_tokens)
    num_blocks = -(-num_tokens // block)
    filler = num_blocks * block - num_tokens

    def blocks_of(x: torch.Tensor, fill: int = 0) -> torch.Tensor:
        padding = x.new_full((filler, *x.shape[1:]), fill)
        return torch.cat([x, padding]).view(num_blocks, block, *x.shape[1:])

    def with_previous(x: torch.Tensor, fill: int = 0) -> torch.Tensor:
        before = torch.cat([torch.full_like(x[:1], fill), x[:-1]])
        return torch.cat([before, x], dim=1)

    docs = blocks_of(doc_ids_N, _FILLER_DOC)
    # The block before the first has a document that nothing matches, not even the fillers.
    key_docs = with_previous(docs, _FILLER_DOC - 1)
    distance = (
        torch.arange(block, device=docs.device)[:, None] + block - torch.arange(2 * block, device=docs.device)[None, :]
    )
    mask = (docs[:, :, None] == key_docs[:, None, :]) & (distance >= 0) & (distance < window)
    out = _attend(blocks_of(query_NHD), with_previous(blocks_of(key_NHD)), with_previous(blocks_of(value_NHD)), mask)
    return out.flatten(0, 1)[:num_tokens]


def patch_cross_attention(
    query_NHD: torch.Tensor,
    key_MHD: torch.Tensor,
    value_MHD: torch.Tensor,
    context_patch_ids_N: torch.Tensor,
    token_doc_ids_N: torch.Tensor,
    patch_doc_ids_M: torch.Tensor,
    window: int,
) -> torch.Tensor:
    """Attention of tokens to the patches complete before them, inside documents.

    Token t sees patches c−window+1 … c of its own document, where c is ``context_patch_ids_N[t]``.

    Args:
        query_NHD: [N, H, D].
        key_MHD, value_MHD: [M, H, D].
        context_patch_ids_N: int64 [N], non-decreasing, rising by at most one a token over any stretch (plus one).
        token_doc_ids_N, patch_doc_ids_M: int64, the documents of tokens and of patches.
        window: patches seen.

    Returns:
        [N, H, D].
    """
    num_tokens, num_patches = query_NHD.shape[0], key_MHD.shape[0]
    block = min(window, num_tokens)
    num_blocks = -(-num_tokens // block)
    # Fillers repeat the last token, whose context exists; what they give is cut off again.
    index = torch.arange(num_blocks * block, device=query_NHD.device).clamp_(max=num_tokens - 1).view(num_blocks, block)
    contexts, docs = context_patch_ids_N[index], token_doc_ids_N[index]
    # Every token ends at most one patch, and a late-closing patch adds one: the block's contexts span ≤ block + 1.
    reach = min(window + block, num_patches)
    first = (contexts[:, :1] - (window - 1)).clamp(min=0, max=max(num_patches - reach, 0))
    keys = first + torch.arange(reach, device=query_NHD.device)
    distance = contexts[:, :, None] - keys[:, None, :]
    mask = (docs[:, :, None] == patch_doc_ids_M[keys][:, None, :]) & (distance >= 0) & (distance < window)
    out = _attend(query_NHD[index], key_MHD[keys], value_MHD[keys], mask)
    return out.flatten(0, 1)[:num_tokens]


def patch_pool_attention(
    query_MKHD: torch.Tensor, key_NHD: torch.Tensor, value_NHD: torch.Tensor, patch_ids_N: torch.Tensor
) -> torch.Tensor:
    """Attention of each patch's queries to the patch's own tokens, as segment sums.

    Args:
        query_MKHD: [M, K, H, D], K queries a patch.
        key_NHD, value_NHD: [N, H, D].
        patch_ids_N: int64 [N], the patch of each token; every patch has one or more.

    Returns:
        [M, K, H, D].
    """
    num_patches, num_queries, num_heads, head_dim = query_MKHD.shape
    scores_NKH = (query_MKHD[patch_ids_N] * key_NHD[:, None]).sum(dim=-1) / head_dim**0.5
    if scores_NKH.dtype in (torch.bfloat16, torch.float16):
        # Sums over a patch are kept in float32, as scaled_dot_product_attention does.
        scores_NKH = scores_NKH.float()
    index = patch_ids_N[:, None, None].expand_as(scores_NKH)
    # The maximum only keeps exp in range: it cancels, so no gradient flows through it.
    peak = scores_NKH.new_zeros(num_patches, num_queries, num_heads).scatter_reduce(
        0, index, scores_NKH.detach(), "amax", include_self=False
    )
    weights_NKH = (scores_NKH - peak[patch_ids_N]).exp()
    total = torch.zeros_like(peak).index_add(0, patch_ids_N, weights_NKH)
    weights_NKH = (weights_NKH / total[patch_ids_N]).to(value_NHD.dtype)
    out = value_NHD.new_zeros(query_MKHD.shape)
    return out.index_add(0, patch_ids_N, weights_NKH[..., None] * value_NHD[:, None])


def row_attention(
    query_BPHD: torch.Tensor, key_BPHD: torch.Tensor, value_BPHD: torch.Tensor, doc_ids_BP: torch.Tensor
) -> torch.Tensor:
    """Causal self-attention of the patches of a row, inside documents.

    Args:
        query_BPHD, key_BPHD, value_BPHD: [B, P, H, D]; keys and values may have fewer heads, each shared by a group.
        doc_ids_BP: int64 [B, P]; empty slots share an id that no document has, and see only each other.

    Returns:
        [B, P, H, D].
    """
    num_slots = doc_ids_BP.shape[1]
    causal_PP = torch.ones(num_slots, num_slots, dtype=torch.bool, device=doc_ids_BP.device).tril()
    return _attend(query_BPHD, key_BPHD, value_BPHD, causal_PP & (doc_ids_BP[:, :, None] == doc_ids_BP[:, None, :]))


def _attend(
    query_BQHD: torch.Tensor, key_BKHD: torch.Tensor, value_BKHD: torch.Tensor, mask_BQK: torch.Tensor
) -> torch.Tensor:
    """Scaled dot-product attention with heads second to last; every query has a key."""
    out = functional.scaled_dot_product_attention(
        query_BQHD.transpose(1, 2),
        key_BKHD.transpose(1, 2),
        value_BKHD.transpose(1, 2),
        attn_mask=mask_BQK[:, None],
    )
    return out.transpose(1, 2)
