"""Checks of arguments that the operators share. Each error says what was given and what is needed."""

from __future__ import annotations

import itertools

import torch


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of sums: float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_tensor(
    operator: str,
    name: str,
    tensor: torch.Tensor | None,
    shape: tuple[int | str, ...],
    kind: str = "real",
    least: int = 0,
) -> None:
    """Raises ``ValueError`` unless a tensor has a shape and a kind of type. None passes.

    >>> check_tensor("fir", "taps", torch.ones(3, 2), (4, "K"), least=1)
    Traceback (most recent call last):
    ValueError: fir: taps is torch.float32 (3, 2), needed is a real [4, K] with K of 1 or more

    Args:
        operator: for the error.
        name: of the argument, for the error.
        tensor: the argument.
        shape: sizes; a letter stands for any size from ``least`` on.
        kind: ``real``, ``complex`` or ``int64``.
        least: lower bound of the sizes that are letters.
    """
    if tensor is None:
        return
    letters = [size for size in shape if isinstance(size, str)]
    fits = tensor.ndim == len(shape) and all(
        size >= least if wanted in letters else size == wanted for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    kinds = {"real": tensor.is_floating_point(), "complex": tensor.is_complex(), "int64": tensor.dtype == torch.int64}
    if not fits or not kinds[kind]:
        bound = f" with {', '.join(letters)} of {least} or more" if letters and least else ""
        raise ValueError(
            f"{operator}: {name} is {tensor.dtype} {tuple(tensor.shape)}, needed is {'an' if kind == 'int64' else 'a'} "
            f"{kind} [{', '.join(map(str, shape))}]{bound}"
        )


def check_devices(operator: str, device: torch.device, **tensors: torch.Tensor | None) -> None:
    """Raises ``ValueError`` that names every tensor on another device than the inputs.

    A kernel would read an address of the wrong memory.
    """
    elsewhere = {key: x.device for key, x in tensors.items() if x is not None and x.device != device}
    if elsewhere:
        found = ", ".join(f"{key} on {where}" for key, where in elsewhere.items())
        raise ValueError(f"{operator}: inputs are on {device}, {found}: move them to one device")


def check_starts(operator: str, starts: torch.Tensor, num_tokens: int) -> None:
    """Raises ``ValueError`` unless these are offsets of documents.

    Values are checked on the CPU only: elsewhere the host would wait for the device.

    Args:
        operator: for the error.
        starts: int64 [S + 1], strictly increasing from 0 to ``num_tokens``.
        num_tokens: N, tokens of all documents.
    """
    if starts.dtype != torch.int64 or starts.ndim != 1 or starts.shape[0] < 2 or starts.shape[0] > num_tokens + 1:
        raise ValueError(
            f"{operator}: starts is {starts.dtype} {tuple(starts.shape)}, needed are int64 [S + 1] offsets of "
            f"1 to {num_tokens} documents"
        )
    if not _can_be_read(starts):
        return
    offsets = starts.tolist()
    if offsets[0] != 0 or offsets[-1] != num_tokens or any(a >= b for a, b in itertools.pairwise(offsets)):
        raise ValueError(
            f"{operator}: starts runs from {offsets[0]} to {offsets[-1]}, needed are strictly increasing offsets "
            f"from 0 to {num_tokens}"
        )


def check_state_lengths(operator: str, state_lengths: torch.Tensor | None, starts: torch.Tensor) -> None:
    """Raises ``ValueError`` unless state lengths, int64 [S], are from 0 to the documents' lengths. None passes."""
    check_tensor(operator, "state_lengths", state_lengths, (starts.shape[0] - 1,), "int64")
    if state_lengths is None or not _can_be_read(starts):
        return
    for document, (given, most) in enumerate(zip(state_lengths.tolist(), starts.diff().tolist(), strict=True)):
        if not 0 <= given <= most:
            raise ValueError(
                f"{operator}: state_lengths[{document}] is {given}, but document {document} has {most} tokens"
            )


def check_modes(
    operator: str, decay_HZ: torch.Tensor, readout_HZ: torch.Tensor, skip_H: torch.Tensor | None, like: torch.Tensor
) -> None:
    """Raises ``ValueError`` unless the parameters of a diagonal SSM fit the shape and device of ``like`` [N, C]."""
    num_channels = like.shape[1]
    fits = decay_HZ.ndim == 2 and decay_HZ.shape == readout_HZ.shape and decay_HZ.numel() > 0
    if not fits or num_channels < len(decay_HZ) or num_channels % len(decay_HZ):
        raise ValueError(
            f"{operator}: decay {tuple(decay_HZ.shape)}, readout {tuple(readout_HZ.shape)}, {num_channels} channels: "
            "needed are twice [H, Z] with H a divisor of the channels"
        )
    if not (decay_HZ.is_complex() and readout_HZ.is_complex()):
        raise ValueError(f"{operator}: decay {decay_HZ.dtype}, readout {readout_HZ.dtype}: both must be complex")
    check_tensor(operator, "skip", skip_H, (len(decay_HZ),))
    check_devices(operator, like.device, decay=decay_HZ, readout=readout_HZ, skip=skip_H)


def _can_be_read(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
