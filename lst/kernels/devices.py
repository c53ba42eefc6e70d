"""One check that all operators share: their arguments lie together."""

from __future__ import annotations

import torch


def check_devices(name: str, device: torch.device, **tensors: torch.Tensor | None) -> None:
    """Raises ValueError that names every tensor which does not lie on ``device``, where the inputs do; a kernel would
    read its address on the wrong side."""
    elsewhere = {key: x.device for key, x in tensors.items() if x is not None and x.device != device}
    if elsewhere:
        raise ValueError(
            f"{name}: inputs are on {device}, {', '.join(f'{key} on {where}' for key, where in elsewhere.items())}: "
            "move them to one device"
        )
