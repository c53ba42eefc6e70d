"""Layers of the model for one more token of a few sequences, each in one call of the compiled library.

Float32 on the CPU. A token reads every weight once, which is all that takes time there: PyTorch's operators, of which a
layer needs thirty, took longer to call.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
from torch import nn

from lst.kernels.native import library
from lst.model.inference.caches import KeyValueCache
from lst.model.layers import Block, CrossAttention, SelfAttention, SwiGLU
from lst.model.pointwise import RMSNorm

# With more rows, PyTorch's matrix products gain more than the calls cost.
MOST_ROWS = 16


class Places:
    """Where one more token of some sequences stands. Layers that see as far share it.

    Args:
        sequences: int64 [n], indices of the sequences.
        first, last: int64 [n], the positions that are attended to.
        rotation: of the positions, or None.
        num_queries: rows of each sequence.
    """

    def __init__(
        self,
        sequences: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
        num_queries: int = 1,
    ) -> None:
        self.sequences, self.first, self.last, self.rotation = sequences, first, last, rotation
        self.num_queries = num_queries

    @cached_property
    def num_places(self) -> int:
        """The most positions that one of the rows attends to."""
        return int((self.last - self.first).max()) + 1

    @cached_property
    def rows(self) -> list[np.ndarray]:
        """Sequence, first and last of each row, int64 [n · num_queries] each."""
        return [np.repeat(part.astype(np.int64), self.num_queries) for part in (self.sequences, self.first, self.last)]

    @cached_property
    def angles(self) -> list[torch.Tensor]:
        """Cosines and sines, float32; empty without rotation."""
        return [] if self.rotation is None else [part.float().contiguous() for part in self.rotation]


class CompiledHead:
    """The last norm and the head, with pointers to their weights.

    Args:
        norm: RMSNorm; must keep its weights where they are.
        weight: of the head, [V, W]; must stay where it is.
    """

    def __init__(self, norm: RMSNorm, weight: torch.Tensor) -> None:
        self.norm, self.weight = norm, weight

    def run(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, V] of states [n, W]."""
        x, out = x.contiguous(), x.new_empty(len(x), len(self.weight))
        library.head(x, self.norm.weight, self.norm.eps, self.weight, out)
        return out


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

    def run(self, x: torch.Tensor, cache: KeyValueCache, places: Places) -> torch.Tensor:
        """One more token of some sequences, or several queries of each: [n, W] or [n, K, W] → the same.

        A block stores the keys and values of the last positions.

        Args:
            x: inputs of the layer.
            cache: of the layer.
            places: of the rows.
        """
        step, out = self._step, x.clone(memory_format=torch.contiguous_format)
        if step.stores:
            cache.make_room(places.sequences, places.last, places.num_places, (step.num_groups, step.head_dim), x)
        step.num_rows, step.x, step.capacity = len(places.rows[0]), out.data_ptr(), cache.capacity
        step.key, step.value = cache.key.data_ptr(), cache.value.data_ptr()
        step.sequence, step.first, step.last = (part.ctypes.data for part in places.rows)
        step.cos, step.sin = (part.data_ptr() for part in places.angles) if places.angles else (None, None)
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


def compile_head(norm: nn.Module, weight: torch.Tensor) -> CompiledHead | None:
    """The compiled form of a norm and a head with a weight [V, W]; None where there is none here."""
    if not isinstance(norm, RMSNorm) or torch.is_autocast_enabled("cpu") or not library.is_available():
        return None
    return CompiledHead(norm, weight) if _are_plain(norm.weight, weight) else None


def _are_plain(*weights: torch.Tensor) -> bool:
    return all(x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous() for x in weights)


def _is_compilable(module: Block | CrossAttention) -> bool:
    if not _are_plain(*module.parameters()):
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
