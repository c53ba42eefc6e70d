"""Options of the loss. Imports no torch, so that mistakes are answered at once."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class LossConfig(Options, prefix="loss."):
    """Weights of the loss."""

    text_weight: float = option(1.0, "weight of the loss of text and special tokens", low=0)
    speech_weight: float = option(1.0, "weight of the loss of speech units", low=0)
    z_weight: float = option(0.0, "weight of the squared logarithm of the softmax's denominator (z-loss)", low=0)
    boundary_weight: float = option(
        1.0,
        "weight of the loss of the head that says where aligned patches end",
        above=0,
        needs="model.boundary_head=true",
        is_later=True,
    )
    boundary_gradient: bool = option(
        False,
        "the boundary head's gradient reaches the patch encoder; false: the language model learns as without the head",
        needs="model.boundary_head=true",
        is_later=True,
    )

    def rules(self) -> list[str]:
        """Text or speech has a weight."""
        if max(self.text_weight, self.speech_weight) > 0:
            return []
        return [f"loss.text_weight={self.text_weight}, speech_weight={self.speech_weight}: one of them must be above 0"]
