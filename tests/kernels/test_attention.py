"""Blocked attention against its plain twins: values and every gradient, at odd sizes, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lst.kernels.attention import local_attention, patch_cross_attention, patch_pool_attention, row_attention
from lst.kernels.attention.reference import (
    local_attention_reference,
    patch_cross_attention_reference,
    patch_pool_attention_reference,
    row_attention_reference,
)


def random_layout(num_tokens: int, seed: int) -> dict[str, torch.Tensor]:
    """Documents of random lengths, cut into random patches of 1 to 30 tokens, the first of each document 1."""
    rng = np.random.default_rng(seed)
    docs, patches, contexts, patch_docs = [], [], [], []
    while len(docs) < num_tokens:
        length = min(int(rng.integers(1, 70)), num_tokens - len(docs))
        doc = docs[-1] + 1 if docs else 0
        position = 0
        while position < length:
            size = 1 if position == 0 else min(int(rng.integers(1, 31)), length - position)
            late = position > 0 and rng.random() < 0.5
            patch = len(patch_docs)
            patch_docs.append(doc)
            docs += [doc] * size
            patches += [patch] * size
            contexts += [max(patch - 1, 0)] * (size - 1) + [patch - 1 if late else patch]
            position += size
    return {
        "docs": torch.tensor(docs),
        "patches": torch.tensor(patches),
        "contexts": torch.tensor(contexts),
        "patch_docs": torch.tensor(patch_docs),
    }


def assert_same_with_gradients(fast, slow, inputs: list[torch.Tensor]) -> None:
    results = []
    for function in (fast, slow):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append((out, *torch.autograd.grad((out * weight).sum(), leaves)))
    for name, a, b in zip(("value", "dq", "dk", "dv"), *results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("num_tokens", [1, 2, 63, 64, 65, 257])
def test_local_attention_equals_reference(num_tokens: int, window: int) -> None:
    docs = random_layout(num_tokens, seed=num_tokens)["docs"]
    qkv = [normal(num_tokens, 2, 6, seed=s) for s in range(3)]
    assert_same_with_gradients(
        lambda q, k, v: local_attention(q, k, v, docs, window),
        lambda q, k, v: local_attention_reference(q, k, v, docs, window),
        qkv,
    )


@pytest.mark.parametrize("window", [1, 2, 5, 32, 1000])
@pytest.mark.parametrize("num_tokens", [1, 2, 63, 65, 300])
def test_patch_cross_attention_equals_reference(num_tokens: int, window: int) -> None:
    layout = random_layout(num_tokens, seed=7 * num_tokens + 1)
    num_patches = len(layout["patch_docs"])
    arguments = (layout["contexts"], layout["docs"], layout["patch_docs"], window)
    assert_same_with_gradients(
        lambda q, k, v: patch_cross_attention(q, k, v, *arguments),
        lambda q, k, v: patch_cross_attention_reference(q, k, v, *arguments),
        [normal(num_tokens, 2, 6, seed=0), normal(num_patches, 2, 6, seed=1), normal(num_patches, 2, 6, seed=2)],
    )


@pytest.mark.parametrize("num_queries", [1, 2, 4])
@pytest.mark.parametrize("num_tokens", [1, 64, 201])
def test_patch_pool_attention_equals_reference(num_tokens: int, num_queries: int) -> None:
    layout = random_layout(num_tokens, seed=num_tokens + 2)
    num_patches = len(layout["patch_docs"])
    assert_same_with_gradients(
        lambda q, k, v: patch_pool_attention(q, k, v, layout["patches"]),
        lambda q, k, v: patch_pool_attention_reference(q, k, v, layout["patches"]),
        # Large scores: the exponentials must not overflow.
        [20 * normal(num_patches, num_queries, 2, 6, seed=0), normal(num_tokens, 2, 6, seed=1),
         normal(num_tokens, 2, 6, seed=2)],
    )  # fmt: skip


@pytest.mark.parametrize("num_slots", [1, 63, 100])
def test_row_attention_equals_reference(num_slots: int) -> None:
    rng = np.random.default_rng(num_slots)
    docs = torch.from_numpy(np.sort(rng.integers(0, 4, (3, num_slots)), axis=1)) + 10 * torch.arange(3)[:, None]
    docs[1, num_slots // 2 :] = -1
    assert_same_with_gradients(
        lambda q, k, v: row_attention(q, k, v, docs),
        lambda q, k, v: row_attention_reference(q, k, v, docs),
        [normal(3, num_slots, 2, 6, seed=s) for s in range(3)],
    )
