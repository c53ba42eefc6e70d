"""The report of a run with questions: its verdict, its tables and its browser say what the evaluation says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page, check_self_contained, check_well_formed
from made_run import NASTY

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.questions import Question
from lst.evaluation.accuracy import HEADLINE, item_credits
from lst.evaluation.ceilings_results import read_ceilings
from lst.evaluation.results import DIRECTIONS, ItemRow, RunResults
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.report.questions import browser_section, drawn_questions, questions_section
from lst.recipes.report.record import RunRecord, read_run
from lst.recipes.report.results import results_section
from lst.recipes.report.write import report_page, write_results
from lst.runs import RunFolder, open_data
from lst.storage import read_json, read_jsonl
from lst.tokenizers.neural_codec import CodecTokenizer

WORDS = [
    *("corpus=simulated", "data.stories=mini", "data.num_spoken_stories=12", "data.num_text_stories=8"),
    *("data.num_questions=3", "data.valid_share=0.5", "tokenizer.text_vocab_size=300", "card.after_prepare=false"),
]
NAMES = {"baseline": ["model=baseline_debug", "patching=none"], "static": ["model=lst_debug", "patching=static"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated questions, answered by two models with random weights."""
    root = tmp_path_factory.mktemp("questions") / "run"
    assert main(["prepare", f"run_dir={root}", *WORDS, "num_workers=1"]) == 0
    for name, own in NAMES.items():
        config = build_config([f"run_dir={root}", *own])
        vocabulary = open_data(config).vocabulary
        model = LatentSpeechTextModel(config.model, vocabulary.size, 0)
        save_model(RunFolder(root).final(name), model, config.patching, vocabulary.to_dict())
    assert main(["eval", f"run_dir={root}", "eval.bootstrap_samples=100"]) == 0
    return root


def of_run(root: Path, *words: str) -> RunRecord:
    words = (f"run_dir={root}", *words)
    return read_run(build_config(words), words)


@pytest.fixture(scope="module")
def run(root: Path) -> RunRecord:
    return of_run(root, "report.num_questions=5")


@pytest.fixture(scope="module")
def page(run: RunRecord) -> Page:
    """The sections with questions and cloze items; plots of the others take seconds."""
    return Page(report_page(run, [questions_section(run), browser_section(run), results_section(run)]))


@pytest.fixture(scope="module")
def results(run: RunRecord) -> RunResults:
    assert run.summary is not None
    return run.summary


def test_the_page_opens_with_the_verdict_and_needs_nothing_else(page: Page, results: RunResults) -> None:
    check_self_contained(page)
    check_well_formed(page, ("questions", "browser", "results"))
    top = page.texts["top"]
    assert results["verdict"] in top
    assert results["verdict"].startswith("On simulated speech, static ")
    assert top.index(results["verdict"]) < top.index("2 language models")


def test_simulated_speech_is_called_so_wherever_its_numbers_are(page: Page, results: RunResults) -> None:
    for section in ("top", "questions", "browser", "results"):
        assert "simulated speech" in page.texts[section], section
    assert "synthesised speech" not in "".join(page.texts.values())
    assert results["speech"] == "simulated speech"


