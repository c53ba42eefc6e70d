"""Says after which units a patch ends, from the units so far alone.

Aligned patches end where words end, and only an aligner that has heard what follows knows where that is. The head
learns it from the patch encoder's states of the tokens: these depend neither on later tokens nor on any patch. So the
cuts of a document can be decoded from its beginning, and equal those of any longer document.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lst.model.batch import SPEECH, PackedBatch
from lst.model.pointwise import Linear, RMSNorm


class BoundaryHead(nn.Module):
    """Logit of "the patch ends with this unit": a layer of hidden units over the encoder's state of the unit.

    Args:
        dim: width of the states.

    Attributes:
        threshold: [1]; a patch ends where the logit is above. It is learnt too, so that as many patches end as in the
            training: an end is less likely than none nearly everywhere, and a threshold of one half would miss most.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim)
        self.hidden = Linear(dim, dim, bias=True)
        self.logit = Linear(dim, 1, bias=True)
        self.threshold = nn.Parameter(torch.zeros(1))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[..., D] → [...]."""
        return self.logit(functional.silu(self.hidden(self.norm(states))))[..., 0]

    def loss(self, states_ND: torch.Tensor, batch: PackedBatch, num_units: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of ``boundary_nats`` over all units; the gradient of the threshold is the difference of the rates.

        ``num_units`` [] are those of the whole, where the batch is a part of a larger one.
        """
        logits_N, is_unit_N = self(states_ND), batch.modalities == SPEECH
        num_units = (is_unit_N.sum() if num_units is None else num_units).clamp(min=1)
        missing = ((_ends(batch).float() - (logits_N > self.threshold).float()) * is_unit_N).sum() / num_units
        # Zero, but for its gradient.
        towards_rate = (self.threshold - self.threshold.detach()).sum() * missing
        return boundary_nats(logits_N, batch).sum() / num_units + towards_rate

    @staticmethod
    def flops_a_token(dim: int) -> float:
        """Operations of one token."""
        return 2.0 * dim * (dim + 1)


def boundary_nats(logits_N: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """−ln p of the decision after each unit: the patches of the batch end there, or not. Zero for text; [N].

    Args:
        logits_N: of the head.
        batch: its patches are those to predict.
    """
    wide = torch.float64 if logits_N.dtype == torch.float64 else torch.float32
    nats_N = functional.binary_cross_entropy_with_logits(logits_N.to(wide), _ends(batch).to(wide), reduction="none")
    return torch.where(batch.modalities == SPEECH, nats_N, 0.0)


def _ends(batch: PackedBatch) -> torch.Tensor:
    """Whether a patch ends with each token, bool [N]."""
    return torch.cat([batch.patch_ids[1:] != batch.patch_ids[:-1], batch.patch_ids.new_ones(1, dtype=torch.bool)])
