"""The benchmark of data: what it simulates is what it says, and its rates are of what it ran."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from lst.data.batches.loader import BatchLoader
from lst.data.corpora.manifest import read_manifest
from lst.recipes.benchmarks.data import ROW_PATCHES, ROWS, in_turns_s, simulated, simulated_plan, spoken_corpus


def test_simulated_utterances_are_as_long_as_librispeechs_and_the_same_each_time() -> None:
    corpus, tokenizer, vocabulary = simulated(10_000_000)
    chosen = [corpus[index] for index in range(9_999_500, 10_000_000)]
    for utterance in chosen:
        segments = utterance.segments()
        assert [a.end_frame for a in segments[:-1]] == [b.start_frame for b in segments[1:]]
        assert (segments[0].start_frame, segments[-1].end_frame) == (0, utterance.num_frames)
        assert utterance.units.max() < vocabulary.num_units
        assert utterance.text == " ".join(word.text for word in utterance.words)
    assert 31 < np.mean([len(utterance.words) for utterance in chosen]) < 35
    assert 11.5 < np.mean([utterance.duration_s for utterance in chosen]) < 13.5
    assert len({utterance.id for utterance in chosen}) == 500
    again = corpus[9_999_500]
    assert again.words == chosen[0].words
    assert np.array_equal(again.units, chosen[0].units)
    assert vocabulary.num_text == tokenizer.vocab_size


def test_batches_are_full_rows_of_the_1b_configuration() -> None:
    made = simulated(500)
    with BatchLoader(simulated_plan(made[0], made, num_streams=2)) as loader:
        for batch, state in islice(loader, 2):
            assert batch.patch_doc_ids.shape == (ROWS, ROW_PATCHES)
            assert state.waste < 0.005
    assert 1.8 < state.num_tokens / state.num_patches < 3


def test_least_times_are_of_each_function_alone() -> None:
    def busy(milliseconds: float) -> None:
        until = time.thread_time() + milliseconds / 1000
        while time.thread_time() < until:
            pass

    seconds = in_turns_s({"short": busy, "long": lambda item: busy(3 * item)}, [2.0, 4.0])
    assert seconds["short"] >= 0.006
    assert 2.5 < seconds["long"] / seconds["short"] < 3.5


def test_a_given_corpus_is_measured_itself(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    rows = [{"id": f"utt_{number}", "path": f"{number}.wav", "text": "a small key"} for number in range(3)]
    for row in rows:
        soundfile.write(tmp_path / "corpus" / row["path"], np.zeros(8_000, np.float32), 16_000)
    (tmp_path / "corpus" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "folder").mkdir()
    found = read_manifest(spoken_corpus(str(tmp_path / "corpus"), tmp_path / "folder"))
    assert [row.id for row in found] == ["utt_0", "utt_1", "utt_2"]
