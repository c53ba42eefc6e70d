"""Learning rate and weight decay of each parameter: the groups of the optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lst.model.initialise import is_embedding, is_state_space, learning_rate_scale
from lst.model.lst import LatentSpeechTextModel

# Upper bound of the learning rate of an SSM's step, decay, frequency and input weights: more makes them unstable.
DYNAMICS_RATE = 1e-3
DYNAMICS = ("log_dt", "log_decay", "frequency", "B")


def parameter_groups(model: LatentSpeechTextModel, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW: ``params``, ``lr`` and ``weight_decay``.

    Matrices have weight decay; embeddings, norms and biases do not. The dynamics of state space models (dt, A, B) have
    none either, and their rate is capped at ``DYNAMICS_RATE`` (Gu et al. 2022). C and D are ordinary parameters.

    Args:
        model: its parameters are grouped; under ``init=mup`` rates depend on its width.
        learning_rate: the peak rate. A schedule multiplies the ``lr`` of every group by one factor.
        weight_decay: of matrices.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_dynamics = is_state_space(name) and name.rpartition(".")[2] in DYNAMICS
        decays = parameter.ndim >= 2 and not is_dynamics and not is_embedding(name)
        scale = learning_rate_scale(name, parameter, model.config)
        rate = min(learning_rate, DYNAMICS_RATE) if is_dynamics else learning_rate * scale
        # AdamW multiplies decay by the rate. Divided by the scale, decay is the same at every width.
        groups.setdefault((weight_decay / scale if decays else 0.0, rate), []).append(parameter)
    return [{"params": group, "weight_decay": decay, "lr": rate} for (decay, rate), group in groups.items()]


def build_adamw(
    model: LatentSpeechTextModel,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Builds AdamW over ``parameter_groups``; ``fused`` as in torch."""
    groups = parameter_groups(model, learning_rate, weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)


def regrouped_state(
    saved: dict[str, Any], model: LatentSpeechTextModel, before: tuple[float, float], now: tuple[float, float]
) -> dict[str, Any]:
    """The state of an AdamW for the groups of another: where rates coincide, ``parameter_groups`` has fewer of them.

    Args:
        saved: from ``state_dict``. Rates and decays of the groups are not brought up to date.
        model: that both belong to.
        before: peak learning rate and weight decay that the state was saved with.
        now: those of the optimiser that will load it.
    """
    old = [parameter for group in parameter_groups(model, *before) for parameter in group["params"]]
    old_indices = {id(parameter): index for index, parameter in enumerate(old)}
    groups = [group["params"] for group in parameter_groups(model, *now)]
    order = [old_indices[id(parameter)] for group in groups for parameter in group]
    starts = [sum(map(len, groups[:number])) for number in range(len(groups))]
    return {
        "state": {new: saved["state"][old] for new, old in enumerate(order) if old in saved["state"]},
        "param_groups": [
            {**saved["param_groups"][0], "params": list(range(start, start + len(group)))}
            for start, group in zip(starts, groups, strict=True)
        ],
    }
