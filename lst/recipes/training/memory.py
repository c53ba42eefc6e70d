"""Memory of a training on each of its devices: an estimate, from the shapes of the model.

::

    blocks of the model ──▶  what a strategy keeps of them on a device   (weights, gradients, two moments)
                        ──▶  what it gathers while a block runs          (strategies that shard)
    tokens and patches  ──▶  what the layers keep for the backward pass  (less with checkpointing)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from torch import nn

from lst.model.config import ModelConfig
from lst.model.layers import Block

# Values that attention and feed-forward keep for the backward pass, for each position and channel of a layer.
VALUES_A_LAYER_CHANNEL = 20
# Tensors of a weight that a training keeps: the weight, its gradient and AdamW's two moments.
KEPT_TENSORS = 4
BYTES_OF_VALUES = {"64-true": 8, "32-true": 4}
BYTES_OF_WEIGHTS = {"64-true": 8, "bf16-true": 2}


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on a device.

    Attributes:
        parameters, gradients, moments: of the share of the weights that the device holds.
        gathered: of whole blocks while they run; 0 where every device holds all weights.
        activations: of what the layers keep of one batch of the device for the backward pass.
    """

    parameters: float
    gradients: float
    moments: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True)
class Sharding:
    """How the weights lie on devices.

    Attributes:
        num_shards: devices that share one copy of the weights; 1 where each holds all.
        block_parameters: weights of each block that is gathered by itself.
        root_parameters: weights outside of the blocks: they stay gathered throughout a step.
    """

    num_shards: int
    block_parameters: tuple[int, ...]
    root_parameters: int

    @property
    def num_parameters(self) -> int:
        """All weights."""
        return sum(self.block_parameters) + self.root_parameters


def sharding_of(model: nn.Module, num_shards: int) -> Sharding:
    """The blocks of a model, as ``shard_model`` cuts it, and the rest; the model may be on the meta device."""
    found = [module for module in model.modules() if isinstance(module, Block)]
    blocks = [sum(p.numel() for p in block.parameters()) for block in found]
    total = sum(p.numel() for p in model.parameters())
    return Sharding(num_shards, tuple(blocks), total - sum(blocks))


def gathered_bytes(sharding: Sharding, bytes_of_values: int) -> float:
    """Bytes of whole blocks on a device while one runs.

    The root is there throughout. Of the blocks there are the one that runs, the next one, which is fetched meanwhile,
    and the gradient of one, in the type of the values and in float32 for the sum.
    """
    if sharding.num_shards == 1:
        return 0.0
    blocks = sorted(sharding.block_parameters, reverse=True)
    return float(
        bytes_of_values * (sharding.root_parameters + sum(blocks[:2])) + (bytes_of_values + 4) * sum(blocks[:1])
    )


def activation_bytes(
    config: ModelConfig, slots: float, tokens: float, bytes_of_values: int, keep_every: int | None = None
) -> float:
    """Bytes that the layers keep for the backward pass.

    Args:
        config: of the model.
        slots: patches of the device's batch.
        tokens: tokens of the device's batch.
        bytes_of_values: of an activation.
        keep_every: checkpointing: of every n-th block only the input is kept; 1 is all blocks, None is no block.
    """
    backbone, local = slots * config.global_dim, tokens * config.local_dim
    layers = [backbone] * config.global_layers + [local] * (config.encoder_layers + config.decoder_layers)
    whole = [VALUES_A_LAYER_CHANNEL * values for values in layers]
    if keep_every is None:
        return float(bytes_of_values * sum(whole))
    kept = [
        values if index % keep_every == 0 else all_of
        for index, (values, all_of) in enumerate(zip(layers, whole, strict=True))
    ]
    # While the backward pass goes through a block that kept its input only, all of that block is there again.
    return float(bytes_of_values * (sum(kept) + max(whole)))


def device_memory(
    config: ModelConfig,
    precision: str,
    sharding: Sharding,
    slots: float,
    tokens: float,
    keep_every: int | None = None,
) -> DeviceMemory:
    """Estimate of the memory of a training on a device at its peak.

    Args:
        config: of the model.
        precision: Lightning's name of it.
        sharding: of the weights.
        slots, tokens: patches and tokens of the device's batch.
        keep_every: see ``activation_bytes``.
    """
    of_values, of_weights = BYTES_OF_VALUES.get(precision, 2), BYTES_OF_WEIGHTS.get(precision, 4)
    held = of_weights * sharding.num_parameters / sharding.num_shards
    return DeviceMemory(
        parameters=held,
        gradients=held,
        moments=(KEPT_TENSORS - 2) * held,
        gathered=gathered_bytes(sharding, of_values),
        activations=activation_bytes(config, slots, tokens, of_values, keep_every),
    )


def largest_part(parts: Sequence[tuple[str, float]]) -> str:
    """The name of the greatest part.

    >>> largest_part([("parameters", 2.0), ("activations", 3.0)])
    'activations'
    """
    return max(parts, key=lambda part: part[1])[0]
