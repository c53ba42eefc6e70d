"""Trainings that are compared: the steps that follow from another training spend what it really spent."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from small_trainings import metrics, overrides

from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.recipes.training.batches import build_loader
from lst.recipes.training.control import Spent, accounting, controlled, spent
from lst.recipes.training.train import train
from lst.runs import FittedPatching, RunFolder, open_data, plain_patching
from lst.runs.fitted_patching import fit_ahead, hand_over, load_patching

KEYS = {"compute": "patches", "data": "tokens", "flops": "training_flops"}
BASELINE = ("name=baseline", "model=baseline_debug", "patching=none", "train.max_steps=12")


def plain(config: Config) -> FittedPatching:
    return plain_patching(config.patching, open_data(config))


def counted_of(config: Config) -> Spent:
    return spent(config, open_data(config), plain(config))


@pytest.fixture
def reference(run: Path) -> dict[str, float]:
    """The last row of a baseline's training."""
    train(build_config(overrides(run, *BASELINE)))
    return [row for row in metrics(run, "baseline") if "loss" in row][-1]


def test_a_count_before_training_is_what_the_training_uses(run: Path, reference: dict[str, float]) -> None:
    config = build_config(overrides(run, *BASELINE))
    counted = counted_of(config)
    assert (counted.steps, counted.patches, counted.tokens) == (12, reference["patches"], reference["tokens"])
    assert counted.flops == pytest.approx(reference["training_flops"], rel=1e-12)


def test_a_step_of_several_parts_is_one_step(run: Path) -> None:
    """Rounds of one device, or several devices: the batch of a step is the same, and so is what it spends."""
    rows = ("train.rows=1", "train.row_patches=64", "train.max_steps=4", "train.batch_patches=128")
    words = (*BASELINE, "name=rounds", *rows)
    train(build_config(overrides(run, *words)))
    used = [row for row in metrics(run, "rounds") if "loss" in row][-1]
    for more in ([], ["train.devices=2"]):
        config = build_config([*overrides(run, *words), *more])
        assert config.train.num_parts == 2
        counted = counted_of(config)
        assert (counted.steps, counted.patches, counted.tokens) == (4, used["patches"], used["tokens"])
        assert counted.flops == pytest.approx(used["training_flops"], rel=1e-12)
        assert controlled(config, open_data(config), plain(config), counted, "data") == counted


@pytest.mark.parametrize("control", KEYS)
@pytest.mark.parametrize("patching", ["static", "curriculum"])
def test_derived_steps_spend_the_same_to_the_nearest_step(
    run: Path, reference: dict[str, float], control: str, patching: str
) -> None:
    words = (f"name={patching}-{control}", f"patching={patching}", "train.row_patches=64")
    config = build_config(overrides(run, *words))
    data = open_data(config)
    wanted = counted_of(build_config(overrides(run, *BASELINE)))
    found = controlled(config, data, plain(config), wanted, control)
    train(build_config(overrides(run, *words, f"train.max_steps={found.steps}")))
    used = [row[KEYS[control]] for row in metrics(run, config.name) if "loss" in row]
    steps = [after - before for before, after in zip([0, *used], used, strict=False)]
    assert len(used) == found.steps
    assert abs(used[-1] - reference[KEYS[control]]) <= max(steps[-2:])
    assert used[-1] == pytest.approx(found.of(control), rel=1e-12)


@pytest.mark.parametrize(
    "words",
    [
        ["patching=entropy", "train.row_patches=64"],
        ["patching=speech_bpe", "patching.speech_bpe_size=120", "model=baseline_debug"],
    ],
    ids=["entropy", "speech_bpe"],
)
def test_what_is_fitted_ahead_is_counted_and_handed_over(run: Path, tmp_path: Path, words: list[str]) -> None:
    config = build_config(overrides(run, "name=fitted", *words, "train.max_steps=3"))
    data = open_data(config)
    patching = fit_ahead(config, data, tmp_path)
    counted = spent(config, data, patching)
    folder = RunFolder.of(config).model("fitted")
    # What another plan has left there is replaced.
    (folder / "unit_model").mkdir(parents=True)
    (folder / "unit_model" / "config.json").write_text("{}")
    hand_over(config, data, tmp_path, folder)
    train(config)
    used = [row for row in metrics(run, "fitted") if "loss" in row][-1]
    assert (counted.patches, counted.tokens) == (used["patches"], used["tokens"])
    assert counted.flops == pytest.approx(used["training_flops"], rel=1e-12)
    taken = load_patching(folder, patching.config, data)
    assert taken.hashes == patching.hashes
    with build_loader(config, data, "units", patching=patching) as loader:
        ids = [batch.token_ids.numpy() for batch, _ in itertools.islice(loader, config.train.max_steps)]
    # A piece of a speech BPE stands for one unit or more.
    assert counted.units == sum(len(patching.units_of(one[patching.vocabulary.is_unit(one)])) for one in ids)


def test_the_table_marks_what_is_equal() -> None:
    lines = accounting({"a": Spent(10, 2000, 3000, 4e9), "longer": Spent(5, 1, 2, 3.0)}, "data")
    assert lines[0].split() == ["model", "steps", "patches", "tokens*", "FLOPs"]
    assert lines[1].split() == ["a", "10", "2,000", "3,000", "4e+09"]
    assert "control=data" in lines[-1]
