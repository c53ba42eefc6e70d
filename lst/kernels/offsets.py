"""Offsets of documents that are joined without padding, as the operators over whole documents take them."""

from __future__ import annotations

import itertools

import torch


def check_starts(starts: torch.Tensor, num_tokens: int, name: str) -> bool:
    """Raises ValueError unless these are offsets of documents; whether their values could be read without waiting."""
    if starts.dtype != torch.int64 or starts.ndim != 1 or starts.shape[0] < 2 or starts.shape[0] > num_tokens + 1:
        raise ValueError(
            f"{name}: starts is {starts.dtype} {tuple(starts.shape)}, needed are int64 [S + 1] offsets of "
            f"1 to {num_tokens} documents"
        )
    is_readable = starts.device.type == "cpu" and not torch.compiler.is_compiling()
    if is_readable:
        offsets = starts.tolist()
        if offsets[0] != 0 or offsets[-1] != num_tokens or any(a >= b for a, b in itertools.pairwise(offsets)):
            raise ValueError(
                f"{name}: starts runs from {offsets[0]} to {offsets[-1]}, needed are strictly increasing offsets "
                f"from 0 to {num_tokens}"
            )
    return is_readable
