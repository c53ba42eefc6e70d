"""Learning rates and weight decays of the parts of a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from lst.configs.compose import build_config
from lst.model.config import ModelConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import parameter_groups

RATE, DECAY = 1e-2, 0.1
LOCAL = ("encoder.", "decoder.")
SMALL = ModelConfig(global_dim=16, global_layers=1, global_heads=2, local_dim=8, local_heads=2, ffn_multiple_of=8)


def groups_of(config: ModelConfig) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    model = LatentSpeechTextModel(config, vocab_size=20)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, RATE, DECAY)
    return {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("init", ["depth_scaled", "mup"])
def test_encoder_and_decoder_alone_learn_at_their_own_rate(init: str) -> None:
    config = dataclasses.replace(SMALL, init=init)
    plain, slowed = groups_of(config), groups_of(dataclasses.replace(config, local_rate=0.25))
    assert plain.keys() == slowed.keys()
    for name, (rate, decay) in plain.items():
        factor = 0.25 if name.startswith(LOCAL) else 1.0
        assert slowed[name][0] == pytest.approx(factor * rate), name
        # A step shrinks a weight by the product, which stays.
        assert slowed[name][0] * slowed[name][1] == pytest.approx(rate * decay), name


def test_their_rate_changes_no_initial_weight() -> None:
    plain, slowed = (
        LatentSpeechTextModel(dataclasses.replace(SMALL, local_rate=rate), 20).state_dict() for rate in (1.0, 0.1)
    )
    assert all(torch.equal(plain[name], slowed[name]) for name in plain)


def test_the_first_step_moves_them_by_their_share_of_the_rate() -> None:
    """Adam's first step is the rate itself, whatever the gradient."""
    model = LatentSpeechTextModel(dataclasses.replace(SMALL, local_rate=0.1), 20)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW(parameter_groups(model, RATE, 0.0), eps=1e-30)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    for name, parameter in model.named_parameters():
        moved = float((before[name] - parameter.detach()).mean())
        assert moved == pytest.approx(RATE * (0.1 if name.startswith(LOCAL) else 1.0), rel=1e-3), name


def test_a_training_that_begins_with_a_trained_model_may_change_their_rate(tmp_path: Path) -> None:
    """It is no part of the shape; what is not given is the trained model's."""
    LatentSpeechTextModel(dataclasses.replace(SMALL, local_rate=0.1), 20).save_pretrained(tmp_path)
    begins = ["name=m", "patching=static", f"model.init_from={tmp_path}"]
    assert build_config(begins).model.local_rate == 0.1
    assert build_config([*begins, "model.local_rate=0.5"]).model.local_rate == 0.5
