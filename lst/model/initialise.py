"""Initial weights and the matching learning rates.

``depth_scaled``: normal weights with one standard deviation. Output matrices of residual branches are divided by √(2 ·
layers), as in GPT-2. ``mup``: in addition, standard deviations and Adam's learning rates fall with the width, as in the
maximal update parametrisation (Yang et al. 2022, table 8). Learning rates found at a small width then suit a large one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from lst.model.config import ModelConfig


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Draws all weights of a model; those on the meta device stay empty."""
    parameters = dict(model.named_parameters())
    if any(parameter.is_meta for parameter in parameters.values()):
        return
    for name, whole in initial_weights(model, config, seed):
        parameters[name].copy_(whole)


@torch.no_grad()
def initial_weights(model: nn.Module, config: ModelConfig, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Initial weights by name, one parameter after the other.

    A module that has a method ``draw_parameters(generator)`` sets its parameters itself, but not those of its
    submodules. Of the others, matrices are drawn; norms begin at one, biases and thresholds at zero. On the meta device
    the model keeps nothing, so that no more than one parameter is in memory.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: set[str] = set()
    for prefix, module in model.named_modules():
        if callable(draw := getattr(module, "draw_parameters", None)):
            is_meta = any(parameter.is_meta for parameter in module.parameters(recurse=False))
            if is_meta:
                module.to_empty(device="cpu", recurse=False)
            draw(generator)
            for name, parameter in module.named_parameters(prefix, recurse=False):
                drawn.add(name)
                yield name, parameter.detach()
            if is_meta:
                module.to("meta")
    for name, parameter in model.named_parameters():
        if name in drawn:
            continue
        whole = torch.empty_like(parameter, device="cpu" if parameter.is_meta else None, requires_grad=False)
        if whole.ndim >= 2:
            nn.init.normal_(whole, std=initial_std(name, whole.shape[1], config), generator=generator)
        else:
            whole.fill_(1.0 if name.endswith("weight") else 0.0)
        yield name, whole


def initial_std(name: str, fan_in: int, config: ModelConfig) -> float:
    """Standard deviation of the initial weights of a matrix.

    Args:
        name: of the parameter in the model.
        fan_in: number of its inputs.
        config: the shape of the model.
    """
    if name.startswith("encoder.to_"):
        # The only path into the backbone: the scale of the inputs is kept.
        return float(fan_in**-0.5)
    writers = {"encoder": config.encoder_layers, "backbone": config.global_layers, "decoder": config.decoder_layers}
    std = config.init_std
    if name.endswith("output.weight"):
        std /= math.sqrt(2 * max(writers[name.split(".")[0]], 1))
    if config.init == "mup" and not is_embedding(name):
        narrower = config.mup_base_dim / fan_in
        std *= narrower if name.startswith("head") else math.sqrt(narrower)
    return std


def learning_rate_scale(name: str, parameter: torch.Tensor, config: ModelConfig) -> float:
    """Factor of a parameter's learning rate: ``local_rate`` in patch encoder and decoder, otherwise 1.

    Under ``mup``, that of a matrix is multiplied by base width / fan-in.
    """
    scale = config.local_rate if name.startswith(("encoder.", "decoder.")) else 1.0
    if config.init != "mup" or parameter.ndim < 2 or is_embedding(name) or is_state_space(name):
        return scale
    return scale * config.mup_base_dim / parameter.shape[1]


def is_state_space(name: str) -> bool:
    """Whether a parameter, by its name, belongs to a state space model: none of these is a matrix that mup scales."""
    return ".ssm." in name or ".shift." in name


def is_embedding(name: str) -> bool:
    """Whether a parameter, by its name, is an embedding of tokens or of learned positions."""
    return name in ("embedding.weight", "backbone.positions.weight")
