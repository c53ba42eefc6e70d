"""``lst eval`` on data with questions: rows of every ending, scores that follow from the rows, and what is printed."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import getitem
from pathlib import Path

import numpy as np
import pytest

import lst.evaluation.ceilings as ceilings_module
from lst.cli import main
from lst.configs.compose import build_config
from lst.evaluation import Scorer, direction_scores, question_items, usable_questions
from lst.evaluation.accuracy import credits_of
from lst.evaluation.ceilings_results import read_ceilings
from lst.evaluation.contamination import check_contamination, read_contamination
from lst.evaluation.controls import CONTROLS
from lst.evaluation.likelihoods import item_documents
from lst.evaluation.results import DIRECTIONS, read_result
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_documents
from lst.runs import RunFolder, open_data, open_trained

STORIES = [
    *("corpus=simulated", "data.stories=mini", "data.num_spoken_stories=12", "data.num_text_stories=8"),
    *("data.num_questions=2", "data.valid_share=0.5", "tokenizer.text_vocab_size=300", "card.after_prepare=false"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("questions") / "run"
    assert main(["prepare", f"run_dir={root}", *STORIES, "num_workers=1"]) == 0
    config = build_config([f"run_dir={root}", "model=lst_debug", "patching=static"])
    vocabulary = open_data(config).vocabulary
    model = LatentSpeechTextModel(config.model, vocabulary.size, 0)
    save_model(RunFolder(root).final("static"), model, config.patching, vocabulary.to_dict())
    return root


def test_questions_are_scored_in_all_directions_and_strata(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={run}", "eval.bootstrap_samples=100"]) == 0
    told = capsys.readouterr().out
    result = json.loads((run / "eval/static.json").read_text())
    rows = [json.loads(line) for line in (run / "eval/static.questions.jsonl").read_text().splitlines()]
    # Four strata of two questions, four directions, two endings.
    assert len(rows) == 8 * 4 * 2
    assert result["questions"] == direction_scores(rows, 100, 0), "every number follows from the rows"
    assert list(result["questions"]) == list(DIRECTIONS)
    for score in result["questions"].values():
        assert {name: own["num_items"] for name, own in score["strata"].items()} == {
            "all": 8,
            "name": 2,
            "story": 2,
            "thing": 2,
            "topic": 2,
        }
    assert "S→S by swap, T→T by mean, S→T by mean, T→S by swap" in told
    assert sum(line.split()[:2] == ["static", "name"] for line in told.splitlines()) == 1


def test_controls_stand_beside_questions_and_cloze(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={run}", "eval.bootstrap_samples=100"]) == 0
    result = read_result(run / "eval/static.json")
    assert result is not None
    rows = [json.loads(line) for line in (run / "eval/static.controls.jsonl").read_text().splitlines()]
    for kind, num_items in (("questions", 8), ("cloze", 6)):
        own = [row for row in rows if row["items"] == kind]
        assert len(own) == 2 * num_items
        found = result["controls"][kind]
        assert list(found) == list(CONTROLS)
        for name, score in found.items():
            if CONTROLS[name].needs_sound:
                assert "simulated speech" in score["missing"]
                assert score["strata"] == {}
                continue
            credits = credits_of(
                [row["item"] for row in own],
                np.array([row["scores"][name] for row in own]),
                [row["is_true"] for row in own],
            )
            assert score["strata"]["all"]["accuracy"] == pytest.approx(np.mean(list(credits.values())))


def test_endings_of_a_name_differ_by_the_name_alone(run: Path) -> None:
    questions = [json.loads(line) for line in (run / "data/questions.jsonl").read_text().splitlines()]
    texts = {part.id: part.text for part in open_data(build_config([f"run_dir={run}"])).question_parts}
    for question in (one for one in questions if one["stratum"] == "name"):
        first, second = (texts[name].split() for name in question["endings"])
        assert len(first) == len(second)
        assert sum(a != b for a, b in zip(first, second, strict=True)) == 1


def test_questions_that_a_model_cannot_read_are_named_and_left_out(run: Path) -> None:
    config = build_config([f"run_dir={run}", "model=lst_debug", "patching=static"])
    data = open_data(config)
    scorer = Scorer.of(open_trained(RunFolder(run), "static", data), config)
    items = question_items(data.questions, {part.id: part for part in data.question_parts})
    longest = {
        item.id: max(
            len(patch_documents([document], "static", config.patching)[0])
            for document, _ in item_documents(scorer.builder, item)
        )
        for item in items
    }
    limit = sorted(longest.values())[2]
    short = build_config(
        [f"run_dir={run}", "model=lst_debug", f"model.max_patches={limit}", f"train.row_patches={limit}"]
    )
    model = LatentSpeechTextModel(short.model, data.vocabulary.size, 0).eval()
    kept, left_out = usable_questions(replace(scorer, trained=replace(scorer.trained, model=model)), items)
    assert {item.id for item in kept} == {name for name, length in longest.items() if length <= limit}
    assert {one["id"] for one in left_out} == {name for name, length in longest.items() if length > limit} != set()
    assert all(f"the model's context is {limit}" in one["reason"] for one in left_out)


def test_ceilings_stand_beside_the_results_and_are_measured_once(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["eval", f"run_dir={run}", "eval.bootstrap_samples=100", "eval.ceiling_utterances=4"]
    assert main(words) == 0
    told = capsys.readouterr().out
    ceilings = read_ceilings(run / "eval/ceilings.json")
    assert (ceilings["num_stories"], ceilings["num_known"]) == (8748, 14)
    oracles = {oracle["name"]: oracle["questions"] for oracle in ceilings["oracles"]}
    assert list(oracles) == ["ideal listener", "topic alone", "2-gram", "3-gram", "4-gram", "5-gram"]
    assert list(oracles["ideal listener"]) == list(DIRECTIONS)
    assert list(oracles["3-gram"]) == ["T→T"]
    for direction in DIRECTIONS:
        own = oracles["ideal listener"][direction]
        assert getitem(own["strata"]["all"], own["headline"])["accuracy"] == 1
    assert oracles["topic alone"]["T→T"]["strata"]["name"]["mean"]["accuracy"] == 0.5
    assert ceilings["entropy"] is not None
    assert ceilings["entropy"]["num_utterances"] == 4
    assert len((run / "eval/ceilings.utterances.jsonl").read_text().splitlines()) == 4
    # A model that has learnt nothing: no model's mean bits lie below the floor.
    (model,) = ceilings["models"]
    assert model["name"] == "static"
    assert min(model["units"]["low"], model["bytes"]["low"]) > 0
    (shown,) = [line for line in told.splitlines() if line.startswith("ideal listener  S→T")]
    assert shown.split("  ")[-1].startswith("all 100.0, ")
    assert sum(line.startswith("3-gram ") for line in told.splitlines()) == 1
    assert "floor, 14 of 8,748 stories known from training" in told
    monkeypatch.setattr(ceilings_module.StoryData, "oracles", None)
    assert main(words) == 0
    assert capsys.readouterr().out == told


def test_bits_of_single_utterances_add_up(run: Path) -> None:
    assert main(["eval", f"run_dir={run}", "eval.bootstrap_samples=100"]) == 0
    rows = [json.loads(line) for line in (run / "eval/static.bits.jsonl").read_text().splitlines()]
    bits = json.loads((run / "eval/static.json").read_text())["bits"]
    assert len(rows) == 6
    assert sum(row["unit_bits"] for row in rows) / sum(row["num_units"] for row in rows) == bits["bits_per_unit"]
    assert sum(row["text_bits"] for row in rows) / sum(row["num_bytes"] for row in rows) == bits["bits_per_byte"]


def test_no_model_takes_the_name_of_the_ceilings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "name=ceilings"]) == 2
    assert "name=ceilings: results of lst eval have a file of this name" in capsys.readouterr().err


def test_items_that_occur_in_the_training_are_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={run}", "eval.bootstrap_samples=100"]) == 0
    told = capsys.readouterr().out
    path = run / "eval/contamination.json"
    found = read_contamination(path)
    assert found["trained_on"] == found["data"] == open_data(build_config([f"run_dir={run}"])).fingerprint
    assert {kind: own["num_items"] for kind, own in found["kinds"].items()} == {
        "held_out": 6,
        "cloze": 6,
        "questions": 8,
    }
    for own in found["kinds"].values():
        assert own["num_whole"] <= own["num_shared"] <= own["num_items"]
    assert f"8 questions: {found['kinds']['questions']['num_whole']} seen whole" in told
    before = path.stat().st_mtime_ns
    words = [f"run_dir={run}", "eval.bootstrap_samples=100"]
    assert main(["eval", *words]) == 0
    assert path.stat().st_mtime_ns == before

    def check(*more: str) -> None:
        config = build_config([*words, *more])
        check_contamination(config, RunFolder(run), open_data(config), ["static"])

    check("eval.ngram=3")
    assert read_contamination(path)["kinds"]["questions"]["num_shared"] == 8, "stories of one grammar share words"
    path.unlink()
    check("eval.ngram=0")
    assert not path.exists()
    (run / "models/static/settings.json").write_text(json.dumps({"version": 1, "data": "another"}))
    check()
    assert (
        "is not the data that the models were trained on"
        in read_contamination(RunFolder(run).contamination(open_data(build_config(words)).fingerprint))["missing"]
    )
    (run / "models/static/settings.json").unlink()
