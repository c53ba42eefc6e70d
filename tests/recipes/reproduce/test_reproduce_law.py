"""``lst reproduce law`` on a tiny plan: it trains, measures, stops and goes on, and its page says what ran."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lst.cli import main
from lst.configs.compose import REPRODUCE
from lst.data.prepared import PreparedData
from lst.evaluation.ceilings import StoryData
from lst.evaluation.entropy import UnitEntropy
from lst.recipes.reproduce import law
from lst.recipes.reproduce.formats import LawFile
from lst.storage import FormatError, read_json


def read_law(out: Path) -> LawFile:
    return read_json(out / "law.json", LawFile, "the law", "")


@pytest.fixture(scope="module")
def early(law_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was over before its first model."""
    out = tmp_path_factory.mktemp("law") / "out"
    assert main(["reproduce", "law", f"law={law_plan}", f"out={out}", "jobs=0", "hours=1e-9"]) == 0
    return out


@pytest.fixture(scope="module")
def whole(early: Path, law_plan: Path) -> Path:
    """The same, gone on with to its end."""
    page = (early / "law.html").read_text()
    assert "no model is finished" in page
    assert "baseline-b-4-seed0" in page, "what is missing is named"
    assert read_law(early)["ran"][0]["num_finished"] == 0
    assert main(["reproduce", "law", f"law={law_plan}", f"out={early}", "jobs=0"]) == 0
    return early


def test_the_page_has_the_law_the_floor_and_repetition(whole: Path) -> None:
    found = read_law(whole)
    assert [(one["grid"], one["num_finished"], one["missing"]) for one in found["ran"]] == [
        ("law", 6, []),
        ("again", 2, []),
    ]
    assert (len(found["points"]), found["why_no_law"]) == (6, "")
    assert [(one["arm"], one["loss"]) for one in found["floors"]] == [
        ("baseline", "speech_bits"),
        ("baseline", "text_bits"),
    ]
    assert {one["loss"] for one in found["laws"]} == {"speech_bits", "text_bits"}
    (repetition,) = found["repetition"]
    assert [one["size"] for one in repetition["models"]] == ["a", "b"]
    page = (whole / "law.html").read_text()
    for part in ("The floor and the known entropy", "What repetition does to data", "The law", "known entropy"):
        assert part in page
    assert "<script" not in page
    assert str(whole) not in page, "no path of this machine"


def test_the_known_entropy_counts_what_models_pay(whole: Path) -> None:
    known, data = read_law(whole)["known"], PreparedData(whole / "run" / "data")
    assert known["speech_at_least"] == known["speech_at_most"], "the sum over mini stories is exact"
    stories = StoryData.of(data)
    assert stories is not None
    assert stories.speech is not None
    entropy = UnitEntropy(stories.speech, stories.grammar, 0)
    total = 0.0
    for utterance in data.valid:
        row, (low, high) = entropy.row(utterance), entropy.said_bits(utterance)
        assert low == high
        # It is told of no unit that the speech goes on, so it pays more; but less than for the whole told story.
        assert row["at_least"] < low < row["given_words"] + math.log2(stories.grammar.num_stories) + 20
        assert low < math.log2(stories.grammar.num_stories) - (
            stories.speech.log_likelihood(utterance.units, utterance.text) / math.log(2)
        )
        total += low
    assert known["speech_at_least"] == pytest.approx(total / known["num_units"])
    assert known["text"] == pytest.approx(
        len(data.valid) * math.log2(8748) / sum(len(one.text.encode()) for one in data.valid)
    )
    for point in read_law(whole)["points"]:
        assert float(point["speech_bits"]) > known["speech_at_least"]
        assert float(point["text_bits"]) > known["text"]


def test_what_is_finished_is_not_trained_again(
    whole: Path, law_plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lst.recipes.scaling.cells.train", None)
    monkeypatch.setattr(law, "scale_fit", None)
    before = (whole / "law.json").read_bytes()
    words = ["reproduce", "law", f"law={law_plan}", f"out={whole}"]
    assert main([*words, "jobs=0"]) == 0
    assert "0 models to train" in capsys.readouterr().err
    assert main([*words, "page_only=true"]) == 0
    assert (whole / "law.json").read_bytes() == before
    assert main([*words, "--dry-run"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_table_is_fitted_again_where_it_or_the_fit_is_another(
    whole: Path, law_plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(law, "scale_fit", asked.append)
    config, rows = REPRODUCE.build([f"law={law_plan}", f"out={whole}"]), read_law(whole)["points"]
    place = whole / "fit" / "fit.json"
    whole_fit = place.read_bytes()
    fit = json.loads(whole_fit)
    try:
        for number, changed in enumerate(({}, {"points_sha256": "0"}, {"seed": 9}, {"bootstrap_samples": 101})):
            place.write_text(json.dumps({**fit, **changed}))
            assert law._fitted(config, rows) == ({**fit, **changed}, "")
            assert len(asked) == number, changed
        place.write_text("{")
        with pytest.raises(FormatError):
            law._fitted(config, rows)
        assert len(asked) == 4, "what is damaged is made again"
    finally:
        place.write_bytes(whole_fit)


def test_wrong_plans_are_refused_before_anything_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    out = tmp_path / "out"
    for text, expected in (
        ("prepare: []\n", "grids: 1 problem"),
        ("grids: {a/b: [scale=law]}\n", "name='a/b'"),
        ("grids: {a: [scale=lawn]}\n", "did you mean law"),
        ("grids: {a: [scale=law, points=x.csv]}\n", "does not read points"),
    ):
        plan.write_text(text)
        assert main(["reproduce", "law", f"law={plan}", f"out={out}"]) == 2
        assert expected in capsys.readouterr().err, text
        assert not out.exists()
