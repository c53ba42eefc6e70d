"""Cloze accuracies and texts while a model trains: they say what it can do, and change nothing of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from made_run import make_utterance, write_data
from small_trainings import WHOLE, has_equal_weights, metrics, overrides
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lst.configs.compose import build_config
from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader
from lst.errors import ProblemsError, UserError
from lst.evaluation import Scorer
from lst.evaluation.cloze import item_credits, score_cloze
from lst.evaluation.results import DIRECTIONS
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.training import batches, sources
from lst.recipes.training.held_out import SampleRow, accuracy_key, held_out_items
from lst.recipes.training.language_model import LanguageModelModule
from lst.recipes.training.train import train
from lst.runs import RunFolder, fit_patching, open_data, open_trained
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


def test_speech_without_transcripts_is_told_by_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each utterance gives one document, not two; there are bits a unit, and none a byte."""
    made = [make_utterance(number, tmp_path, "one two three", 2.0) for number in range(6)]
    silent = [replace(one, text="", words=()) for one in made[2:]]
    write_data(RunFolder(tmp_path), {"train": made[:2], "valid": silent})
    config = build_config([f"run_dir={tmp_path}", "experiment=smoke", "patching=static", "train.rows=2"])
    data = PreparedData(tmp_path / "data")
    patching = fit_patching(config, data, tmp_path)
    model = LatentSpeechTextModel(config.model, patching.vocabulary.size, 0)
    monkeypatch.setattr(ShardReader, "source_of", lambda self, index: "ab"[index // 3])
    monkeypatch.setattr(batches, "told_sources", lambda data: ["a", "b"])
    monkeypatch.setattr(sources, "told_sources", lambda data: ["a", "b"])
    found, text_bytes, num_units = batches.validation_batches(config, data, patching, model)
    assert [batch.doc_source_ids.tolist() for batch in found if batch.doc_source_ids is not None] == [[0, 0, 0, 1]]
    sizes = sources.held_out_sizes(config, data, patching)
    assert (sum(size.num_units for size in sizes.values()), text_bytes) == (num_units, 0)
    module = LanguageModelModule(
        model, config.train, config.loss, text_bytes, patching.vocabulary.num_text, num_units, 0, sources=sizes
    )
    module._valid_nats = torch.tensor([[3.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    metrics = module.valid_metrics()
    assert sorted(metrics) == ["valid_bits_per_unit", "valid_bits_per_unit_by_source"]
    assert list(metrics["valid_bits_per_unit_by_source"]) == ["a", "b"]
