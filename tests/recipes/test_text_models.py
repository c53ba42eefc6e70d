"""Language models of text alone: trained, stopped and resumed, and scored by perplexity, without any speech."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_texts import prepare_words, write_stories
from small_trainings import has_equal_weights, metrics

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.prepared import PreparedData
from lst.evaluation.perplexity import TextRow, read_text_result, text_scores, text_windows
from lst.evaluation.scorer import Scorer
from lst.recipes.runs.read import read_model
from lst.runs import RunFolder, open_trained
from lst.storage import read_jsonl

STATE_SPACE = "model.positions=none model.norm=layer model.ffn=gelu model.global_layers=2 model.ssm_modes=4"
MODELS = {
    "transformer": "model.global_layers=2",
    "h3": f"model.global_mixers=[h3] {STATE_SPACE}",
    "hybrid": f"model.global_mixers=[h3,attention] {STATE_SPACE}",
    "s4d": f"model.global_mixers=[s4d] {STATE_SPACE}",
}
SIZES = "model.global_dim=16 model.global_heads=2 model.ffn_multiple_of=8"
STEPS = "train.max_steps=4 train.rows=2 train.row_patches=48 train.eval_every=2 train.checkpoint_every=2"


def train_words(run: Path, name: str, own: str) -> list[str]:
    base = "model=baseline_tiny patching=none" if "static" not in name else "model=lst_tiny patching=static"
    return ["train", f"run_dir={run}", f"name={name}", *f"{base} {SIZES} {STEPS} {own}".split()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared text, and a model of each kind trained on it."""
    run = tmp_path_factory.mktemp("text_models")
    assert main(prepare_words(run, write_stories(run / "text"))) == 0
    for name, own in MODELS.items():
        assert main(train_words(run, name, own)) == 0
    return run


