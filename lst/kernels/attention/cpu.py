"""Interval attention on the CPU: blocks of queries, each against the range of keys that its intervals span.

Float32 takes the compiled kernel. Without it, and for other types, matrix products and in-place sums run on buffers
that fit the cache. The host reads the intervals, which costs nothing on the CPU; the operator hides this from
``torch.compile``.
"""

from __future__ import annotations

import numpy as np
import torch

from lst.kernels.attention import compiled
from lst.kernels.checks import wide_dtype

# Block sizes that are tried, the fixed cost of a block in microseconds, and operations a microsecond, as measured on
# two AVX2 cores. They only choose a block size: no result depends on them.
_BLOCK_SIZES = (16, 32, 64, 128, 256)
_BLOCK_US = 250.0
_FLOPS_A_US = 60_000.0


def plan_blocks(first_key_Q: np.ndarray, last_key_Q: np.ndarray, flops_a_pair: float) -> np.ndarray:
    """Blocks of queries with the keys that they need: int64 [blocks, 4] of first and end query, first and end key.

    Where intervals stop overlapping (a document ends), a block ends too if that saves work. The block size is the one
    with the least estimated time.

    Args:
        first_key_Q, last_key_Q: int64 [Q], as for ``interval_attention``.
        flops_a_pair: operations for each pair of a query and a key.
    """
    num_queries = len(first_key_Q)
    breaks = np.concatenate([[0], np.flatnonzero(first_key_Q[1:] > last_key_Q[:-1]) + 1, [num_queries]])
    sizes = np.diff(breaks)
    best, least_us = np.zeros((0, 4), np.int64), np.inf
    for block in _BLOCK_SIZES:
        long = sizes >= block // 2
        cuts = np.unique(np.concatenate([[0], breaks[:-1][long], breaks[1:][long], [num_queries]]))
        counts = -(-np.diff(cuts) // block)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(cuts[:-1], counts) + place * block
        ends = np.append(starts[1:], num_queries)
        plan = np.stack([starts, ends, first_key_Q[starts], last_key_Q[ends - 1] + 1], axis=1)
        pairs = float(((plan[:, 1] - plan[:, 0]) * (plan[:, 3] - plan[:, 2])).sum())
        cost_us = len(plan) * _BLOCK_US + pairs * flops_a_pair / _FLOPS_A_US
        if cost_us < least_us:
            best, least_us = plan, cost_us
        if block >= num_queries:
            break
    return best


def forward(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [Q, H, D] and the log-sum-exp [H, Q] of the scores; zeros in place of it without the compiled kernel."""
    num_queries, num_heads, head_dim = query_QHD.shape
    num_groups, wide = key_KGD.shape[1], wide_dtype(query_QHD.dtype)
    if torch.equal(first_key_Q, last_key_Q):
        # The weight of an only key is 1.
        values = value_KGD[first_key_Q].repeat_interleave(num_heads // num_groups, dim=1)
        return values, torch.zeros(num_heads, num_queries, dtype=wide)
    if compiled.can_attend(query_QHD):
        return compiled.forward(query_QHD, key_KGD, value_KGD, first_key_Q, last_key_Q)
    out = torch.empty(query_QHD.shape, dtype=query_QHD.dtype)
    scaled_QHD = query_QHD * head_dim**-0.5
    for start, end, first, stop in _plan(first_key_Q, last_key_Q, 4 * num_heads * head_dim):
        queries = _groups_first(scaled_QHD[start:end], num_groups, wide)
        keys, values = (x[first:stop].transpose(0, 1).to(wide) for x in (key_KGD, value_KGD))
        weights = _weights(queries, keys, first_key_Q[start:end], last_key_Q[start:end], first)
        out[start:end] = _queries_first(torch.bmm(weights, values), num_heads)
    return out, torch.zeros(num_heads, num_queries, dtype=wide)


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
    """Gradients of query, key and value; the softmax weights are recomputed.

    Blocks are summed in a fixed order, so results repeat bit for bit.
    """
    num_heads, head_dim = query_QHD.shape[1:]
    num_keys, num_groups = key_KGD.shape[:2]
    wide = wide_dtype(query_QHD.dtype)
    if torch.equal(first_key_Q, last_key_Q):
        sums_QGD = grad_QHD.to(wide).view(len(grad_QHD), num_groups, -1, head_dim).sum(dim=2)
        grad_value = torch.zeros(value_KGD.shape, dtype=wide).index_add_(0, first_key_Q, sums_QGD)
        return torch.zeros_like(query_QHD), torch.zeros_like(key_KGD), grad_value.to(value_KGD.dtype)
    if compiled.can_attend(query_QHD):
        return compiled.backward(grad_QHD, query_QHD, key_KGD, value_KGD, out_QHD, lse_HQ, first_key_Q, last_key_Q)
    scaled_QHD = query_QHD * head_dim**-0.5
    grad_query = torch.empty(query_QHD.shape, dtype=query_QHD.dtype)
    grad_key, grad_value = (torch.zeros(num_groups, num_keys, head_dim, dtype=wide) for _ in range(2))
    for start, end, first, stop in _plan(first_key_Q, last_key_Q, 10 * num_heads * head_dim):
        queries, grad = (_groups_first(x[start:end], num_groups, wide) for x in (scaled_QHD, grad_QHD))
        keys, values = (x[first:stop].transpose(0, 1).to(wide) for x in (key_KGD, value_KGD))
        weights = _weights(queries, keys, first_key_Q[start:end], last_key_Q[start:end], first)
        grad_value[:, first:stop] += torch.bmm(weights.transpose(1, 2), grad)
        grad_weights = torch.bmm(grad, values.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, wide)
        grad_query[start:end] = _queries_first(torch.bmm(grad_scores, keys), num_heads)
        grad_key[:, first:stop] += torch.bmm(grad_scores.transpose(1, 2), queries)
    return (
        grad_query.mul_(head_dim**-0.5),
        grad_key.transpose(0, 1).to(key_KGD.dtype, copy=True, memory_format=torch.contiguous_format),
        grad_value.transpose(0, 1).to(value_KGD.dtype, copy=True, memory_format=torch.contiguous_format),
    )


def _weights(
    queries: torch.Tensor, keys: torch.Tensor, first_key_C: torch.Tensor, last_key_C: torch.Tensor, first: int
) -> torch.Tensor:
    """Softmax weights of a block, [groups, heads of the group × C, keys]; zero outside the intervals."""
    scores = torch.bmm(queries, keys.transpose(1, 2))
    _hide(scores, first_key_C, last_key_C, first)
    return scores.softmax(dim=-1)


def _plan(first_key_Q: torch.Tensor, last_key_Q: torch.Tensor, flops_a_pair: float) -> list[list[int]]:
    return plan_blocks(first_key_Q.numpy(), last_key_Q.numpy(), flops_a_pair).tolist()


def _hide(scores: torch.Tensor, first_key_C: torch.Tensor, last_key_C: torch.Tensor, first: int) -> None:
    """Sets scores outside the intervals to minus infinity, in [groups, heads of the group × C, keys].

    All queries see the keys from the last query's first to the first query's last. Only the others are touched.
    """
    num_groups, _, num_keys = scores.shape
    by_head = scores.view(num_groups, -1, len(first_key_C), num_keys)
    all_see, none_after = int(first_key_C[-1]) - first, int(last_key_C[0]) + 1 - first
    if all_see >= none_after:
        all_see = none_after = num_keys
    for part in (slice(0, all_see), slice(none_after, num_keys)):
        keys = torch.arange(num_keys)[part] + first
        if len(keys):
            unseen = (keys < first_key_C[:, None]) | (keys > last_key_C[:, None])
            by_head[..., part].masked_fill_(unseen, float("-inf"))


def _groups_first(x_QHD: torch.Tensor, num_groups: int, dtype: torch.dtype) -> torch.Tensor:
    """[Q, H, D] → [groups, heads of the group × Q, D]."""
    num_queries, _, head_dim = x_QHD.shape
    return (
        x_QHD.to(dtype)
        .view(num_queries, num_groups, -1, head_dim)
        .permute(1, 2, 0, 3)
        .reshape(num_groups, -1, head_dim)
    )


def _queries_first(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Inverse of ``_groups_first``: [groups, heads of the group × Q, D] → [Q, H, D]."""
    return x.view(num_heads, -1, x.shape[-1]).transpose(0, 1)
