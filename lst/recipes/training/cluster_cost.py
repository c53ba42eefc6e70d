"""Time and money of a training on a cluster, from counts of operations and of bytes: simulated, not measured.

::

    operations of a step  ──▶ seconds of the devices, at a stated share of their peak          ┐
    weights, strategy     ──▶ bytes that a device sends in a step ──▶ seconds of the links     ┴─▶ days and cost

Bytes of ring algorithms, for W devices and n values of b bytes: gathering shards, or summing into shards, sends
b n (W − 1)/W from each device; summing everywhere sends twice that.
"""

from __future__ import annotations

from dataclasses import dataclass

SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class Layout:
    """Devices of a training.

    Attributes:
        num_devices: in all.
        devices_a_node: that share the fast links of a machine.
        strategy: ``ddp``, ``fsdp`` or ``hsdp``.
    """

    num_devices: int
    devices_a_node: int
    strategy: str

    @property
    def num_shards(self) -> int:
        """Devices that share one copy of the weights."""
        if self.strategy == "fsdp":
            return self.num_devices
        return min(self.devices_a_node, self.num_devices) if self.strategy == "hsdp" else 1

    @property
    def num_copies(self) -> int:
        """Copies of the weights, whose gradients are summed."""
        return self.num_devices // self.num_shards


@dataclass(frozen=True)
class Sent:
    """Bytes that a device sends in an optimiser step: over the links of its machine, and over the network."""

    in_node: float
    between_nodes: float


def sent_bytes(
    layout: Layout, num_parameters: float, accumulation: int, bytes_of_values: int, gathered_once: float = 0.0
) -> Sent:
    """Bytes that each device sends in an optimiser step.

    Every part of a step gathers the shards for its forward pass and again for its backward pass, in the type of the
    values, and sums gradients into shards in float32. Copies of the weights sum their gradients once a step.

    Two processes of a test send as much, to a few bytes in a thousand: rows that fill the last shard, and norms.

    Args:
        layout: of the devices.
        num_parameters: of the model.
        accumulation: parts of a step.
        bytes_of_values: of a gathered weight.
        gathered_once: parameters outside of the blocks, which stay gathered for the backward pass.
    """
    shards, copies = layout.num_shards, layout.num_copies
    gathered = bytes_of_values * (2 * num_parameters - gathered_once)
    of_shards = accumulation * (gathered + 4 * num_parameters) * (shards - 1) / shards
    of_copies = 2 * 4 * (num_parameters / shards) * (copies - 1) / copies
    # A ring crosses machines as soon as its devices lie on more than one: its slowest link counts.
    shards_cross = shards > layout.devices_a_node
    copies_cross = layout.num_devices > layout.devices_a_node
    return Sent(
        in_node=of_shards * (not shards_cross) + of_copies * (not copies_cross),
        between_nodes=of_shards * shards_cross + of_copies * copies_cross,
    )


@dataclass(frozen=True)
class StepTime:
    """Seconds of an optimiser step: of operations, and of sending."""

    computing_s: float
    sending_s: float

    @property
    def shortest_s(self) -> float:
        """All that is sent is hidden behind operations, or the other way round."""
        return max(self.computing_s, self.sending_s)

    @property
    def longest_s(self) -> float:
        """Nothing is hidden."""
        return self.computing_s + self.sending_s


def step_time(
    sent: Sent, step_flops: float, num_devices: int, device_flops: float, node: float, network: float
) -> StepTime:
    """Seconds of an optimiser step.

    Args:
        sent: by each device.
        step_flops: operations of the step, all devices together.
        num_devices: that share them.
        device_flops: operations a second that a device reaches in training.
        node, network: bytes a second of a device over the links of its machine, and over the network.
    """
    return StepTime(step_flops / num_devices / device_flops, sent.in_node / node + sent.between_nodes / network)
