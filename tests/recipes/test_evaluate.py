"""One bad model, item or utterance does not end the others; results name the corpus that they are of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from html_page import Page
from made_run import make_overrides, make_run, make_utterance, write_data

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.prepared import PreparedData
from lst.errors import ProblemsError, UserError
from lst.evaluation import Scorer, usable_utterances
from lst.evaluation.results import NO_CLOZE
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.report.write import write_report
from lst.recipes.training.batches import check_held_out_lengths
from lst.recipes.training.held_out import held_out_items
from lst.runs import RunFolder, open_data, open_trained, plain_patching
from lst.storage import write_json

FEW = ["eval.max_items=2", "eval.bootstrap_samples=100"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "run"
    make_run(root)
    shutil.rmtree(root / "eval")
    for name in ("baseline", "static"):
        write_json(RunFolder(root).model(name) / "settings.json", {"data": PreparedData(root / "data").fingerprint})
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def save(run: Path, name: str, *options: str, nan: bool = False) -> None:
    """A model of the run's data with random weights."""
    config = build_config([*make_overrides(run), "patching=static", *options])
    vocabulary = open_data(config).vocabulary
    model = LatentSpeechTextModel(config.model, vocabulary.size, 0)
    if nan:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
    save_model(RunFolder(run).final(name), model, config.patching, vocabulary.to_dict())


def result_of(run: Path, name: str) -> dict:
    return json.loads((run / "eval" / f"{name}.json").read_text())


def test_bad_models_are_listed_and_the_others_evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(run, "unwell", nan=True)
    (run / "models/baseline/final/model.safetensors").write_bytes(b"cut")
    assert main(["eval", f"run_dir={run}", *FEW]) == 2
    told = capsys.readouterr()
    assert "2 of 3 models are not evaluated" in told.err
    listed = told.err.rpartition("models are not evaluated")[2]
    assert "unwell: " in listed
    assert "not finite" in listed or "NaN" in listed
    assert "baseline: " in listed
    assert "static " in told.out, "the results of the others are shown"
    assert {path.name for path in (run / "eval").glob("*.json")} == {"contamination.json", "static.json"}


def test_another_corpus_has_a_result_of_its_own_which_the_report_names(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, audio = PreparedData(run / "data"), tmp_path / "other/audio"
    audio.mkdir(parents=True)
    splits = {
        split: [make_utterance(40 + n, audio, u.text, u.duration_s) for n, u in enumerate(reader)]
        for split, reader in (("train", data.train), ("valid", data.valid))
    }
    write_data(RunFolder(tmp_path / "other"), {**splits, "text": list(data.text)})
    other = tmp_path / "other/data"
    index = json.loads((other / "index.json").read_text())
    write_json(other / "index.json", {**index, "description": "recordings of trams"})
    words = [f"run_dir={run}", *FEW]
    assert main(["eval", *words]) == 0
    before = (run / "eval/static.json").read_bytes()
    assert main(["eval", *words, f"data_dir={other}"]) == 0
    assert "held-out speech and text of: recordings of trams" in capsys.readouterr().out
    assert (run / "eval/static.json").read_bytes() == before, "nothing is overwritten"
    fingerprint = PreparedData(other).fingerprint
    found = result_of(run, f"static@{fingerprint[:12]}")
    assert (found["corpus"], found["data"]) == ("recordings of trams", fingerprint)
    assert (run / "eval" / f"static@{fingerprint[:12]}.items.jsonl").exists()
    assert result_of(run, "static")["corpus"] == data.index["description"]
    text = Page(write_report(build_config(make_overrides(run)), make_overrides(run)).read_text()).texts["results"]
    own, _, foreign = text.partition("On another corpus: recordings of trams")
    assert "of made-up tones" in own
    assert "recordings of trams, which these models were not trained on" in foreign
    assert f"{found['bits']['bits_per_unit']:.3f}" in foreign


def take_words(run: Path, is_kept: Callable[[int], bool]) -> None:
    """Writes the run's data anew, with the words and texts of some held-out utterances alone."""
    data = PreparedData(run / "data")
    bare = {
        split: [u if split == "valid" and is_kept(n) else replace(u, text="", words=()) for n, u in enumerate(reader)]
        for split, reader in (("train", data.train), ("valid", data.valid))
    }
    write_data(RunFolder(run), {**bare, "text": list(data.text)})
    shutil.rmtree(run / "models")
    for name in ("one", "other"):
        save(run, name)


def test_speech_without_words_is_told_in_bits_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_words(run, lambda number: False)
    assert main(["eval", f"run_dir={run}", "--dry-run"]) == 0
    assert NO_CLOZE in capsys.readouterr().out
    assert main(["eval", f"run_dir={run}", *FEW]) == 0
    result = result_of(run, "one")
    units = result["bits"]["bits_per_unit"]
    assert (result["cloze"], result["bits"]["bits_per_byte"], result["bits"]["num_bytes"]) == ({}, None, 0)
    assert result["bits"]["num_units"] == sum(u.num_frames for u in PreparedData(run / "data").valid)
    told = capsys.readouterr().out
    head, row = (line.split() for line in told.partition(f"{NO_CLOZE}\n")[2].splitlines()[:2])
    assert list(zip(head, row, strict=True))[:3] == [
        ("model", "one"),
        ("bits/unit", f"{units:.3f}"),
        ("bits/byte", "–"),
    ]
    assert f"costs {units:.3f} (one) and {units:.3f} (other) bits a unit; {NO_CLOZE}." in told
    page = Page(write_report(build_config(make_overrides(run)), make_overrides(run)).read_text())
    for section in ("results", "items"):
        assert NO_CLOZE.capitalize() in " ".join(page.texts[section].split())
    summary = json.loads((run / "results.json").read_text())
    assert NO_CLOZE in summary["verdict"]
    assert [(one["directions"], one["bits"]) for one in summary["models"]] == [({}, result["bits"])] * 2
    assert main(["compare", str(run), f"out={tmp_path / 'page.html'}"]) == 0
    told = f"one ({units:.3f} bits a unit) and other ({units:.3f} bits a unit): {NO_CLOZE}."
    assert told in capsys.readouterr().out
    compared = (tmp_path / "page.html").read_text()
    assert told in compared
    assert "not evaluated" not in compared
    assert main(["runs", str(run)]) == 0
    assert "accuracies" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"train\.eval_items=4: no cloze is possible"):
        held_out_items(build_config([*make_overrides(run), "train.eval_items=4"]), PreparedData(run / "data"))


