"""Corpora that are prepared together: unique ids, shards of one source each, splits and fits that all have a part in,
and a training that weighs them and tells their losses apart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.added_config import SourcesConfig
from lst.data.corpora import ManifestRow
from lst.data.corpora.unique_ids import ids_apart
from lst.data.prepare import prepare
from lst.data.prepare.fitting import even_shares, training_rows
from lst.data.prepare.lists import MOST_SOURCES, arrange, read_plan
from lst.data.prepared import PreparedData
from lst.data.shards import hours_by, hours_by_source, source_names
from lst.data.utterance import Provenance
from lst.errors import ProblemsError, UserError
from lst.recipes.export import _row_licences
from lst.recipes.training.sources import weighted_corpora
from lst.recipes.training.train import train
from lst.tokenizers.config import TokenizerConfig
from tests.data.conftest import MakeCorpus, hashes, options


def state_licences(corpus: Path, *licences: str) -> None:
    path = corpus / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [{**row, "license": licences[n % len(licences)], "source": "a page"} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def both(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two corpora with the same ids; one of them states licences."""
    folder = tmp_path_factory.mktemp("both")
    state_licences(make_corpus(folder / "read"), "CC-BY-4.0", "CC-BY-NC-4.0")
    make_corpus(folder / "talks")
    return f"[read={folder / 'read'},talks={folder / 'talks'}]"


