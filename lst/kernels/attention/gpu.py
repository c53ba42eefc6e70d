"""Interval attention on a GPU, in Triton: one pass with a running softmax, and a backward pass that recomputes it.

A program computes a block of queries of one head (forward, query gradient) or a block of keys of one key head (key and
value gradients), and loops over the keys or queries that the intervals reach. Both ends of the intervals are
non-decreasing, so the queries that see a block of keys are consecutive. Two binary searches on the device find them,
and the host does not wait.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from lst.kernels.paths import float32_precision, on_device_of

LOG2_E = math.log2(math.e)


def _tuned(kernel: Any) -> Any:
    """Tunes warps and loads ahead by measurement on the first call; the interpreter has no clock, so it tunes nothing.

    The tile size, which decides the order of sums, is not tuned: results do not depend on the measurement.
    """
    if isinstance(kernel, InterpretedFunction):
        return kernel
    # Triton skips settings that do not fit the shared memory.
    configs = [
        triton.Config({}, num_warps=warps, num_stages=stages) for warps, stages in ((4, 1), (4, 2), (4, 3), (8, 2))
    ]
    return triton.autotune(
        configs,
        key=["HEADS", "GROUPS", "BLOCK_Q", "BLOCK_K", "BLOCK_D", "PRECISION"],
        prune_configs_by={"early_config_prune": _even_tiles},
    )(kernel)


def _even_tiles(configs: list[Any], arguments: dict[str, Any], **constants: Any) -> list[Any]:
    """Keeps small tiles on four warps: more would change the order of sums."""
    return [config for config in configs if config.num_warps == 4 or constants["BLOCK_Q"] >= 64]


@_tuned
@triton.jit
def _forward_kernel(
    query,
    key,
    value,
    first_key,
    last_key,
    out,
    lse,
    scale_log2,
    num_queries,
    num_keys,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head = tl.program_id(1).to(tl.int64)
    group = head // (HEADS // GROUPS)
    columns = tl.arange(0, BLOCK_D)
    is_row, is_column = rows < num_queries, columns < DIM
    row_offsets = (rows.to(tl.int64) * HEADS + head) * DIM
    q = tl.load(query + row_offsets[:, None] + columns[None, :], mask=is_row[:, None] & is_column[None, :], other=0.0)
    first = tl.load(first_key + rows, mask=is_row, other=num_keys)
    last = tl.load(last_key + rows, mask=is_row, other=-1)
    low = tl.min(first, axis=0).to(tl.int32)
    high = tl.max(last, axis=0).to(tl.int32) + 1
    peak = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for start in range(low, high, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        key_offsets = (keys.to(tl.int64) * GROUPS + group) * DIM
        is_key = keys < num_keys
        tile = is_key[:, None] & is_column[None, :]
        k = tl.load(key + key_offsets[:, None] + columns[None, :], mask=tile, other=0.0)
        v = tl.load(value + key_offsets[:, None] + columns[None, :], mask=tile, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_log2
        seen = (keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None])
        scores = tl.where(seen, scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        # A row that has seen no key yet keeps −∞; zero in its place keeps the differences from being NaN.
        shift = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        weights = tl.exp2(scores - shift[:, None])
        decay = tl.exp2(peak - shift)
        total = total * decay + tl.sum(weights, axis=1)
        mixed = mixed * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        peak = new_peak
    # Rows beyond the last query have no key; nothing of them is stored.
    total = tl.where(is_row, total, 1.0)
    mixed = mixed / total[:, None]
    tl.store(
        out + row_offsets[:, None] + columns[None, :],
        mixed.to(out.dtype.element_ty),
        mask=is_row[:, None] & is_column[None, :],
    )
    tl.store(lse + head * num_queries + rows, (peak + tl.log2(total)) / 1.4426950408889634, mask=is_row)


@_tuned
@triton.jit
def _query_gradient_kernel(
    grad,
    query,
    key,
    value,
    lse,
    taken,
    first_key,
    last_key,
    grad_query,
    scale,
    num_queries,
    num_keys,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head = tl.program_id(1).to(tl.int64)
    group = head // (HEADS // GROUPS)
    columns = tl.arange(0, BLOCK_D)
    is_row, is_column = rows < num_queries, columns < DIM
    row_offsets = (rows.to(tl.int64) * HEADS + head) * DIM
    row_tile = is_row[:, None] & is_column[None, :]
    q = tl.load(query + row_offsets[:, None] + columns[None, :], mask=row_tile, other=0.0)
    g = tl.load(grad + row_offsets[:, None] + columns[None, :], mask=row_tile, other=0.0)
    first = tl.load(first_key + rows, mask=is_row, other=num_keys)
    last = tl.load(last_key + rows, mask=is_row, other=-1)
    row_lse = tl.load(lse + head * num_queries + rows, mask=is_row, other=0.0)
    row_taken = tl.load(taken + head * num_queries + rows, mask=is_row, other=0.0)
    low = tl.min(first, axis=0).to(tl.int32)
    high = tl.max(last, axis=0).to(tl.int32) + 1
    dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for start in range(low, high, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        key_offsets = (keys.to(tl.int64) * GROUPS + group) * DIM
        tile = (keys < num_keys)[:, None] & is_column[None, :]
        k = tl.load(key + key_offsets[:, None] + columns[None, :], mask=tile, other=0.0)
        v = tl.load(value + key_offsets[:, None] + columns[None, :], mask=tile, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        seen = (keys[None, :] >= first[:, None]) & (keys[None, :] <= last[:, None])
        weights = tl.where(seen, tl.exp(scores - row_lse[:, None]), 0.0)
        grad_weights = tl.dot(g, tl.trans(v), input_precision=PRECISION)
        grad_scores = weights * (grad_weights - row_taken[:, None]) * scale
        dq += tl.dot(grad_scores.to(k.dtype), k, input_precision=PRECISION)
    tl.store(grad_query + row_offsets[:, None] + columns[None, :], dq.to(grad_query.dtype.element_ty), mask=row_tile)


@_tuned
@triton.jit
def _key_gradient_kernel(
    grad,
    query,
    key,
    value,
    lse,
    taken,
    first_key,
    last_key,
    first_query,
    end_query,
    grad_key,
    grad_value,
    scale,
    num_queries,
    num_keys,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    block = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    keys = block * BLOCK_K + tl.arange(0, BLOCK_K)
    columns = tl.arange(0, BLOCK_D)
    is_column = columns < DIM
    key_offsets = (keys.to(tl.int64) * GROUPS + group) * DIM
    key_tile = (keys < num_keys)[:, None] & is_column[None, :]
    k = tl.load(key + key_offsets[:, None] + columns[None, :], mask=key_tile, other=0.0)
    v = tl.load(value + key_offsets[:, None] + columns[None, :], mask=key_tile, other=0.0)
    low = tl.load(first_query + block).to(tl.int32)
    high = tl.load(end_query + block).to(tl.int32)
    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        for start in range(low, high, BLOCK_Q):
            rows = start + tl.arange(0, BLOCK_Q)
            is_row = rows < num_queries
            row_offsets = (rows.to(tl.int64) * HEADS + head) * DIM
            row_tile = is_row[:, None] & is_column[None, :]
            q = tl.load(query + row_offsets[:, None] + columns[None, :], mask=row_tile, other=0.0)
            g = tl.load(grad + row_offsets[:, None] + columns[None, :], mask=row_tile, other=0.0)
            first = tl.load(first_key + rows, mask=is_row, other=num_keys)
            last = tl.load(last_key + rows, mask=is_row, other=-1)
            row_lse = tl.load(lse + head * num_queries + rows, mask=is_row, other=0.0)
            row_taken = tl.load(taken + head * num_queries + rows, mask=is_row, other=0.0)
            scores = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
            seen = (keys[:, None] >= first[None, :]) & (keys[:, None] <= last[None, :])
            weights = tl.where(seen, tl.exp(scores - row_lse[None, :]), 0.0)
            dv += tl.dot(weights.to(g.dtype), g, input_precision=PRECISION)
            grad_weights = tl.dot(v, tl.trans(g), input_precision=PRECISION)
            grad_scores = weights * (grad_weights - row_taken[None, :]) * scale
            dk += tl.dot(grad_scores.to(q.dtype), q, input_precision=PRECISION)
    tl.store(grad_key + key_offsets[:, None] + columns[None, :], dk.to(grad_key.dtype.element_ty), mask=key_tile)
    tl.store(grad_value + key_offsets[:, None] + columns[None, :], dv.to(grad_value.dtype.element_ty), mask=key_tile)


def forward(
    query_QHD: torch.Tensor,
    key_KGD: torch.Tensor,
    value_KGD: torch.Tensor,
    first_key_Q: torch.Tensor,
    last_key_Q: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [Q, H, D] and the logarithm of each query's sum of exponentials, float32 [H, Q]."""
    query, key, value = (x.contiguous() for x in (query_QHD, key_KGD, value_KGD))
    num_queries, num_heads, head_dim = query.shape
    out = torch.empty_like(query)
    lse_HQ = torch.empty(num_heads, num_queries, dtype=torch.float32, device=query.device)
    sizes = _sizes(query, key)
    grid = (triton.cdiv(num_queries, sizes["BLOCK_Q"]), num_heads)
    with on_device_of(query):
        _forward_kernel[grid](
            query,
            key,
            value,
            first_key_Q.contiguous(),
            last_key_Q.contiguous(),
            out,
            lse_HQ,
            LOG2_E / math.sqrt(head_dim),
            num_queries,
            key.shape[0],
            **sizes,
        )
    return out, lse_HQ


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
    """Gradients of query, key and value."""
    grad, query, key, value = (x.contiguous() for x in (grad_QHD, query_QHD, key_KGD, value_KGD))
    first_key, last_key = first_key_Q.contiguous(), last_key_Q.contiguous()
    (num_queries, num_heads, head_dim), (num_keys, num_groups, _) = query.shape, key.shape
    # Σ grad·out = Σ weights·grad_weights, which the gradient of the softmax subtracts from every score of a query.
    taken_HQ = (grad.float() * out_QHD.float()).sum(dim=-1).t().contiguous()
    grads = [torch.empty_like(x) for x in (query, key, value)]
    sizes = _sizes(query, key)
    scale = 1 / math.sqrt(head_dim)
    common = (grad, query, key, value, lse_HQ, taken_HQ, first_key, last_key)
    with on_device_of(query):
        _query_gradient_kernel[(triton.cdiv(num_queries, sizes["BLOCK_Q"]), num_heads)](
            *common, grads[0], scale, num_queries, num_keys, **sizes
        )
    num_blocks = triton.cdiv(num_keys, sizes["BLOCK_K"])
    starts = torch.arange(num_blocks, device=query.device) * sizes["BLOCK_K"]
    first_query = torch.searchsorted(last_key, starts, right=False)
    end_query = torch.searchsorted(first_key, (starts + sizes["BLOCK_K"] - 1).clamp(max=num_keys - 1), right=True)
    with on_device_of(query):
        _key_gradient_kernel[(num_blocks, num_groups)](
            *common, first_query, end_query, grads[1], grads[2], scale, num_queries, num_keys, **sizes
        )
    return grads[0], grads[1], grads[2]


def _sizes(query: torch.Tensor, key: torch.Tensor) -> dict[str, Any]:
    """Tile sizes and constants of the kernels."""
    head_dim = query.shape[2]
    block_d = max(16, triton.next_power_of_2(head_dim))
    if isinstance(_forward_kernel, InterpretedFunction):
        block_q = block_k = 16
    elif block_d > (64 if query.dtype == torch.float32 else 128):
        block_q, block_k = 32, 32
    else:
        block_q, block_k = 64, 64
    return {
        "HEADS": query.shape[1],
        "GROUPS": key.shape[1],
        "DIM": head_dim,
        "BLOCK_Q": block_q,
        "BLOCK_K": block_k,
        "BLOCK_D": block_d,
        "PRECISION": float32_precision() if query.dtype == torch.float32 else "tf32",
    }
