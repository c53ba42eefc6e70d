"""What the operators with a backward pass of their own share: reverse mode, and an error for every other mode.

PyTorch would take an operator without a formula for forward mode for a constant, and give zeros as its tangents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

# Every operator with a backward pass, by its name in ``torch.ops.lst``.
OPERATORS: dict[str, Callable[..., Any]] = {}
_WAY_OUT = "use reverse mode (backward, torch.autograd.grad), or force the path 'reference'"


def differentiable(
    name: str, operator: Any, gradients: Callable[..., Any], setup: Callable[..., None] | None = None
) -> Callable[..., Any]:
    """Registers the backward pass of an operator, and returns the function that calls it.

    The function raises ``NotImplementedError`` for what the operator cannot do: forward mode (``torch.func.jvp``,
    ``torch.autograd.forward_ad``), ``torch.func.grad`` and its kin.

    Args:
        name: in ``torch.ops.lst``.
        operator: made by ``torch.library.custom_op``.
        gradients: (context, gradients of the outputs) → gradients of the inputs.
        setup: (context, inputs, output) → None, keeps what ``gradients`` needs; by default all inputs.
    """
    run = getattr(torch.ops.lst, name)
    operator.register_autograd(gradients, setup_context=setup or _keep_inputs)

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return run(*arguments)
        if any(isinstance(x, torch.Tensor) and _has_tangent(x) for x in arguments):
            raise NotImplementedError(f"{name} has no derivatives in forward mode: {_WAY_OUT}")
        try:
            return run(*arguments)
        except (RuntimeError, NotImplementedError) as error:
            if "functorch" not in str(error):
                raise
            raise NotImplementedError(f"{name} has no derivatives under torch.func: {_WAY_OUT}") from None

    OPERATORS[name] = call
    return call


def _has_tangent(tensor: torch.Tensor) -> bool:
    try:
        return forward_ad.unpack_dual(tensor).tangent is not None
    except RuntimeError:  # of tensors that torch.func.vmap has joined, within a forward mode, it cannot be told
        return True


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
