"""Offsets of documents that are joined without padding, as the operators over whole documents take them."""

from __future__ import annotations

import itertools

import torch


def check_starts(starts: torch.Tensor, num_tokens: int, name: str) -> None:
    """Raises ValueError unless these are offsets of documents; values are read where that needs no waiting."""
    if starts.dtype != torch.int64 or starts.ndim != 1 or starts.shape[0] < 2 or starts.shape[0] > num_tokens + 1:
        raise ValueError(
            f"{name}: starts is {starts.dtype} {tuple(starts.shape)}, needed are int64 [S + 1] offsets of "
            f"1 to {num_tokens} documents"
        )
    if not _can_be_read(starts):
        return
    offsets = starts.tolist()
    if offsets[0] != 0 or offsets[-1] != num_tokens or any(a >= b for a, b in itertools.pairwise(offsets)):
        raise ValueError(
            f"{name}: starts runs from {offsets[0]} to {offsets[-1]}, needed are strictly increasing offsets "
            f"from 0 to {num_tokens}"
        )


def check_state_lengths(state_lengths: torch.Tensor | None, starts: torch.Tensor, name: str) -> None:
    """Raises ValueError unless these are None, or lie between 0 and the documents' lengths."""
    if state_lengths is None:
        return
    needed = (starts.shape[0] - 1,)
    if state_lengths.shape != needed or state_lengths.dtype != torch.int64:
        raise ValueError(
            f"{name}: state_lengths is {state_lengths.dtype} {tuple(state_lengths.shape)}, needed is int64 {needed}"
        )
    if not _can_be_read(starts):
        return
    for document, (given, most) in enumerate(zip(state_lengths.tolist(), starts.diff().tolist(), strict=True)):
        if not 0 <= given <= most:
            raise ValueError(f"{name}: state_lengths[{document}] is {given}, but document {document} has {most} tokens")


def _can_be_read(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
