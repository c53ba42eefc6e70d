"""Loads and calls the compiled library, through a C interface that does not depend on the build of PyTorch."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lst.kernels.native.sources import source_hash
from lst.kernels.paths import constant_result

LIBRARY_FILE, SOURCES = "liblst_kernels.so", Path(__file__).parent / "src"
# If this environment variable is 1, the library is not used, as on a machine without a compiler.
DISABLE_VARIABLE = "LST_DISABLE_NATIVE"
_POINTERS = (
    "query",
    "key",
    "value",
    "taps",
    "skip",
    "decay",
    "readout",
    "initial_state",
    "history",
    "state_chunks",
    "out",
    "block_states",
    "kept_states",
    "grad_out",
    "grad_kept_states",
    "grad_query",
    "grad_key",
    "grad_value",
    "grad_decay",
    "grad_readout",
    "grad_skip",
    "grad_taps",
    "grad_initial_state",
    "grad_history",
)


class Problem(ctypes.Structure):
    """Sizes and pointers of a call: the same fields as ``Problem`` of ``src/problem.h``."""

    _fields_ = (
        ("num_tokens", ctypes.c_int64),
        ("num_channels", ctypes.c_int64),
        ("num_heads", ctypes.c_int64),
        ("num_modes", ctypes.c_int64),
        ("num_taps", ctypes.c_int64),
        ("gated", ctypes.c_bool),
        ("query_stride", ctypes.c_int64),
        ("key_stride", ctypes.c_int64),
        ("value_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


class Attention(ctypes.Structure):
    """An interval attention: the same fields as ``Attention`` of ``src/attention.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_queries", "num_keys", "num_heads", "num_groups", "head_dim")),
        *((name, ctypes.c_int64) for name in ("query_stride", "key_stride", "value_stride")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "first", "last", "out", "log_sums")),
        *((name, ctypes.c_void_p) for name in ("grad_out", "grad_query", "grad_key", "grad_value")),
    )


class Step(ctypes.Structure):
    """A token's way through a layer: the same fields as ``Step`` of ``src/step.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_rows", "width", "num_heads", "num_groups", "head_dim")),
        *((name, ctypes.c_int64) for name in ("hidden_width", "capacity", "stores")),
        *((name, ctypes.c_float) for name in ("eps", "scale", "residual")),
        *((name, ctypes.c_void_p) for name in ("x", "norm", "projection", "projection_bias", "query_norm", "key_norm")),
        *((name, ctypes.c_void_p) for name in ("cos", "sin", "output", "output_bias", "ffn_norm", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("sequence", "first", "last", "key", "value")),
    )


# Error codes of the library's functions.
_MEMORY, _STARTS, _STATE_CHUNKS, _SIZES = 1, 2, 3, 4
_AGAIN = "install the package again (in a source tree: pip install --no-deps -e .)"


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library, or None where it cannot be used; one warning says why."""
    if os.environ.get(DISABLE_VARIABLE) == "1":
        return None
    path = Path(__file__).parent / LIBRARY_FILE
    why = f"{path.name} was not built (no C++ compiler when the package was installed): install g++ or clang++, then "
    if path.exists():
        try:
            library = _open(path)
        except (OSError, AttributeError) as error:
            why = f"{path} cannot be loaded ({error}): "
        else:
            if _is_ours(library):
                return library
            why = f"{path} was built from other sources: "
    warnings.warn(
        f"attention and state-space models run as blocked matrix products, slower on the CPU. {why}{_AGAIN}",
        stacklevel=2,
    )
    return None


def _is_ours(library: ctypes.CDLL) -> bool:
    """Whether the library was built from the sources beside it, if they are installed, and has the same structures."""
    sizes = library.lst_problem_bytes(), library.lst_attention_bytes(), library.lst_step_bytes()
    if sizes != (ctypes.sizeof(Problem), ctypes.sizeof(Attention), ctypes.sizeof(Step)):
        return False
    return not SOURCES.is_dir() or library.lst_source_hash() == source_hash(SOURCES).encode()


def _open(path: Path) -> ctypes.CDLL:
    """Opens the library so that it uses PyTorch's copy of OpenMP.

    The library is built without a copy of its own. Two copies would each start a pool of threads on the same cores.
    """
    if sys.platform == "linux":
        bundled = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
        for name in (*map(str, bundled), "libgomp.so.1"):
            try:
                ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            break
    library = ctypes.CDLL(str(path))
    for size in (library.lst_problem_bytes, library.lst_attention_bytes, library.lst_step_bytes, library.lst_chunk):
        size.restype = ctypes.c_int64
    library.lst_source_hash.restype = ctypes.c_char_p
    return library


