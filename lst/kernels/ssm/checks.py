"""What the parameters of a diagonal SSM must be like, for every operator that takes them."""

from __future__ import annotations

import torch

from lst.kernels.devices import check_devices


def check_modes(
    decay_HZ: torch.Tensor, readout_HZ: torch.Tensor, skip_H: torch.Tensor | None, like: torch.Tensor, name: str
) -> None:
    """Raises ValueError unless decay, readout and skip suit the channels [N, C] of ``like``, and lie where it does."""
    num_channels = like.shape[1]
    fits = decay_HZ.ndim == 2 and decay_HZ.shape == readout_HZ.shape and decay_HZ.numel() > 0
    if not fits or num_channels < len(decay_HZ) or num_channels % len(decay_HZ):
        raise ValueError(
            f"{name}: decay {tuple(decay_HZ.shape)}, readout {tuple(readout_HZ.shape)}, {num_channels} channels: "
            "needed are twice [H, Z] with H a divisor of the channels"
        )
    if not (decay_HZ.is_complex() and readout_HZ.is_complex()):
        raise ValueError(f"{name}: decay {decay_HZ.dtype}, readout {readout_HZ.dtype}: both must be complex")
    if skip_H is not None and (skip_H.shape != decay_HZ.shape[:1] or not skip_H.is_floating_point()):
        raise ValueError(
            f"{name}: skip {skip_H.dtype} {tuple(skip_H.shape)}, needed is a real [{len(decay_HZ)}], one for a set of "
            "modes"
        )
    check_devices(name, like.device, decay=decay_HZ, readout=readout_HZ, skip=skip_H)
