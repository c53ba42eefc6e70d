"""Interval attention in C++, float32 on the CPU: one pass over blocks of queries and keys that stay in the cache."""

from __future__ import annotations

import torch

from lst.kernels.native import library
from lst.kernels.native.op import uses_baseline


def can_attend(query: torch.Tensor) -> bool:
    """Whether the compiled kernel takes such queries."""
    return query.dtype == torch.float32 and library.is_available()


def forward(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [Q, H, D], and the log-sum-exp [H, Q] of the scores."""
    out = torch.empty(query_QHD.shape)
    log_sums = torch.empty(query_QHD.shape[1], query_QHD.shape[0])
    arrays = _arrays(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    _run(arrays | {"out": out, "log_sums": log_sums}, backward=False)
    return out, log_sums


def backward(
    grad_QHD: torch.Tensor,
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    out_QHD: torch.Tensor,
    lse_HQ: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, from the results of ``forward``."""
    arrays = _arrays(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    arrays |= {"out": out_QHD.contiguous(), "log_sums": lse_HQ.contiguous(), "grad_out": grad_QHD.contiguous()}
    # Keys that no query sees are not written.
    grads = torch.empty(query_QHD.shape), torch.zeros(key_KGD.shape), torch.zeros(value_KGD.shape)
    arrays |= dict(zip(("grad_query", "grad_key", "grad_value"), grads, strict=True))
    _run(arrays, backward=True)
    return grads


def _arrays(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, first: torch.Tensor, last: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The inputs by name, in the layout that the library reads. Rows may have a stride, as parts of a joined tensor."""
    rows = {
        name: x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
        for name, x in (("query", query), ("key", key), ("value", value))
    }
    return rows | {"first": first.contiguous(), "last": last.contiguous()}


def _run(arrays: dict[str, torch.Tensor], backward: bool) -> None:
    attention = library.Attention()
    query, key = arrays["query"], arrays["key"]
    attention.num_queries, attention.num_heads, attention.head_dim = query.shape
    attention.num_keys, attention.num_groups = key.shape[:2]
    attention.scale = query.shape[2] ** -0.5
    for name in ("query", "key", "value"):
        setattr(attention, f"{name}_stride", arrays[name].stride(0))
    for name, tensor in arrays.items():
        setattr(attention, name, tensor.data_ptr())
    library.attend(attention, backward, uses_baseline())
