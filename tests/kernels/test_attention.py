"""Interval attention: every path against the dense reference, values and every gradient, at odd sizes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from lst.kernels.attention import attention_path, forced_path, interval_attention
from lst.kernels.attention.cpu import plan_blocks
from lst.kernels.attention.reference import interval_attention_reference, interval_mask
from lst.kernels.native import library
from lst.kernels.native.op import baseline_instructions

# Without a GPU, Triton's kernels run under its interpreter (see conftest.py).
HAS_GPU = torch.cuda.is_available()
SIZES = [1, 2, 63, 64, 65, 257]
needs_library = pytest.mark.skipif(not library.is_available(), reason="the compiled kernels were not built")


def random_documents(num_tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents of 1 to 70 tokens, cut into patches of 1 to 30: document of each token, first token of each patch."""
    rng = np.random.default_rng(seed)
    docs, starts = np.zeros(num_tokens, np.int64), []
    position = 0
    while position < num_tokens:
        end = min(position + int(rng.integers(1, 70)), num_tokens)
        docs[position:end] = docs[position - 1] + 1 if position else 0
        while position < end:
            starts.append(position)
            position = min(position + int(rng.integers(1, 31)), end)
    return docs, np.array(starts)


def intervals(kind: str, num_tokens: int, window: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, int]:
    """First key, last key and number of keys of the model's kinds of attention."""
    docs, starts = random_documents(num_tokens, seed)
    index = np.arange(num_tokens)
    doc_start = np.searchsorted(docs, docs)
    ends = np.append(starts[1:], num_tokens) - 1
    patches = np.arange(len(starts))
    first_patch = np.searchsorted(docs[starts], docs[starts])
    if kind == "tokens":
        first, last, num_keys = np.maximum(doc_start, index - window + 1), index, num_tokens
    elif kind == "patch reads tokens":
        first = np.repeat(starts[np.maximum(first_patch, patches - window + 1)], 2)
        last, num_keys = np.repeat(ends, 2), num_tokens
    else:
        own = np.searchsorted(starts, index, side="right") - 1
        context = np.maximum(np.where(index == ends[own], own, own - 1), first_patch[own])
        first, last, num_keys = np.maximum(first_patch[own], context - window + 1), context, len(starts)
    return torch.from_numpy(first), torch.from_numpy(last), num_keys


def inputs(first: torch.Tensor, num_keys: int, heads: int, groups: int, dim: int, dtype: torch.dtype) -> list:
    generator = torch.Generator().manual_seed(len(first) + num_keys)
    shapes = [(len(first), heads, dim), (num_keys, groups, dim), (num_keys, groups, dim)]
    return [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]


def value_and_gradients(function, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in tensors]
    out = function(*leaves)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).to(out)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


def assert_same(fast: list[torch.Tensor], slow: list[torch.Tensor], tolerance: float) -> None:
    for name, a, b in zip(("value", "dq", "dk", "dv"), fast, slow, strict=True):
        error = (a.double().cpu() - b.double().cpu()).norm() / b.double().cpu().norm().clamp(min=1.0)
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (4, 1)], ids=["plain", "grouped", "one key head"])
@pytest.mark.parametrize("window", [1, 7, 64, 1000])
@pytest.mark.parametrize("num_tokens", SIZES)
@pytest.mark.parametrize("kind", ["tokens", "patch reads tokens", "token reads patches"])
def test_cpu_equals_reference(kind: str, num_tokens: int, window: int, heads: tuple[int, int]) -> None:
    first, last, num_keys = intervals(kind, num_tokens, window, seed=num_tokens)
    tensors = inputs(first, num_keys, *heads, dim=6, dtype=torch.float64)
    # Scores large enough that exponentials would overflow without a running maximum.
    tensors[0] *= 30
    fast = value_and_gradients(lambda *x: interval_attention(*x, first, last), tensors)
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), tensors)
    assert_same(fast, slow, 1e-10)


