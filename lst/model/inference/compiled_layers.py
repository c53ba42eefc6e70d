"""Layers of the model for one more token of a few sequences, each in one call of the compiled library.

Float32 on the CPU. A token reads every weight once, which is all that takes time there: PyTorch's operators, of which a
layer needs thirty, took longer to call.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from lst.kernels.native import library
from lst.model.inference.caches import KeyValueCache
from lst.model.layers import Block, CrossAttention, SelfAttention, SwiGLU
from lst.model.pointwise import RMSNorm

# With more rows, PyTorch's matrix products gain more than the calls cost.
MOST_ROWS = 16


class CompiledLayer:
    """A block of attention and SwiGLU, or a cross-attention to cached keys, with pointers to the module's weights.

    Args:
        module: must keep its weights where they are.
    """

    def __init__(self, module: Block | CrossAttention) -> None:
        step = self._step = library.Step()
        if isinstance(module, Block):
            mixer, ffn = module.mixer, module.ffn
            assert isinstance(mixer, SelfAttention)
            assert isinstance(ffn, SwiGLU)
            norm, projection, output = module.mixer_norm, mixer.query_key_value, mixer.output
            step.num_heads, step.num_groups, step.residual = mixer.num_heads, mixer.num_kv_heads, 1
            self._point("ffn_norm", module.ffn_norm.weight, "gate_up", ffn.gate_up.weight, "down", ffn.output.weight)
            step.hidden_width = ffn.output.in_features
            if mixer.query_norm is not None and mixer.key_norm is not None:
                self._point("query_norm", mixer.query_norm.weight, "key_norm", mixer.key_norm.weight)
        else:
            norm, projection, output = module.query_norm, module.query, module.output
            step.num_heads, step.num_groups, step.residual = module.num_heads, module.num_kv_heads, module.residual
        step.stores, step.eps = int(isinstance(module, Block)), norm.eps
        step.width, step.head_dim = output.out_features, output.in_features // step.num_heads
        step.scale = step.head_dim**-0.5
        self._point("norm", norm.weight, "projection", projection.weight, "projection_bias", projection.bias)
        self._point("output", output.weight, "output_bias", output.bias)

    def _point(self, *named: object) -> None:
        for name, tensor in zip(named[::2], named[1::2], strict=True):
            setattr(self._step, str(name), tensor.data_ptr() if isinstance(tensor, torch.Tensor) else None)

    def run(
        self,
        x: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor] | None,
        cache: KeyValueCache,
        sequences: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
    ) -> torch.Tensor:
        """One more token of some sequences, or several queries of each: [n, W] or [n, K, W] → the same.

        A block stores the keys and values of the position ``last``.

        Args:
            x: inputs of the layer.
            rotation: of the positions, or None.
            cache: of the layer.
            sequences: int64 [n], indices of the sequences.
            first, last: int64 [n], the positions that are attended to.
        """
        step, out = self._step, x.clone(memory_format=torch.contiguous_format)
        if step.stores:
            cache.make_room(sequences, last, first, (step.num_groups, step.head_dim), x)
        rows = [
            np.repeat(part.astype(np.int64), x.numel() // len(x) // step.width) for part in (sequences, first, last)
        ]
        step.num_rows, step.x, step.capacity = len(rows[0]), out.data_ptr(), cache.capacity
        step.key, step.value = cache.key.data_ptr(), cache.value.data_ptr()
        step.sequence, step.first, step.last = (part.ctypes.data for part in rows)
        angles = [] if rotation is None else [part.float().contiguous() for part in rotation]
        step.cos, step.sin = (part.data_ptr() for part in angles) if angles else (None, None)
        library.step(step)
        return out


def compile_layers(modules: Iterable[nn.Module]) -> dict[nn.Module, CompiledLayer]:
    """The compiled form of each of some layers that has one here."""
    if torch.is_autocast_enabled("cpu") or not library.is_available():
        return {}
    return {
        module: CompiledLayer(module)
        for module in modules
        if isinstance(module, (Block, CrossAttention)) and _is_compilable(module)
    }


def _is_compilable(module: Block | CrossAttention) -> bool:
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or not x.is_contiguous() for x in module.parameters()):
        return False
    if isinstance(module, CrossAttention):
        return True
    norms = [module.mixer_norm, module.ffn_norm]
    if isinstance(module.mixer, SelfAttention):
        norms += [norm for norm in (module.mixer.query_norm, module.mixer.key_norm) if norm is not None]
    return (
        isinstance(module.mixer, SelfAttention)
        and isinstance(module.ffn, SwiGLU)
        and all(isinstance(norm, RMSNorm) and norm.eps == norms[0].eps for norm in norms)
    )
