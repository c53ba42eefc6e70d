"""Cloze accuracies and texts while a model trains: they say what it can do, and change nothing of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
from small_trainings import WHOLE, has_equal_weights, metrics, overrides
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lst.configs.compose import build_config
from lst.data.prepared import PreparedData
from lst.errors import ProblemsError, UserError
from lst.evaluation import Scorer
from lst.evaluation.cloze import item_credits, score_cloze
from lst.evaluation.results import DIRECTIONS
from lst.recipes.training.held_out import SampleRow, accuracy_key, held_out_items
from lst.recipes.training.train import train
from lst.runs import RunFolder, open_data, open_trained
from lst.storage import read_jsonl

LOOKS = ("train.eval_items=3", "train.sample_every=4")


@pytest.fixture
def looked_at(run: Path) -> Path:
    train(build_config(overrides(run, "name=m", *WHOLE, *LOOKS)))
    return run


def test_what_is_looked_at_changes_no_weight_and_no_other_number(looked_at: Path, whole_run: Path) -> None:
    assert has_equal_weights(*(folder / "models/m/final" for folder in (looked_at, whole_run)))
    keys = {accuracy_key(direction) for direction in DIRECTIONS}
    rows = metrics(looked_at, "m")
    assert [{key: value for key, value in row.items() if key not in keys} for row in rows] == metrics(whole_run, "m")
    assert [row["step"] for row in rows if keys <= row.keys()] == [3, 6, 9]


def test_accuracies_are_those_of_an_evaluation(looked_at: Path) -> None:
    config = build_config(overrides(looked_at, "name=m", *WHOLE, *LOOKS))
    data = open_data(config)
    rows = score_cloze(
        Scorer.of(open_trained(RunFolder(looked_at), "m", data), config), items := held_out_items(config, data)
    )
    assert len(items) == 3
    last = metrics(looked_at, "m")[-1]
    for direction in DIRECTIONS:
        credits = item_credits([row for row in rows if row["direction"] == direction], "sum")
        assert last[accuracy_key(direction)] == credits.mean()


def test_samples_continue_one_prompt_and_are_in_tensorboard(looked_at: Path) -> None:
    """A training that goes on draws them again, and keeps none twice."""
    folder = looked_at / "models/m"
    rows = read_jsonl(folder / "samples.jsonl", SampleRow)
    assert [row["step"] for row in rows] == [4, 8]
    (prompt,) = {row["prompt"] for row in rows}
    assert any(held_out.text.startswith(f"{prompt} ") for held_out in PreparedData(looked_at / "data").valid)
    assert all(row["continuation"] for row in rows)
    assert shown(folder) == [(row["step"], row["continuation"]) for row in rows]
    assert heard(folder) == [(row["step"], (folder / row["spoken"]).read_bytes()) for row in rows]
    assert all(soundfile.info(folder / row["spoken"]).duration > 0.05 for row in rows)
    for lost in (folder / "final", folder / "checkpoints/step-00000009"):
        shutil.rmtree(lost)
    train(build_config(overrides(looked_at, "name=m", *WHOLE, *LOOKS)))
    assert read_jsonl(folder / "samples.jsonl", SampleRow) == rows
    assert shown(folder) == [(row["step"], row["continuation"]) for row in rows]


def shown(folder: Path) -> list[tuple[int, str]]:
    events = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False).Reload()
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors("continuation")]


def heard(folder: Path) -> list[tuple[int, bytes]]:
    events = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False).Reload()
    return [(event.step, event.encoded_audio_string) for event in events.Audio("spoken")]


def test_looks_that_cannot_be_taken_are_refused_before_the_training(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProblemsError, match=r"no device holds the whole model.*take ddp"):
        build_config(overrides(run, "train.devices=2", "train.strategy=fsdp", "train.sample_every=1"))
    monkeypatch.setattr(PreparedData, "is_text_alone", True)
    with pytest.raises(UserError, match=r"train\.eval_items=3: .* holds text alone"):
        train(build_config(overrides(run, "name=m", *LOOKS)))
    assert not (run / "models/m/settings.json").exists()
