"""Reads the weights of a model from a safetensors file, and checks them against the model."""

from __future__ import annotations

import torch
from torch import nn

from lst.errors import raise_problems
from lst.storage.tensors import TensorFile

# Values that are looked at together, so that the check takes little memory.
_CHUNK = 1 << 20


def load_weights(model: nn.Module, file: TensorFile, owner: str, remedy: str) -> None:
    """Reads the tensors of a file into a model that was built on torch's ``meta`` device; each keeps the file's type.

    Args:
        model: without memory for its weights.
        file: its header, with the names of the model's state.
        owner: the kind of model, for errors.
        remedy: a sentence that says what to do, for errors.

    Raises:
        UserError: tensors are missing, unknown, of a wrong shape or type, or not finite; all of them are named.
    """
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [f"{name} is missing" for name in expected if name not in file.tensors]
    problems += [f"{name} is unknown to this {owner}" for name in file.tensors if name not in expected]
    weights = file.read()
    for name in expected.keys() & weights.keys():
        if problem := _problem(name, weights[name], expected[name]):
            problems.append(f"{name} {problem}")
    raise_problems(f"weights in {file.path}", sorted(problems), remedy)
    model.load_state_dict(weights, assign=True)


def _problem(name: str, found: torch.Tensor, needed_shape: list[int]) -> str:
    shape = list(found.shape)
    if shape != needed_shape:
        is_vocabulary = name in ("embedding.weight", "head.weight") and shape[1:] == needed_shape[1:]
        other = " (another vocabulary)" if is_vocabulary else ""
        return f"has shape {shape}, needed is {needed_shape}{other}"
    if not found.is_floating_point():
        return f"is of type {str(found.dtype).removeprefix('torch.')}, weights are floating-point numbers"
    if not all(bool(torch.isfinite(part).all()) for part in found.flatten().split(_CHUNK)):
        return "holds values that are not finite"
    return ""
