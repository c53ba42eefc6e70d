"""Numbers that are not finite: found before they reach the weights, a checkpoint or a finished model."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lst.errors import UserError


class NonFiniteError(UserError):
    """A training met infinity or NaN. Neither weights nor checkpoints were changed by it.

    Args:
        message: what is not finite, and where.
        batch_index: number of the batch, from 1; None where no single batch is at fault.

    Attributes:
        batch_index: as given.
    """

    def __init__(self, message: str, batch_index: int | None = None) -> None:
        super().__init__(message)
        self.batch_index = batch_index


def non_finite_names(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors of real numbers that hold infinity or NaN."""
    return [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def check_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raises ``NonFiniteError`` if a tensor holds infinity or NaN; ``what`` names the whole for the message."""
    if names := non_finite_names(tensors):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise NonFiniteError(f"{what} was not written: {', '.join(names[:3])}{more} hold values that are not finite")
