"""Failures are counted by cause, and work stops when the limit cannot be kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lst.data.alignment.formats.textgrid import read_textgrid_tiers, textgrid_of
from lst.data.checks.prepared import check_prepared
from lst.data.prepare import failures
from lst.data.prepare.failures import Failures, chance_of_more
from lst.data.prepare.prepare import prepare
from lst.data.shards import Receipt, ShardReader
from lst.errors import ProblemsError
from tests.data.conftest import SENTENCES, MakeCorpus, hashes, left_out, options

OTHERS = dict(enumerate((*SENTENCES[3:], *SENTENCES[:3])))


def receipt(num_made: int, num_failed: int, reason: str = "cut file: x", name: str = "train-000000") -> Receipt:
    skipped = [{"id": f"u{number}", "reason": reason} for number in range(num_failed)]
    return {"name": name, "num_utterances": num_made, "skipped": skipped}  # type: ignore[typeddict-item]


def test_work_goes_on_while_the_limit_can_be_kept() -> None:
    tally = Failures(1_000, 0.1)
    tally.add_shard(receipt(55, 9))
    assert not tally.cannot_keep()
    tally.add_shard(receipt(0, 64, "text of another recording: y"))
    assert tally.cannot_keep()
    assert tally.note() == "73 utterances failed (text of another recording 64, cut file 9)"
    message = str(tally.error("left_out.jsonl"))
    assert "73 utterances failed of the first 128 of 1,000 (57.0%), 10.0% are allowed" in message
    assert "look whether rows are shifted" in message
    assert "Cut files: copy" in message
    written = Failures(1_000, 0.0)
    written.add_shard(receipt(0, 64, name="text-000000"))
    assert (written.note(), written.cannot_keep()) == ("0 utterances failed", False)


def test_by_count_it_is_certain_and_the_last_ones_are_always_made() -> None:
    tally = Failures(400, 0.2)
    for _ in range(5):
        tally.add_shard(receipt(48, 16))
    assert not tally.cannot_keep()
    tally = Failures(400, 0.2)
    tally.add_shard(receipt(239, 81))
    assert tally.cannot_keep()
    tally.add_shard(receipt(40, 0))
    assert not tally.cannot_keep()


def test_the_bound_is_above_the_chance_and_near_it() -> None:
    generator = np.random.default_rng(0)
    seen = generator.binomial(100, 0.1, 200_000)
    for num_failed in (12, 16, 20):
        chance = float((seen >= num_failed).mean())
        assert chance <= chance_of_more(num_failed, 100, 0.1) <= 12 * chance + 1e-3
    assert chance_of_more(5, 100, 0.1) == 1.0
    assert chance_of_more(1, 100, 0.0) == 0.0


def test_prepare_stops_early_and_a_mended_corpus_goes_on(
    make_corpus: MakeCorpus, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "LEAST_UTTERANCES", 2)
    shifted = make_corpus(tmp_path / "corpora" / "corpus", texts=OTHERS)
    folder = tmp_path / "data"
    with pytest.raises(ProblemsError, match=r"stopped early: 2 utterances failed of the first 2 of 8") as stopped:
        prepare(folder, options(shifted))
    assert "Causes: text of another recording 2" in str(stopped.value)
    assert len(left_out(folder)) == 2
    assert not (folder / "index.json").exists()
    mended = make_corpus(tmp_path / "mended" / "corpus")
    (mended / "manifest.jsonl").replace(shifted / "manifest.jsonl")
    index = prepare(folder, options(shifted))
    assert index is not None
    assert index["num_unaligned"] == 0
    tars = {name: sha for name, sha in hashes(prepared).items() if name.endswith(".tar")}
    assert tars == {name: sha for name, sha in hashes(folder).items() if name.endswith(".tar")}


def test_opposite_channels_cost_their_recording_and_a_wrong_word_that_word(
    make_corpus: MakeCorpus, sounds: list[np.ndarray], tmp_path: Path
) -> None:
    texts = {1: "Ben found a [cough] small key.", 2: "The old dog slept extraordinary all day."}
    corpus = make_corpus(tmp_path / "corpus", texts, {3: np.stack([sounds[3], -sounds[3]], axis=1)})
    index = prepare(tmp_path / "data", options(corpus, max_unaligned_share=0.2))
    assert index is not None
    assert index["num_unaligned"] == 1
    (failed,) = left_out(tmp_path / "data")
    assert failed["reason"].startswith("opposite channels: channel 0 is as loud as speech")
    assert check_prepared(tmp_path / "data", True, 0).num_problems == 0
    found = {one.id: one for split in ("train", "valid") for one in ShardReader(tmp_path / "data", split)}
    missing = {name: [word.text for word in one.words if word.is_unaligned] for name, one in found.items()}
    assert missing == {name: ["extraordinary"] if name == "utt_2" else [] for name in found}
    assert found["utt_1"].text == texts[1]
    assert "a [cough]" in [word.text for word in found["utt_1"].words]
    (grid,) = read_textgrid_tiers(textgrid_of(found["utt_2"], 25).encode(), "grid")
    assert all(interval.end_s > interval.start_s for interval in grid.intervals)