def test_of_a_mixture_those_with_words_make_cloze_items(run: Path) -> None:
    take_words(run, lambda number: number != 1)
    assert main(["eval", f"run_dir={run}", FEW[1]]) == 0
    result, valid = result_of(run, "one"), list(PreparedData(run / "data").valid)
    assert result["cloze"]["S→S"]["num_items"] == 3
    assert result["left_out"] == []
    assert result["bits"]["num_units"] == sum(u.num_frames for u in valid)
    assert result["bits"]["num_bytes"] == sum(len(u.text.encode()) for u in valid)
    rows = [json.loads(line) for line in (run / "eval/one.bits.jsonl").read_text().splitlines()]
    assert [row["text_bits"] == 0 for row in rows] == [False, True, False, False]


def test_what_is_longer_than_the_context_is_listed_and_left_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(run, "short", "model.max_patches=80", "train.row_patches=64")
    assert main(["eval", f"run_dir={run}", FEW[1]]) == 0
    told = capsys.readouterr()
    left_out = result_of(run, "short")["left_out"]
    assert {"id": "utterance-3", "reason": "90 patches, and the model's context is 80"} in left_out
    assert "short: utterance-3 is left out: 90 patches" in told.err
    assert "short: " in told.out
    assert "left out" in told.out
    assert result_of(run, "static")["left_out"] == []
    assert result_of(run, "short")["bits"]["num_units"] < result_of(run, "static")["bits"]["num_units"]
    page = Page(write_report(build_config(make_overrides(run)), make_overrides(run)).read_text())
    assert "utterance-3: 90 patches, and the model's context is 80" in " ".join(page.texts["results"].split())


def test_a_model_that_can_read_nothing_does_not_say_how_to_train_another(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(run, "tiny", "model.max_patches=8", "train.row_patches=8")
    assert main(["eval", f"run_dir={run}", *FEW]) == 2
    told = capsys.readouterr().err
    assert "tiny can read no held-out cloze item" in told
    assert "raise" not in told
    assert "model.max_patches" not in told


def test_utterances_without_speech_are_listed(run: Path) -> None:
    config = build_config(make_overrides(run))
    scorer = Scorer.of(open_trained(RunFolder(run), "static", open_data(config)), config)
    whole = scorer.trained.data.valid[0]
    silent = replace(whole, id="silent", units=np.zeros(0, np.uint16), words=())
    mute = replace(whole, id="mute", text="", words=())
    kept, left_out = usable_utterances(scorer, [silent, whole, mute])
    assert [utterance.id for utterance in kept] == [whole.id, "mute"]
    assert [one["id"] for one in left_out] == ["silent"]
    assert all(one["reason"] for one in left_out)


def test_a_training_names_every_held_out_utterance_that_is_too_long(run: Path) -> None:
    options = ["patching=static", "model.max_patches=55", "train.row_patches=55", "train.eval_utterances=1"]
    config = build_config([*make_overrides(run), *options])
    data = open_data(config)
    with pytest.raises(ProblemsError, match=r"longer than model\.max_patches=55") as raised:
        check_held_out_lengths(config, data, plain_patching(config.patching, data))
    assert [problem.partition(":")[0] for problem in raised.value.problems] == [
        f"utterance-{number}" for number in (3, 4, 5)
    ]
