"""``lst eval`` on data with questions: rows of every ending, scores that follow from the rows, and what is printed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lst.cli import main
from lst.configs.compose import build_config
from lst.evaluation import Scorer, direction_scores, question_items, usable_questions
from lst.evaluation.accuracy import credits_of
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
    # Three strata of two questions, four directions, two endings.
    assert len(rows) == 6 * 4 * 2
    assert result["questions"] == direction_scores(rows, 100, 0), "every number follows from the rows"
    assert list(result["questions"]) == list(DIRECTIONS)
    for score in result["questions"].values():
        assert {name: own["num_items"] for name, own in score["strata"].items()} == {
            "all": 6,
            "name": 2,
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
    for kind, num_items in (("questions", 6), ("cloze", 6)):
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