@needs_library
@pytest.mark.parametrize("heads", [(2, 2, 16), (6, 2, 24), (4, 1, 5)], ids=["plain", "grouped", "one key head"])
@pytest.mark.parametrize("window", [1, 30, 1000])
@pytest.mark.parametrize("num_tokens", [*SIZES, 700])
@pytest.mark.parametrize("kind", ["tokens", "patch reads tokens", "token reads patches"])
def test_compiled_equals_reference(kind: str, num_tokens: int, window: int, heads: tuple[int, int, int]) -> None:
    """Also of the version for processors without AVX2, and in rows that are parts of a joined tensor."""
    first, last, num_keys = intervals(kind, num_tokens, window, seed=num_tokens)
    query, key, value = inputs(first, num_keys, *heads, dtype=torch.float32)
    tensors = [2 * query, *torch.cat([key, value], dim=1).split(heads[1], dim=1)]
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), [x.double() for x in tensors])
    for instructions in (contextlib.nullcontext, baseline_instructions):
        with instructions():
            assert_same(value_and_gradients(lambda *x: interval_attention(*x, first, last), tensors), slow, 2e-5)


@needs_library
def test_compiled_long_documents_equal_reference() -> None:
    """Several units of the forward pass, and of the backward pass; keys that no query sees have no gradient."""
    index = torch.arange(4500)
    first = torch.where(index < 2400, 0, 2500)
    last = torch.where(index < 2400, index, torch.clamp(index, min=2500, max=4400))
    tensors = inputs(first, 4600, 2, 1, 8, torch.float32)
    fast = value_and_gradients(lambda *x: interval_attention(*x, first, last), tensors)
    with torch.no_grad():
        assert not fast[2][2400:2500].any()
        assert not fast[3][4401:].any()
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), tensors)
    assert_same(fast, slow, 2e-5)


@needs_library
def test_compiled_numbers_that_are_not_finite_stay_so() -> None:
    first, last, num_keys = intervals("tokens", 40, 1000)
    query, key, value = inputs(first, num_keys, 2, 2, 8, torch.float32)
    query[7, 0, 0] = float("nan")
    key[20, 1, 3] = float("inf")
    out = interval_attention(query, key, value, first, last)
    wanted = interval_attention_reference(query, key, value, first, last)
    assert torch.equal(out.isfinite(), wanted.isfinite())


@needs_library
@pytest.mark.parametrize("wrong", [[0, 2, 1], [0, 1, 9], [0, -1, 2]])
def test_compiled_refuses_intervals_outside_the_keys(wrong: list[int]) -> None:
    last = torch.tensor(wrong)
    with pytest.raises(ValueError, match="never decrease"):
        interval_attention(torch.ones(3, 1, 4), torch.ones(5, 1, 4), torch.ones(5, 1, 4), last.clamp(max=0), last)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kind", "num_tokens", "window"),
    [
        ("tokens", 1, 5),
        ("tokens", 63, 9),
        ("tokens", 65, 1000),
        ("patch reads tokens", 70, 1),
        ("patch reads tokens", 50, 3),
        ("token reads patches", 65, 4),
    ],
)
def test_triton_equals_reference(kind: str, num_tokens: int, window: int, groups: int) -> None:
    """On a GPU where there is one, else interpreted: that shows the arithmetic, not the compiled code."""
    pytest.importorskip("triton", reason="Triton is not installed")
    first, last, num_keys = intervals(kind, num_tokens, window, seed=num_tokens)
    tensors = inputs(first, num_keys, 2, groups, dim=12, dtype=torch.float32)
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), tensors)
    device = "cuda" if HAS_GPU else "cpu"
    with forced_path("triton"):
        fast = value_and_gradients(
            lambda *x: interval_attention(*x, first.to(device), last.to(device)), [x.to(device) for x in tensors]
        )
    assert_same(fast, slow, 1e-5)


@pytest.mark.parametrize(
    ("dim", "dtype", "tolerance"),
    [
        (64, torch.float32, 1e-5),
        (128, torch.float32, 1e-5),
        (64, torch.float16, 5e-3),
    ],
)
def test_triton_at_other_widths_and_types(dim: int, dtype: torch.dtype, tolerance: float) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    first, last, num_keys = intervals("tokens", 20, 7)
    tensors = [x.to(dtype) for x in inputs(first, num_keys, 2, 1, dim, torch.float32)]
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), [x.double() for x in tensors])
    device = "cuda" if HAS_GPU else "cpu"
    with forced_path("triton"):
        fast = value_and_gradients(
            lambda *x: interval_attention(*x, first.to(device), last.to(device)), [x.to(device) for x in tensors]
        )
    assert all(x.dtype == dtype for x in fast)
    assert_same(fast, slow, tolerance)