def test_each_kind_of_model_is_scored_on_the_same_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={run}"]) == 0
    told = capsys.readouterr().out
    data, folder = PreparedData(run / "data"), RunFolder(run)
    num_bytes = sum(len(text.text.encode()) for text in data.valid)
    num_tokens = sum(len(data.tokenizer.encode(text.text)) for text in data.valid)
    for name in MODELS:
        found = read_text_result(folder.eval_text(name))
        assert (found["num_texts"], found["num_tokens"], found["num_bytes"]) == (len(data.valid), num_tokens, num_bytes)
        assert found["context_tokens"] == 48
        nats = sum(row["nats"] for row in read_jsonl(folder.eval_text_rows(name), TextRow))
        assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / num_tokens))
        assert found["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / num_bytes)
        assert found["byte_perplexity"]["value"] == pytest.approx(2 ** found["bits_per_byte"]["value"])
        low, high = found["perplexity"]["low"], found["perplexity"]["high"]
        assert low is not None
        assert high is not None
        assert low < found["perplexity"]["value"] < high
        assert f"{name} " in told
        assert f"{found['perplexity']['value']:.2f} [" in told
    assert "num_units" not in told
    assert main(["eval", f"run_dir={run}"]) == 0
    assert capsys.readouterr().err.count("is evaluated: nothing to do") == len(MODELS)


def test_scores_are_those_of_one_document_within_the_context(run: Path) -> None:
    config = build_config([f"run_dir={run}"])
    trained = open_trained(RunFolder(run), "transformer", PreparedData(run / "data"))
    scorer = Scorer.of(trained, config)
    text = trained.data.valid[0]
    assert text.pieces is not None
    whole = scorer.builder.text(text)
    windows = text_windows(scorer.builder, text, 16)
    scored = np.concatenate([document.token_ids[tokens] for document, tokens in windows])
    assert scored.tolist() == whole.token_ids[2:-1].tolist() == text.pieces.tolist()
    assert max(len(document) for document, _ in windows) <= 16
    ((alone, tokens),) = text_windows(scorer.builder, text, 4096)
    with torch.inference_mode():
        (by_score,) = scorer.score([(alone, tokens)])
        (of_whole,) = scorer.score([(whole, slice(2, len(whole) - 1))])
    assert by_score.sum_nats == pytest.approx(of_whole.sum_nats)


def test_one_text_gives_no_interval() -> None:
    row: TextRow = {"text": "a", "num_tokens": 4, "num_bytes": 8, "nats": 4 * math.log(10)}
    alone = text_scores([row], 100, 0)
    assert alone["perplexity"] == {"value": pytest.approx(10.0), "low": None, "high": None}
    both = text_scores([row, {**row, "text": "b", "nats": 4 * math.log(20)}], 200, 0)
    assert both["perplexity"]["low"] == pytest.approx(10)
    assert both["perplexity"]["high"] == pytest.approx(20)


@pytest.mark.parametrize("name", ["transformer", "h3"])
def test_a_training_goes_on_bit_for_bit(run: Path, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    model = folder / "models" / name
    shutil.rmtree(model / "final")
    shutil.rmtree(model / "checkpoints" / "step-00000004")
    assert main(train_words(folder, name, MODELS[name])) == 0
    assert has_equal_weights(model / "final", run / "models" / name / "final")
    assert metrics(folder, name) == metrics(run, name)
    rows = metrics(run, name)
    assert [sorted(row) for row in rows if "loss" not in row] == [["step", "valid_bits_per_byte"]] * 2
    assert {row["speech_tokens"] for row in rows if "loss" in row} == {0}


def test_patches_hold_a_text_token_each_and_fitted_ones_need_speech(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run / "data", folder / "data")
    assert main([*train_words(folder, "static", "model.encoder_layers=1 model.decoder_layers=1"), "--dry-run"]) == 0
    assert main(train_words(folder, "static", "model.encoder_layers=1 model.decoder_layers=1")) == 0
    assert all(row["patches"] == row["tokens"] for row in metrics(folder, "static") if "loss" in row)
    assert main(["eval", f"run_dir={folder}"]) == 0
    for words, told in (
        (["patching=speech_bpe"], "is fitted to training speech, and there are 0"),
        (["data.mix.text=0"], "holds text alone, so nothing is left to train on"),
    ):
        assert main([*train_words(folder, "other", ""), *words]) == 2
        assert told in capsys.readouterr().err


def test_commands_that_tell_about_speech_say_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", f"run_dir={run}"]) == 2
    assert "lst card tells about speech, and" in capsys.readouterr().err
    assert main(["export", f"run_dir={run}"]) == 2
    assert "holds no speech to export" in capsys.readouterr().err
    prompt = ["generate", f"run_dir={run}", "name=hybrid", "generate.text=the boat", "generate.max_new_tokens=3"]
    assert main(prompt) == 0
    capsys.readouterr()
    assert main([*prompt, "generate.modality=speech"]) == 2
    assert "the model's vocabulary has no speech" in capsys.readouterr().err


def test_a_report_of_text_tells_perplexities_and_shows_curves(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"run_dir={run}", "--dry-run"]) == 0
    assert main(["eval", f"run_dir={run}"]) == 0
    RunFolder(run).eval_text("h3").unlink()
    assert main(["report", f"run_dir={run}"]) == 0
    page = (run / "report.html").read_text()
    found = read_text_result(RunFolder(run).eval_text("hybrid"))
    assert f"<td>{found['perplexity']['value']:.2f}" in page
    assert f"{found['bits_per_byte']['low']:.4f}–{found['bits_per_byte']['high']:.4f}" in page
    assert "Not evaluated: h3. Run lst eval." in page
    assert "held-out text, bits a byte" in page
    assert "lst prepare" in page
    for word in ("held-out speech", "bits a unit", "codebook", "lst quickstart"):
        assert word not in page.partition("Resolved configuration")[0].partition("</style>")[2], word


def test_runs_list_the_bits_of_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={run}"]) == 0
    before = read_model(run, "h3")
    assert (before["bits_per_unit"], before["is_evaluated"]) == (None, True)
    found = read_text_result(RunFolder(run).eval_text("h3"))
    assert before["bits_per_byte"] == found["bits_per_byte"]["value"]
    assert main(["eval", f"run_dir={run}", "--dry-run"]) == 0
    assert f"{len(MODELS)} models on" in capsys.readouterr().out
