"""Weights in safetensors files: read and checked alike for every kind of model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from lst.errors import UserError, raise_problems


def read_weights(path: Path, owner: str, remedy: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; raises ``UserError`` when it is missing or damaged."""
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"the {owner}'s weights are missing: {path}. {remedy}") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"the {owner}'s weights are damaged: {path} ({error}). {remedy}") from None


def check_weights(model: nn.Module, weights: dict[str, torch.Tensor], owner: str, where: Path, remedy: str) -> None:
    """Raises one ``UserError`` naming every tensor that is missing, unknown, misshapen or not finite."""
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is unknown to this {owner}" for name in weights if name not in expected]
    for name in expected.keys() & weights.keys():
        found, needed = list(weights[name].shape), list(expected[name].shape)
        if found != needed:
            other = (
                " (another vocabulary)"
                if name in ("embedding.weight", "head.weight") and (found[1:] == needed[1:])
                else ""
            )
            problems.append(f"{name} has shape {found}, needed is {needed}{other}")
        elif not bool(torch.isfinite(weights[name]).all()):
            problems.append(f"{name} holds values that are not finite")
    raise_problems(f"weights in {where}", sorted(problems), remedy)