def test_triton_writes_every_output() -> None:
    """Fresh memory is filled with NaN, so that an element that no program writes shows."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from lst.kernels.attention import gpu

    device = "cuda" if HAS_GPU else "cpu"
    first, last, num_keys = (x.to(device) if isinstance(x, torch.Tensor) else x for x in intervals("tokens", 37, 5))
    query, key, value = (x.to(device) for x in inputs(first, num_keys, 2, 1, 10, torch.float32))
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        out, lse = gpu.forward(query, key, value, first, last)
        grads = gpu.backward(torch.ones_like(out), query, key, value, out, lse, first, last)
    finally:
        torch.use_deterministic_algorithms(False)
    for tensor in (out, lse, *grads):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_wide_sums(dtype: torch.dtype) -> None:
    first, last, num_keys = intervals("tokens", 200, 1000)
    tensors = [x.to(dtype) for x in inputs(first, num_keys, 2, 2, 8, torch.float32)]
    fast = value_and_gradients(lambda *x: interval_attention(*x, first, last), tensors)
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last), [x.double() for x in tensors])
    assert all(x.dtype == dtype for x in fast)
    assert_same(fast, slow, 2e-2)


@pytest.mark.parametrize("kind", ["tokens", "patch reads tokens", "token reads patches"])
@pytest.mark.parametrize("num_tokens", SIZES)
def test_blocks_cover_every_query_and_all_its_keys(kind: str, num_tokens: int) -> None:
    first, last, _ = (np.asarray(x) for x in intervals(kind, num_tokens, 9))
    blocks = plan_blocks(first, last, 512.0)
    assert blocks[0, 0] == 0
    assert blocks[-1, 1] == len(first)
    assert (blocks[1:, 0] == blocks[:-1, 1]).all()
    for start, end, first_key, end_key in blocks:
        assert (first[start:end] >= first_key).all()
        assert (last[start:end] < end_key).all()


def test_work_grows_with_the_window_not_with_the_batch() -> None:
    """Pairs computed for a query, over a long document: within twice the window plus a block."""
    index = np.arange(100_000)
    blocks = plan_blocks(np.maximum(index - 511, 0), index, 4 * 256)
    pairs = ((blocks[:, 1] - blocks[:, 0]) * (blocks[:, 3] - blocks[:, 2])).sum()
    assert pairs < 100_000 * (512 + 256)


def test_gradients_repeat_bit_for_bit() -> None:
    first, last, num_keys = intervals("tokens", 3000, 512)
    tensors = inputs(first, num_keys, 4, 2, 16, torch.float32)
    once, again = (value_and_gradients(lambda *x: interval_attention(*x, first, last), tensors) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_compiles_as_one_graph() -> None:
    first, last, num_keys = intervals("tokens", 65, 9)
    tensors = inputs(first, num_keys, 4, 2, 8, torch.float32)
    compiled = torch.compile(lambda *x: interval_attention(*x, first, last) * 2, fullgraph=True, backend="aot_eager")
    fast = value_and_gradients(compiled, tensors)
    slow = value_and_gradients(lambda *x: interval_attention_reference(*x, first, last) * 2, tensors)
    assert_same(fast, slow, 1e-5)


def test_registration_is_sound() -> None:
    """PyTorch's own checks of the operator: fake shapes, autograd, tracing."""
    first, last, num_keys = intervals("tokens", 20, 5)
    tensors = [x.requires_grad_() for x in inputs(first, num_keys, 4, 2, 8, torch.float64)]
    torch.library.opcheck(torch.ops.lst.interval_attention, (*tensors, first, last))


def test_the_path_is_chosen_by_device_and_can_be_forced() -> None:
    assert attention_path(torch.device("cpu")) == "cpu"
    with forced_path("reference"):
        assert attention_path(torch.device("cpu")) == "reference"
    with pytest.raises(ValueError, match="cpu, triton, reference"), forced_path("fast"):
        pass
    with pytest.warns(UserWarning, match="dense reference"):
        assert attention_path(torch.device("xpu")) == "reference"


def test_shapes_that_do_not_fit_are_named() -> None:
    first = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"H a multiple of G"):
        interval_attention(torch.ones(3, 3, 4), torch.ones(5, 2, 4), torch.ones(5, 2, 4), first, first)


def test_the_reference_mask() -> None:
    mask = interval_mask(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), 4)
    assert mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]]
