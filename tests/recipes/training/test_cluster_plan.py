"""What a training on several devices keeps, sends and costs: counted by hand, and counted from real ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lst.configs.compose import build_config
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.training.cluster_cost import Layout, Sent, sent_bytes, step_time
from lst.recipes.training.memory import activation_bytes, device_memory, sharding_of

# A weight and its gradient of a step, one part, two bytes a value: gathered twice, summed once in float32.
A_WEIGHT = 2 * 2 + 4


@pytest.mark.parametrize(
    ("layout", "in_node", "between_nodes"),
    [
        (Layout(1, 1, "ddp"), 0.0, 0.0),
        (Layout(2, 2, "ddp"), 2 * 4 * 1000 / 2, 0.0),
        (Layout(16, 8, "ddp"), 0.0, 2 * 4 * 1000 * 15 / 16),
        (Layout(8, 8, "fsdp"), 3 * A_WEIGHT * 1000 * 7 / 8, 0.0),
        (Layout(16, 8, "fsdp"), 0.0, 3 * A_WEIGHT * 1000 * 15 / 16),
        (Layout(16, 8, "hsdp"), 3 * A_WEIGHT * 1000 * 7 / 8, 2 * 4 * 125 / 2),
    ],
)
def test_bytes_that_a_device_sends(layout: Layout, in_node: float, between_nodes: float) -> None:
    assert sent_bytes(layout, 1000, accumulation=3, bytes_of_values=2) == Sent(in_node, between_nodes)


def test_seconds_of_a_step() -> None:
    step = step_time(Sent(6e9, 1e9), 8e12, num_devices=4, device_flops=1e12, node=3e9, network=0.5e9)
    assert (step.computing_s, step.sending_s) == (2.0, 4.0)
    assert (step.shortest_s, step.longest_s) == (4.0, 6.0)


@pytest.fixture(scope="module")
def lst_7b() -> LatentSpeechTextModel:
    with torch.device("meta"):
        return LatentSpeechTextModel(build_config(["model=lst_7b"]).model, 32_873)


def test_blocks_and_root_are_all_weights(lst_7b: LatentSpeechTextModel) -> None:
    sharding = sharding_of(lst_7b, 64)
    assert sharding.num_parameters == lst_7b.num_parameters
    # The embedding and the head lie outside of the blocks.
    assert sharding.root_parameters < 0.1 * sharding.num_parameters
    assert len(sharding.block_parameters) > 32


def test_memory_of_a_device(lst_7b: LatentSpeechTextModel) -> None:
    config = build_config(["model=lst_7b"]).model
    whole = device_memory(config, "bf16-mixed", sharding_of(lst_7b, 1), slots=4096, tokens=10_000)
    shared = device_memory(config, "bf16-mixed", sharding_of(lst_7b, 64), slots=4096, tokens=10_000)
    assert whole.parameters == whole.gradients == whole.moments / 2 == 4 * lst_7b.num_parameters
    assert whole.gathered == 0
    assert shared.parameters == whole.parameters / 64
    assert shared.gathered > 0
    assert shared.activations == whole.activations
    assert shared.total - shared.activations < (whole.total - whole.activations) / 20
    double = device_memory(config, "64-true", sharding_of(lst_7b, 1), slots=4096, tokens=10_000)
    assert double.parameters == 2 * whole.parameters


def test_checkpointing_keeps_the_inputs_of_blocks() -> None:
    config = replace(build_config(["model=lst_7b"]).model, encoder_layers=0, decoder_layers=0, global_layers=4)
    values = 100.0 * config.global_dim
    assert activation_bytes(config, 100, 300, 2) == 2 * 4 * 20 * values
    # All four inputs, and the block that is computed again.
    assert activation_bytes(config, 100, 300, 2, keep_every=1) == 2 * (4 + 20) * values
    assert activation_bytes(config, 100, 300, 2, keep_every=2) == 2 * (2 + 2 * 20 + 20) * values
