"""Adaptation to recognition: a trained model over-fitted on twenty utterances writes their words, and stops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_run import NUM_UNITS, write_data

from lst.cli import main
from lst.data.utterance import Utterance, Word
from lst.evaluation.adapted_results import AnswerRow
from lst.evaluation.error_rates import rate
from lst.runs import RunFolder
from lst.storage import read_jsonl

pytest.importorskip("jiwer", reason="jiwer is not installed (extra asr)")
NAMES = ["anna", "found", "a", "small", "red", "boat", "near", "the", "old", "mill", "today"]
TINY = ["model=lst_debug", "patching=static", "data.mix.paired=0"]
TINY += ["train.max_steps=2", "train.rows=1", "train.row_patches=64", "train.eval_utterances=1"]
ADAPTED = ["train.max_steps=260", "train.rows=2", "train.row_patches=128", "train.learning_rate=1e-2", "seed=1"]
ADAPTED += ["train.eval_every=200", "train.checkpoint_every=200", "data.num_streams=1", "data.pack_buffer=20"]


def spoken(number: int) -> Utterance:
    """Four to six words, each said with units of its own, two or three frames each."""
    rng = np.random.default_rng(number)
    words, units = [], []
    for name in rng.choice(len(NAMES), size=int(rng.integers(4, 7))).tolist():
        start = len(units)
        units += np.repeat([(name * 2) % NUM_UNITS, (name * 7 + 3) % NUM_UNITS], rng.integers(2, 4, size=2)).tolist()
        words.append(Word(NAMES[name], start, len(units), -1.0))
    text = " ".join(word.text for word in words)
    return Utterance(f"utterance-{number}", "s", text, len(units) / 25, np.array(units, np.uint16), tuple(words))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with twenty training utterances and a model that has hardly begun to learn."""
    root = tmp_path_factory.mktemp("adaptation") / "run"
    write_data(RunFolder(root), {"train": [spoken(n) for n in range(20)], "valid": [spoken(n) for n in range(20, 24)]})
    assert main(["train", f"run_dir={root}", "name=static", *TINY]) == 0
    return root


def test_word_errors_of_twenty_overfitted_utterances(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run / "models" / "static" / "final"
    words = ["experiment=asr", f"run_dir={run}", "name=words", f"model.init_from={source}"]
    assert main(["train", *words, *ADAPTED]) == 0
    assert f"begins as {source}, with all of its weights" in capsys.readouterr().err
    settings = json.loads((run / "models" / "words" / "settings.json").read_text())
    assert (settings["patching"]["strategy"], settings["mix"]["asr"], settings["mix"]["text"]) == ("static", 1, 0)
    evaluation = ["eval", f"run_dir={run}", "eval.task=asr", "eval.split=train", "eval.bootstrap_samples=100"]
    assert main([*evaluation, "--dry-run"]) == 0
    assert "asr by 1 models of 20 utterances (train)" in capsys.readouterr().out
    for beams in (1, 3):
        assert main([*evaluation, f"eval.beams={beams}"]) == 0
        (path,) = (run / "eval").glob("words@asr-train-*.adapted.json")
        result = json.loads(path.read_text())
        rates = result["sources"]["model"]
        assert rates["wer"]["rate"] <= 0.05, path.with_suffix(".jsonl").read_text()
        assert rates["wer"]["low"] <= rates["wer"]["rate"] <= rates["wer"]["high"]
        assert result["ended_by"] == {"stop": 20}
        rows = read_jsonl(path.with_suffix(".jsonl"), AnswerRow)
        assert sum(row["word_errors"] for row in rows) == rates["wer"]["num_errors"]
        wanted = sum(row["num_global_steps"] for row in rows) / sum(row["num_unpatched_steps"] for row in rows)
        assert result["length_ratio"] == pytest.approx(wanted)
        assert 0.3 < wanted < 1
    shown = capsys.readouterr().out
    assert "built-in 2, lower case, without punctuation; counted by jiwer" in shown
    assert main([*evaluation, "eval.beams=3"]) == 0
    assert "words is evaluated: nothing to do" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run / "models" / "static" / "final"
    begins = ["train", f"run_dir={run}", "experiment=tts", "name=m", f"model.init_from={source}", "train.max_steps=2"]
    for words, told in (
        ([*begins, "model.local_dim=24"], "model.local_dim=24: the model of model.init_from="),
        ([*begins, "patching.deduplicate=true"], "deduplicated"),
        ([*begins, "train.row_patches=16", "train.rows=1"], "raise train.row_patches"),
        (["eval", f"run_dir={run}", "eval.task=tts"], "no model of"),
        (["eval", f"run_dir={run}", "eval.beams=2"], "eval.beams=2: has no effect"),
        (["eval", f"run_dir={run}", "eval.task=asr", "eval.benchmark=x"], "a benchmark is scored"),
        (["eval", f"run_dir={run}", "eval.task=tts", "eval.recognise=faster-whisper"], "eval.recogniser_weights="),
    ):
        assert main(words) == 2, words
        assert told in capsys.readouterr().err


def test_an_interval_resamples_utterances() -> None:
    found = rate([0, 0, 3, 1], [4, 6, 3, 7], 500, 0)
    assert (found["rate"], found["num_errors"], found["num_wanted"]) == (0.2, 4, 20)
    assert found["low"] < 0.2 < found["high"]
    assert rate([0, 0], [3, 2], 100, 0) == {"rate": 0.0, "low": 0.0, "high": 0.0, "num_errors": 0, "num_wanted": 5}
