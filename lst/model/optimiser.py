"""Which parameters an optimiser treats alike: their learning rate and their weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lst.model.initialise import is_embedding, is_state_space, learning_rate_scale
from lst.model.lst import LatentSpeechTextModel

# What an SSM's step, decay, frequency and input weights learn at most with: a larger rate makes them unstable.
DYNAMICS_RATE = 1e-3
DYNAMICS = ("log_dt", "log_decay", "frequency", "B")


def parameter_groups(model: LatentSpeechTextModel, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW: ``params``, ``lr`` and ``weight_decay``.

    Matrices decay; embeddings, norms and biases do not. The dynamics of state spaces (dt, A, B) do not decay either,
    and their rate is capped at ``DYNAMICS_RATE`` (Gu et al. 2022); C and D are ordinary parameters.

    Args:
        model: whose named parameters are sorted; under ``init=mup`` rates depend on its width.
        learning_rate: the peak rate; a schedule multiplies every group's ``lr`` by one share.
        weight_decay: of matrices.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_dynamics = is_state_space(name) and name.rpartition(".")[2] in DYNAMICS
        decays = parameter.ndim >= 2 and not is_dynamics and not is_embedding(name)
        scale = learning_rate_scale(name, parameter, model.config)
        rate = min(learning_rate, DYNAMICS_RATE) if is_dynamics else learning_rate * scale
        # Decay is multiplied by the rate: divided by its scale, it stays the same at every width.
        groups.setdefault((weight_decay / scale if decays else 0.0, rate), []).append(parameter)
    return [{"params": group, "weight_decay": decay, "lr": rate} for (decay, rate), group in groups.items()]


def build_adamw(
    model: LatentSpeechTextModel,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """AdamW over ``parameter_groups``; ``fused`` as in torch."""
    groups = parameter_groups(model, learning_rate, weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)
