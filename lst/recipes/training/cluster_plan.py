"""Memory, time and cost of a training on its devices, as lines of ``lst train --dry-run``."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from lst.configs.schema import Config
from lst.model.lst import LatentSpeechTextModel
from lst.progress import duration_text, size_text
from lst.recipes.training.cluster_cost import Layout, Sent, StepTime, sent_bytes, step_time
from lst.recipes.training.memory import BYTES_OF_VALUES, DeviceMemory, device_memory, sharding_of

_PARTS = {
    "parameters": "parameters",
    "gradients": "gradients",
    "moments": "AdamW's two moments",
    "gathered": "blocks that are gathered",
    "activations": "activations of one round",
}


@dataclass(frozen=True)
class ClusterPlan:
    """What a training costs each of its devices.

    Attributes:
        layout: of the devices.
        memory: of one device.
        sent: bytes of one device in a step.
        step: seconds of a step.
        device_flops: peak of a device, operations a second.
    """

    layout: Layout
    memory: DeviceMemory
    sent: Sent
    step: StepTime
    device_flops: float


def cluster_of(
    config: Config, model: LatentSpeechTextModel, step_flops: float, step_tokens: float, peak: float | None = None
) -> ClusterPlan:
    """What a training costs each of its devices.

    Args:
        config: of the training.
        model: on the meta device.
        step_flops: operations of a step, all devices together.
        step_tokens: tokens of a step.
        peak: operations a second of this CPU, for plans that name no device; measured where not given.
    """
    train, plan = config.train, config.plan
    strategy = "ddp" if train.strategy == "auto" else train.strategy
    layout = Layout(train.num_processes, train.devices, strategy)
    device_flops = plan.device_tflops * 1e12 if plan.device_tflops else (peak or peak_flops())
    of_values, sharding = BYTES_OF_VALUES.get(train.precision, 2), sharding_of(model, layout.num_shards)
    sent = sent_bytes(layout, model.num_parameters, train.rounds, of_values, sharding.root_parameters)
    return ClusterPlan(
        layout=layout,
        memory=device_memory(
            config.model,
            train.precision,
            sharding,
            slots=train.rows * train.row_patches,
            tokens=step_tokens / train.num_parts,
            keep_every=train.recompute_every or None,
        ),
        sent=sent,
        step=step_time(
            sent,
            step_flops,
            layout.num_devices,
            device_flops * plan.utilisation,
            plan.node_gb_s * 1e9,
            plan.network_gb_s * 1e9,
        ),
        device_flops=device_flops,
    )


def cluster_lines(config: Config, cluster: ClusterPlan) -> list[str]:
    """Memory of a device, what it sends, time, and cost where a price is given."""
    train, plan, layout = config.train, config.plan, cluster.layout
    memory = cluster.memory
    parts = [f"{text} {size_text(getattr(memory, key))}" for key, text in _PARTS.items() if getattr(memory, key)]
    lines = [f"  peak memory of a device about {size_text(memory.total)} (an estimate: {', '.join(parts)})"]
    if layout.num_devices > 1:
        copies = "copy" if layout.num_copies == 1 else "copies"
        lines = [
            f"  {train.num_nodes} × {train.devices} devices, {layout.strategy}: {layout.num_copies} {copies} of the "
            f"model, each on {layout.num_shards}; a step is {train.rounds} rounds of {train.rows} × "
            f"{train.row_patches} patches on each device",
            *lines,
            f"  a device sends {size_text(cluster.sent.in_node)} a step within its machine and "
            f"{size_text(cluster.sent.between_nodes)} to others",
        ]
    if plan.device_tflops is not None and memory.total > plan.device_memory_gb * 1e9:
        lines.append(
            f"  THAT IS MORE than a device has (plan.device_memory_gb={plan.device_memory_gb:g}): take fewer "
            "train.rows, train.recompute_every=1, or train.strategy=fsdp on more devices"
        )
    return [*lines, *_time_lines(config, cluster)]


def _time_lines(config: Config, cluster: ClusterPlan) -> list[str]:
    train, plan, step = config.train, config.plan, cluster.step
    rate = f"{cluster.device_flops / 1e12:,.0f} TFLOP/s a device" if plan.device_tflops else "this CPU"
    if not plan.device_tflops:
        rate = f"this CPU ({cluster.device_flops / 1e9:,.0f} GFLOP/s in matrix products just now)"
    shortest, longest = (seconds * train.max_steps for seconds in (step.shortest_s, step.longest_s))
    span = duration_text(shortest)
    if cluster.layout.num_devices > 1:
        span += f" if all that is sent is hidden behind operations, {duration_text(longest)} if nothing is"
    lines = [
        f"  time about {span}, on {rate}, of which a training reaches plan.utilisation={plan.utilisation:g}: simulated"
    ]
    if plan.price_an_hour is not None:
        costs = [seconds / 3600 * cluster.layout.num_devices * plan.price_an_hour for seconds in (shortest, longest)]
        lines.append(f"  cost {costs[0]:,.0f} to {costs[1]:,.0f} at plan.price_an_hour={plan.price_an_hour:g} a device")
    return lines


def peak_flops(size: int = 1024) -> float:
    """Rate of float32 matrix products on this CPU, in operations a second, from a short measurement."""
    a = torch.randn(size, size)
    a @ a
    rates = []
    for _ in range(5):
        started_s = time.perf_counter()
        a @ a
        rates.append(2 * size**3 / (time.perf_counter() - started_s))
    return max(rates)