@constant_result
def is_available() -> bool:
    """Whether the compiled library can be used."""
    return load_library() is not None


def _loaded() -> ctypes.CDLL:
    library = load_library()
    assert library is not None
    return library


@constant_result
def chunk_length() -> int:
    """Inputs of a chunk. The library can return states between chunks only."""
    return int(_loaded().lst_chunk())


def plan_sizes(problem: Problem, starts: torch.Tensor) -> tuple[int, int]:
    """Number of blocks (their first states are saved) and of spans of documents (parameter gradients are summed)."""
    blocks, spans = ctypes.c_int64(), ctypes.c_int64()
    offsets = ctypes.c_void_p(starts.data_ptr()), ctypes.c_int64(len(starts) - 1)
    status = _loaded().lst_plan_sizes(ctypes.byref(problem), *offsets, ctypes.byref(blocks), ctypes.byref(spans))
    _raise_for(status, problem, starts)
    return blocks.value, spans.value


def run(problem: Problem, starts: torch.Tensor, backward: bool, baseline: bool = False) -> None:
    """Runs a call whose pointers are set; ``baseline`` takes the version for processors without AVX2."""
    offsets = ctypes.c_void_p(starts.data_ptr()), ctypes.c_int64(len(starts) - 1)
    settings = int(backward), torch.get_num_threads(), int(baseline)
    _raise_for(_loaded().lst_run(ctypes.byref(problem), *offsets, *settings), problem, starts)


def attend(attention: Attention, backward: bool, baseline: bool = False) -> None:
    """Runs an attention whose pointers are set, or its backward pass; ``baseline`` as in ``run``."""
    status = _loaded().lst_attend(ctypes.byref(attention), int(backward), torch.get_num_threads(), int(baseline))
    if status == _MEMORY:
        raise MemoryError("the attention kernel ran out of memory")
    if status:
        raise ValueError(
            f"interval_attention: needed are {attention.num_queries} first and last keys that never decrease, with 0 ≤ "
            f"first ≤ last < {attention.num_keys}"
        )


def step_pointers(steps: Sequence[Step]) -> ctypes.Array[Any]:
    """What ``run_steps`` takes; the steps must live as long."""
    return (ctypes.POINTER(Step) * len(steps))(*map(ctypes.pointer, steps))


def run_steps(pointers: ctypes.Array[Any], baseline: bool = False) -> None:
    """Runs layers whose sizes and pointers are set, one after the other; ``baseline`` as in ``run``."""
    if _loaded().lst_steps(pointers, ctypes.c_int64(len(pointers)), torch.get_num_threads(), int(baseline)):
        raise MemoryError("the compiled layers ran out of memory")


def head(x_RW: torch.Tensor, norm_W: torch.Tensor, eps: float, weight_VW: torch.Tensor, out_RV: torch.Tensor) -> None:
    """Writes RMSNorm and product with a matrix of a few rows, all float32 and contiguous on the CPU."""
    (rows, width), outputs = x_RW.shape, len(weight_VW)
    sizes = ctypes.c_int64(rows), ctypes.c_int64(width), ctypes.c_int64(outputs), ctypes.c_float(eps)
    arrays = (ctypes.c_void_p(x.data_ptr()) for x in (norm_W, weight_VW, x_RW, out_RV))
    if _loaded().lst_head(*sizes, *arrays, torch.get_num_threads()):
        raise MemoryError("the compiled head ran out of memory")


def _raise_for(status: int, problem: Problem, starts: torch.Tensor) -> None:
    """Raises the error of an error code."""
    if status == _MEMORY:
        raise MemoryError("the state-space kernel ran out of memory")
    if status == _STARTS:
        raise ValueError(
            f"state-space kernel: starts are {starts.tolist()[:8]}…, needed are strictly increasing offsets from 0 to "
            f"{problem.num_tokens}"
        )
    if status == _SIZES:
        raise ValueError(
            f"state-space kernel: {problem.num_channels} channels, {problem.num_heads} heads, {problem.num_modes} "
            f"modes, {problem.num_taps} taps: needed are one or more of each, and heads that divide the channels"
        )
    if status == _STATE_CHUNKS:
        raise ValueError("state-space kernel: a state is asked for outside its document: see state_lengths")
