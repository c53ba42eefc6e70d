"""Finds, loads and calls the compiled library: a C interface through ctypes, with no tie to PyTorch's own build."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import warnings
from pathlib import Path

import torch

from lst.kernels.native.sources import source_hash

LIBRARY_FILE, SOURCES = "liblst_kernels.so", Path(__file__).parent / "src"
# Set to 1, the library is passed over, as where there was no compiler.
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
    """``Problem`` of ``src/problem.h``, field by field."""

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


# What the library's functions answer, but for success.
_MEMORY, _STARTS, _STATE_CHUNKS, _SIZES = 1, 2, 3, 4
_AGAIN = "install the package again (in a source tree: pip install --no-deps -e .)"


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """The compiled library, or None (with one warning that says why) where it cannot be used."""
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
        f"state-space models run as blocked matrix products, several times slower on the CPU. {why}{_AGAIN}",
        stacklevel=2,
    )
    return None


def _is_ours(library: ctypes.CDLL) -> bool:
    """Whether the library was built from the sources beside it (where they are installed), and shares its structure."""
    if library.lst_problem_bytes() != ctypes.sizeof(Problem):
        return False
    return not SOURCES.is_dir() or library.lst_source_hash() == source_hash(SOURCES).encode()


def _open(path: Path) -> ctypes.CDLL:
    """Its OpenMP functions are left open when it is built, so that it shares the threads of PyTorch's own copy: two
    copies would each keep a pool, which fight over the cores."""
    if sys.platform == "linux":
        bundled = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
        for name in (*map(str, bundled), "libgomp.so.1"):
            try:
                ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            break
    library = ctypes.CDLL(str(path))
    library.lst_problem_bytes.restype = library.lst_chunk.restype = ctypes.c_int64
    library.lst_instruction_set.restype = library.lst_source_hash.restype = ctypes.c_char_p
    return library


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether the compiled library can be used."""
    return load_library() is not None


@torch.compiler.assume_constant_result
def chunk_length() -> int:
    """Inputs of a chunk; a state can be kept between two chunks."""
    library = load_library()
    assert library is not None
    return int(library.lst_chunk())


def plan_sizes(problem: Problem, starts: torch.Tensor) -> tuple[int, int]:
    """Blocks (states are saved before each) and spans of documents (gradients of parameters are summed over them)."""
    library = load_library()
    assert library is not None
    blocks, spans = ctypes.c_int64(), ctypes.c_int64()
    status = library.lst_plan_sizes(
        ctypes.byref(problem),
        ctypes.c_void_p(starts.data_ptr()),
        ctypes.c_int64(len(starts) - 1),
        ctypes.byref(blocks),
        ctypes.byref(spans),
    )
    _raise_for(status, problem, starts)
    return blocks.value, spans.value


def run(problem: Problem, starts: torch.Tensor, backward: bool, baseline: bool = False) -> None:
    """Runs a problem whose arrays are all in place; ``baseline`` takes the version for processors without AVX2."""
    library = load_library()
    assert library is not None
    status = library.lst_run(
        ctypes.byref(problem),
        ctypes.c_void_p(starts.data_ptr()),
        ctypes.c_int64(len(starts) - 1),
        int(backward),
        torch.get_num_threads(),
        int(baseline),
    )
    _raise_for(status, problem, starts)


def instruction_set() -> str:
    """``avx2``, or ``baseline`` on other processors."""
    library = load_library()
    assert library is not None
    return str(library.lst_instruction_set().decode())


def _raise_for(status: int, problem: Problem, starts: torch.Tensor) -> None:
    """Raises what a status of the library's stands for."""
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
            f"modes, {problem.num_taps} taps: needed is at least one of each, and heads that divide the channels"
        )
    if status == _STATE_CHUNKS:
        raise ValueError("state-space kernel: a state is asked for outside its document: see state_lengths")