@pytest.fixture(scope="module")
def run(both: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prepare(folder / "data", options(Path(both), shard_utterances=3))
    return folder


def test_each_corpus_has_shards_and_splits_of_its_own(run: Path) -> None:
    data = PreparedData(run / "data")
    assert source_names(data.index) == ["read", "talks"]
    found: dict[str, list[Any]] = {"train": [], "valid": []}
    for split, utterances in found.items():
        reader = getattr(data, split)
        for place, utterance in enumerate(reader):
            assert reader.source_of(place) == utterance.provenance.corpus == utterance.id.split("-")[0]
            utterances.append(utterance)
    ids = [utterance.id for utterances in found.values() for utterance in utterances]
    assert sorted(ids) == sorted(f"{name}-utt_{number}" for name in ("read", "talks") for number in range(8))
    assert {one.provenance.corpus for one in found["valid"]} == {"read", "talks"}
    own = data.train_of("talks")
    assert [one.id for one in own] == [one.id for one in found["train"] if one.provenance.corpus == "talks"]
    stated = {one.provenance for one in found["train"] if one.provenance.corpus == "read"}
    assert stated <= {Provenance("read", "a page", licence) for licence in ("CC-BY-4.0", "CC-BY-NC-4.0")}


def test_hours_by_source_and_licence_are_in_the_index(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = PreparedData(run / "data")
    rows = hours_by_source(data.index)
    assert {(row.source, row.licence): row.num_utterances for row in rows} == {
        ("read", "CC-BY-4.0"): 4,
        ("read", "CC-BY-NC-4.0"): 4,
        ("talks", ""): 8,
    }
    seconds = sum(one.duration_s for split in (data.train, data.valid) for one in split)
    assert sum(hours_by(rows, "source").values()) == pytest.approx(seconds / 3600, abs=3e-4)
    told, warnings = _row_licences(data.index, "")
    assert "CC-BY-NC-4.0 (" in told
    assert "not stated (" in told
    assert len(warnings) == 2
    assert main(["check", f"run_dir={run}"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"source talks +0.0\d h; licence: not stated", said)
    assert "forbid commercial use mixed with others: CC-BY-NC-4.0" in said


def test_a_mended_row_costs_a_shard_of_its_own_corpus(
    make_corpus: MakeCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_corpus(tmp_path / "first"), make_corpus(tmp_path / "second")
    own = options(Path(f"[{first},{second}]"), shard_utterances=3)
    prepare(tmp_path / "data", own)
    said = capsys.readouterr().err
    assert re.search(r"units are fitted to \d+ s of first, \d+ s of second", said)
    assert re.search(r"text pieces are fitted to 6 lines of first, 6 lines of second", said)
    before = hashes(tmp_path / "data/shards")
    path = second / "manifest.jsonl"
    path.write_text(path.read_text().replace("The old dog slept", "The red dog slept"))
    prepare(tmp_path / "data", own)
    after = hashes(tmp_path / "data/shards")
    changed = {name.partition(".")[0] for name in after if after[name] != before.get(name)}
    assert len(changed) == 1
    assert {shard.source for shard in read_plan(tmp_path / "data") if shard.name in changed} == {"second"}
    assert "changed texts: 1, second-utt_2" in capsys.readouterr().err


def test_weights_and_limits_name_sources_of_the_data(run: Path) -> None:
    data = PreparedData(run / "data")

    def parts(weights: dict[str, float], max_epochs: dict[str, float] | None = None) -> Any:
        config = build_config([])
        config.data.sources = SourcesConfig(weights, max_epochs or {})
        return weighted_corpora(config, data)

    assert parts({}) == []
    assert [(part.name, part.share, part.most_documents) for part in parts({"talks": 2, "read": 1})] == [
        ("read", 1, None),
        ("talks", 2, None),
    ]
    read, talks = parts({}, {"talks": 2.5})
    assert talks.most_documents == int(2.5 * len(talks.utterances))
    assert read.share / talks.share == pytest.approx(1, abs=0.5)
    for weights, limits, said in (
        ({"talks": 1, "raed": 1}, {}, "raed: there is no such source"),
        ({"talks": 1}, {}, "lacks read"),
        ({}, {"read": 1, "talks": 1}, "limits every source"),
        ({}, {"read": 0.01}, "less than one document"),
    ):
        with pytest.raises(ProblemsError, match=said):
            parts(weights, limits)


def test_losses_by_source_add_up_to_the_loss(run: Path) -> None:
    words = [
        *("experiment=smoke", f"run_dir={run}", "name=m", "train.max_steps=2", "train.eval_every=2"),
        *("train.row_patches=128", "model.max_patches=512", "train.checkpoint_every=2", "data.mix.by=tokens"),
        *("data.sources.weights={read: 1, talks: 3}", "data.sources.max_epochs.talks=40"),
    ]
    train(build_config(words))
    rows = [json.loads(line) for line in (run / "models/m/metrics.jsonl").read_text().splitlines()]
    *steps, valid = rows
    for row in steps:
        counts = row["source_targets"]
        assert list(counts) == ["read", "talks"]
        total = sum(counts[name] * row["source_losses"][name] for name in counts if counts[name])
        assert total / sum(counts.values()) == pytest.approx(row["loss"], rel=1e-5)
    data = PreparedData(run / "data")
    for unit, size in (("unit", lambda one: one.num_frames), ("byte", lambda one: len(one.text.encode()))):
        by_source, sizes = valid[f"valid_bits_per_{unit}_by_source"], dict.fromkeys(("read", "talks"), 0)
        for utterance in data.valid:
            sizes[utterance.provenance.corpus] += size(utterance)
        mean = sum(by_source[name] * sizes[name] for name in sizes) / sum(sizes.values())
        assert mean == pytest.approx(valid[f"valid_bits_per_{unit}"], rel=1e-6)
    events = (run / "models/m/tensorboard").glob("events*")
    assert b"source_losses/talks" in next(events).read_bytes()
    settings = json.loads((run / "models/m/settings.json").read_text())
    assert settings["sources"]["weights"] == {"read": 1.0, "talks": 3.0}
    with pytest.raises(UserError, match=r"sources\.weights"):
        train(build_config([*words, "data.sources.weights.read=2", "train.max_steps=4"]))


def test_corpora_that_cannot_be_read_are_all_named(both: str, tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    with pytest.raises(ProblemsError) as raised:
        prepare(tmp_path / "data", options(Path(f"[a={tmp_path / 'a'},units={tmp_path / 'units'},{both[1:]}")))
    assert re.search(r"a: corpus .* does not exist", str(raised.value))
    assert "units: corpus" in str(raised.value)
    (tmp_path / "units/train.on_the_fly").write_text("{}\n")
    with pytest.raises(UserError, match="hold units of a codebook of their own"):
        prepare(tmp_path / "data", options(Path(f"[units={tmp_path / 'units'},{both[1:]}")))


def row(name: str, corpus: str = "", source: str = "", duration_s: float = 1.0, split: str = "train") -> ManifestRow:
    provenance = Provenance(corpus, source)
    return ManifestRow(name, Path(f"/{corpus}/{name}.wav"), "a", "s", split, duration_s, provenance=provenance)


def test_only_ids_that_collide_get_the_name_of_their_corpus() -> None:
    rows = [row("u1", "a"), row("u2", "a"), row("u1", "b"), row("b-u1", "b")]
    first, second, third, fourth = (one.id for one in ids_apart(rows))
    assert (first, second, fourth) == ("a-u1", "u2", "b-u1")
    assert re.fullmatch(r"b-u1-[0-9a-f]{8}", third)


def test_codebooks_hear_as_much_of_each_corpus() -> None:
    rows = [row(f"l{n}", "large") for n in range(1_000)] + [row(f"s{n}", "small") for n in range(30)]
    chosen = training_rows(rows, TokenizerConfig(frame_rate_hz=25, fit_max_frames=25 * 40), seed=0)
    counts = [sum(one.provenance.corpus == name for one in chosen) for name in ("large", "small")]
    assert counts == [20, 20]
    chosen = training_rows(rows, TokenizerConfig(frame_rate_hz=25, fit_max_frames=25 * 100), seed=0)
    assert sum(one.provenance.corpus == "small" for one in chosen) == 30
    assert len(chosen) == 100
    assert sum(even_shares({"a": 1, "b": 5, "c": 9}, 9).values()) == 9


def test_rows_of_one_corpus_are_apart_by_their_source_unless_these_are_too_many() -> None:
    def sources(rows: list[ManifestRow]) -> set[str]:
        return {shard.source for shard in arrange(rows, [], [], [], 4, lambda number: {}).shards if shard.num_rows}

    few = [row(f"u{n}", source=f"show {n % 3}") for n in range(12)]
    assert sources(few) == {"show 0", "show 1", "show 2"}
    assert sources([row(f"u{n}", source=f"page {n}") for n in range(MOST_SOURCES + 1)]) == {""}
    named = [row(f"u{n}", "ab"[n % 2], f"page {n}") for n in range(MOST_SOURCES + 1)]
    assert sources(named) == {"a", "b"}


def test_a_corpus_without_a_layout_is_told_on_one_line(both: str, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.md").write_text("x")
    with pytest.raises(ProblemsError) as raised:
        prepare(tmp_path / "data", options(Path(f"{both[:-1]},none={tmp_path / 'none'}]")))
    (problem,) = raised.value.problems
    assert re.match(r"none: corpus .* has no known layout\. Looked for: ", problem)
    assert not re.search(r"\n|\\n", problem)


def test_text_pieces_alone_are_fitted_to_an_even_sample(
    both: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tokenizer.text_vocab_size=300", "tokenizer.text_max_lines=6", "data.min_duration_s=0.1"]
    assert main(["tokenizer", "fit-text", f"corpus={both}", *words, f"out={tmp_path / 'text.model'}"]) == 0
    assert "text pieces are fitted to 3 lines of read, 3 lines of talks" in capsys.readouterr().err
