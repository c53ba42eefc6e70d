"""Every shipped configuration of a model and of a patching composes, builds and trains: made tiny, for two steps."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from repository import ROOT

from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.model.config import ModelConfig
from lst.parallel import ALONE
from lst.recipes.training.batches import build_loader, validation_batches
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.parts import parts_of_batches
from lst.recipes.training.trainer import TrainerOptions, fit
from lst.recipes.training.warm_start import build_model
from lst.runs import fit_patching

CONFIGS = ROOT / "lst" / "configs"
MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
PATCHINGS = sorted(path.stem for path in (CONFIGS / "patching").glob("*.yaml"))
# Models without local modules take these: a token is a patch.
UNPATCHED = ("none", "speech_bpe")
FEW = ("train.rows=1", "train.row_patches=96", "train.eval_utterances=1", "patching.speech_bpe_size=40")


def pairs() -> list[tuple[str, str]]:
    """Every model once, and with them every patching."""
    unpatched, patched = cycle(UNPATCHED), cycle(name for name in PATCHINGS if name not in UNPATCHED)
    return [(name, next(patched if name.startswith(("lst", "family")) else unpatched)) for name in MODELS]


def tiny(model: ModelConfig) -> ModelConfig:
    """A model with the same kinds of layers, which trains in no time."""
    return replace(
        model,
        global_dim=32,
        global_layers=len(model.global_mixers) if len(model.global_mixers) > 1 else 4,
        global_heads=2,
        local_dim=16,
        local_heads=2,
        encoder_layers=min(model.encoder_layers, 1),
        decoder_layers=min(model.decoder_layers, 2),
    )


def test_pairs_hold_every_configuration() -> None:
    assert {patching for _, patching in pairs()} == set(PATCHINGS)


@pytest.fixture(scope="module")
def data(smoke_data: Path) -> PreparedData:
    return PreparedData(smoke_data / "data")


@pytest.mark.parametrize(("model", "patching"), pairs())
def test_a_shipped_configuration_trains(data: PreparedData, tmp_path: Path, model: str, patching: str) -> None:
    config = build_config(["experiment=smoke", f"model={model}", f"patching={patching}", *FEW])
    config = replace(config, model=tiny(config.model), train=replace(config.train, max_steps=2, warmup_steps=1))
    assert config.problems() == []
    losses, metrics = trained(config, data, tmp_path)
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)
    assert all(math.isfinite(value) for value in metrics.values())


def trained(config: Config, data: PreparedData, folder: Path) -> tuple[list[float], dict[str, float]]:
    """The losses of the steps, and what a validation at the end finds."""
    fitted = fit_patching(config, data, folder)
    model = build_model(config.model, fitted.vocabulary, config.seed, begins=True)
    valid, text_bytes, num_units = validation_batches(config, data, fitted, model)
    losses: list[float] = []

    class Noting(LanguageModelModule):
        def optimizer_step(self, *arguments: object, **named: object) -> None:
            super().optimizer_step(*arguments, **named)
            losses.append(float(self.step_loss))

    module = Noting(model, config.train, config.loss, text_bytes, data.vocabulary.num_text, num_units)
    with build_loader(config, data, "shipped", patching=fitted) as loader:
        parts = parts_of_batches(loader, None, 1, ALONE, config.loss)
        fit(module, parts, valid, TrainerOptions(2, 2, folder), None)
    return losses, module.valid_metrics()
