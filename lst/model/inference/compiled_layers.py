"""Layers of the model for one more token of a few sequences, each in one call of the compiled library.

Float32 on the CPU. A token reads every weight once, which is all that takes time there: PyTorch's operators, of which a
layer needs thirty, took longer to call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    def _rows(self) -> np.ndarray:
        """Sequence, first and last of each row, int64 [3, n · num_queries]."""
        return np.repeat(np.array([self.sequences, self.first, self.last], np.int64), self.num_queries, axis=1)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._rows.shape[1]

    @cached_property
    def row_pointers(self) -> list[int]:
        """Where sequence, first and last of each row are in memory, as long as this object lives."""
        return [self._rows.ctypes.data + number * self._rows.strides[0] for number in range(3)]

    @cached_property
    def _angles(self) -> list[torch.Tensor]:
        return [] if self.rotation is None else [part.float().contiguous() for part in self.rotation]

    @cached_property
    def angle_pointers(self) -> list[int | None]:
        """Likewise cosines and sines, float32; None without rotation."""
        return [part.data_ptr() for part in self._angles] or [None, None]


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

    Attributes:
        step: sizes and pointers for the library.
    """

    def __init__(self, module: Block | CrossAttention) -> None:
        step = self.step = library.Step()
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
            setattr(self.step, str(name), tensor.data_ptr() if isinstance(tensor, torch.Tensor) else None)

    def take(self, x: torch.Tensor, cache: KeyValueCache, places: Places) -> None:
        """Points at the inputs of a step, which are changed in place, and makes room in the cache."""
        step = self.step
        if step.stores:
            cache.make_room(places.sequences, places.last, places.num_places, (step.num_groups, step.head_dim), x)
        step.num_rows, step.x, step.capacity = places.num_rows, x.data_ptr(), cache.capacity
        step.key, step.value = cache.key.data_ptr(), cache.value.data_ptr()
        step.sequence, step.first, step.last = places.row_pointers
        step.cos, step.sin = places.angle_pointers


class CompiledStack:
    """Layers that follow one another, in one call: between them, Python would find nothing of its own in the caches.

    Args:
        layers: one or more.
    """

    def __init__(self, layers: Sequence[CompiledLayer]) -> None:
        self.layers = layers
        self._pointers = library.step_pointers([layer.step for layer in layers])

    def run(self, x: torch.Tensor, caches: Sequence[KeyValueCache], places: Sequence[Places]) -> torch.Tensor:
        """One more token of some sequences, or several queries of each: [n, W] or [n, K, W] → the same.

        Blocks store the keys and values of the last positions.

        Args:
            x: inputs of the first layer.
            caches, places: of each layer.
        """
        out = x.clone(memory_format=torch.contiguous_format)
        for layer, cache, place in zip(self.layers, caches, places, strict=True):
            layer.take(out, cache, place)
        library.run_steps(self._pointers)
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


def compile_stack(layers: Iterable[nn.Module], compiled: Mapping[nn.Module, CompiledLayer]) -> CompiledStack | None:
    """Layers that follow one another as one; None unless all of them have a compiled form."""
    found = [compiled.get(layer) for layer in layers]
    whole = [layer for layer in found if layer is not None]
    return CompiledStack(whole) if whole and len(whole) == len(found) else None


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