def test_lst_eval_ends_with_the_verdict(root: Path, results: RunResults, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run_dir={root}", "eval.bootstrap_samples=100"]) == 0
    told = capsys.readouterr().out
    assert told.rstrip().endswith(results["verdict"])
    assert re.search(r"^rate +[\d.]+ \[\d+–\d+\]. +[\d.]+ \[\d+–\d+\]. +whose speaking rate", told, re.MULTILINE)
    assert "level, pitch, join_level, join_spectrum, loudest, highest of questions: all of 12 items" in told


def test_tables_say_what_the_evaluation_says(page: Page, root: Path, results: RunResults) -> None:
    rows = [[cell.split() for cell in row] for row in page.rows["questions"]]
    for model in results["models"]:
        result = json.loads((root / "eval" / f"{model['name']}.json").read_text())
        start = next(n for n, row in enumerate(rows) if row[0][:1] == [model["name"]])
        for place, direction in enumerate(DIRECTIONS):
            cells = rows[start + place][-5:]
            strata = result["questions"][direction]["strata"]
            for cell, stratum in zip(cells, ("story", "all", "name", "thing", "topic"), strict=True):
                best, mean = strata[stratum][HEADLINE[direction]], strata[stratum]["mean"]
                low, high = f"{100 * best['low']:.1f}", f"{100 * best['high']:.1f}"
                assert cell == [
                    *(f"{100 * best['accuracy']:.1f}", f"{low}–{high}"),
                    *("mean", f"{100 * mean['accuracy']:.1f}"),
                ]
            own = model["directions"][direction]
            assert own["stratum"] == "story"
            assert own["accuracy"] == strata["story"][HEADLINE[direction]]["accuracy"]
            assert own["strata"]["all"]["accuracy"] == strata["all"][HEADLINE[direction]]["accuracy"]
            assert own["strata"]["name"]["low"] == strata["name"][HEADLINE[direction]]["low"]
    found = result["controls"]["questions"]
    for name, control in found.items():
        if control["strata"]:
            assert page.row("questions", name.replace("_", " "))[2].startswith(
                f"{100 * control['strata']['story']['accuracy']:.1f}"
            )
    assert "all of 12 items cannot be measured" in page.texts["questions"]
    assert "all of 6 items cannot be measured" in page.texts["results"], "cloze has controls too"


def test_cells_are_shaded_only_where_the_interval_is_off_chance(page: Page) -> None:
    cells = re.findall(r'<td class="(\w*)">([\d.]+)<span class="small">([\d.]+)–\s*([\d.]+)</span>', page.raw)
    assert len(cells) > 40
    for shade, _, low, high in cells:
        assert shade == ("above" if float(low) > 50 else "below" if float(high) < 50 else ""), (shade, low, high)


def test_the_browser_shows_what_each_model_chose(page: Page, root: Path) -> None:
    questions = open_data(build_config([f"run_dir={root}"])).questions
    shown = re.findall(r"<code>((?:topic|name|thing|story)-\d+)</code>", page.raw)
    assert shown == [one.id for one in drawn_questions(questions, 5, 0)]
    assert {name.partition("-")[0] for name in shown} == {"topic", "name", "thing", "story"}
    texts = {part.id: part.text for part in open_data(build_config([f"run_dir={root}"])).question_parts}
    by_id = {question.id: question for question in questions}
    section = page.raw[page.raw.index('id="browser"') : page.raw.index('id="results"')]
    for name, block in zip(shown, re.split(r"<details", section)[1:], strict=True):
        question = by_id[name]
        assert all(text in block for text in (texts[question.context], *(texts[e] for e in question.endings)))
        true = re.search(r"<dt>(\w) <span class=\"yes\">✓ true</span>", block)
        assert true is not None
        assert true[1] == "AB"[question.label]
        verdicts = re.findall(r'<td class="(yes|no|)">(A|B|tie)\s', block)
        credits = [
            item_credits(
                [row for row in rows if row["direction"] == direction and row["item"] == name], HEADLINE[direction]
            )
            for rows in (read_jsonl(root / "eval" / f"{model}.questions.jsonl", ItemRow) for model in NAMES)
            for direction in DIRECTIONS
        ]
        expected = [{1.0: "yes", 0.0: "no", 0.5: ""}[one[name]] for one in credits]
        assert [verdict for verdict, _ in verdicts] == expected
        assert all((letter == true[1]) == (verdict == "yes") for verdict, letter in verdicts)
    assert page.attributes("src") == []
    assert "the data is units of simulated speech without sound" in page.texts["browser"]


def test_parts_with_audio_have_players(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunRecord, "has_audio", lambda *_: True)
    monkeypatch.setattr(RunRecord, "waveform_of", lambda *_: np.zeros(8000, np.float32))
    run = of_run(root, "report.num_questions=2")
    page = Page(report_page(run, [browser_section(run)]))
    check_self_contained(page)
    assert len(page.attributes("src")) == 6
    assert "without a player" not in page.texts["browser"]
    none = of_run(root, "report.num_questions=0")
    assert "0 of 12" in Page(report_page(none, [browser_section(none)])).texts["browser"]


def test_units_of_a_codec_are_decoded_where_the_audio_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = of_run(root, "report.num_questions=1")
    monkeypatch.setattr(CodecTokenizer, "decode", lambda _, units: np.zeros(320 * len(units), np.float32))
    monkeypatch.setattr(run.data, "codec", object.__new__(CodecTokenizer))
    page = Page(report_page(run, [browser_section(run)]))
    assert len(page.attributes("src")) == 3
    assert "decoded from the units" in page.texts["browser"]


def test_text_of_questions_stays_text(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(root, copied)
    path = copied / "data" / "questions.jsonl"
    questions: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**one, "stratum": NASTY}) + "\n" for one in questions))
    run = of_run(copied)
    page = Page(report_page(run, [questions_section(run), browser_section(run)]))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert " ".join(NASTY.split()) in " ".join(page.texts["browser"].split())


def test_results_are_those_of_the_evaluations_that_are_there(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(root, copied)
    write_results(of_run(copied))
    found = read_json(copied / "results.json", RunResults, "the results", "")
    assert [model["name"] for model in found["models"]] == list(NAMES)
    shutil.rmtree(copied / "eval")
    write_results(of_run(copied))
    assert not (copied / "results.json").exists()


def test_questions_are_drawn_of_all_strata_by_the_seed() -> None:
    questions = [Question(f"{s}-{n}", s, "c", "o", ["a", "b"], 0) for s in ("name", "topic") for n in range(9)]
    drawn = drawn_questions(questions, 6, 1)
    assert [one.stratum for one in drawn] == ["name", "topic"] * 3
    assert drawn == drawn_questions(questions, 6, 1) != drawn_questions(questions, 6, 2)
    assert len(drawn_questions(questions, 99, 1)) == 18


def test_ceilings_and_floors_stand_below_the_models(page: Page, root: Path) -> None:
    found = read_ceilings(root / "eval" / "ceilings.json")
    for oracle in found["oracles"]:
        strata = next(iter(oracle["questions"].values()))["strata"]
        score = next(iter(oracle["questions"].values()))["headline"]
        cells = page.row("questions", oracle["name"])
        assert cells[2].startswith(f"{100 * strata['story'][score]['accuracy']:.1f}"), oracle["name"]
        assert oracle["knows"] in cells[0]
    assert "the grammar known" in page.texts["questions"]
