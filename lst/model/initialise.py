"""Initial weights, and the learning rates that go with them.

``depth_scaled``: normal weights of one deviation; what writes into a residual stream is scaled down by the number of
writers (GPT-2). ``mup``: in addition deviations, and Adam's rates, fall with the width as maximal update
parametrisation asks (Yang et al. 2022, table 8), so that rates found at a small width suit a large one.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from lst.model.config import ModelConfig
from lst.model.state_space import DiagonalSSM, ShiftSSM


def initialise(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Draws all matrices of a model anew; norms and biases stay as they are, state spaces have a start of their own."""
    generator = torch.Generator().manual_seed(seed)
    drawn: set[nn.Parameter] = set()
    for module in model.modules():
        if isinstance(module, (DiagonalSSM, ShiftSSM)):
            drawn |= set(module.parameters())
            if module.skip.device.type != "meta":
                module.draw_parameters(generator)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and parameter not in drawn and parameter.device.type != "meta":
            nn.init.normal_(parameter, std=initial_std(name, parameter.shape[1], config), generator=generator)


def initial_std(name: str, fan_in: int, config: ModelConfig) -> float:
    """Standard deviation of a matrix's initial weights, by its name in the model."""
    if name.startswith("encoder.to_"):
        # These carry the only path into the backbone: keep the scale of what they read.
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
    """What a parameter's learning rate is multiplied by: under ``mup`` base width / fan-in of matrices, else 1."""
    if config.init != "mup" or parameter.ndim < 2 or is_embedding(name) or is_state_space(name):
        return 1.0
    return config.mup_base_dim / parameter.shape[1]


def is_state_space(name: str) -> bool:
    """Whether a parameter is one of an SSM's own, by its name: none of them is a matrix that the width scales."""
    return ".ssm." in name or ".shift." in name


def is_embedding(name: str) -> bool:
    """Whether a parameter is a table that is looked up, by its name: of tokens, or of learned positions."""
    return name in ("embedding.weight", "backbone.positions.weight")
