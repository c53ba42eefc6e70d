"""Reads and checks the weights of a model in a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from lst.errors import UserError, raise_problems


def read_weights(path: Path, owner: str, remedy: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, by name.

    Args:
        path: the file.
        owner: the kind of model, for errors.
        remedy: a sentence that says what to do, for errors.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"the {owner}'s weights are missing: {path}. {remedy}") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"the {owner}'s weights are damaged: {path} ({error}). {remedy}") from None


def check_weights(model: nn.Module, weights: dict[str, torch.Tensor], owner: str, where: Path, remedy: str) -> None:
    """Raises one ``UserError`` that names every tensor that is missing, unknown, of a wrong shape or not finite."""
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
