"""``lst compare``: the page says what the evaluations say; pairs, verdicts, damage; a browser shows it whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import check_layout
from html_page import Page, check_self_contained, check_well_formed
from made_answers import NUM_ITEMS, add_adapted, add_benchmark, add_contamination, rows_of
from made_run import make_run

from lst.cli import main
from lst.evaluation.accuracy import direction_scores, mcnemar
from lst.evaluation.results import DIRECTIONS
from lst.evaluation.summary import direction_summary
from lst.recipes.compare.compared import compare_all, group_tasks, order_of, verdict_lines
from lst.recipes.compare.entries import Answers, Entry, _labels
from lst.recipes.compare.plots import Point, speech_against_text


def answers(
    right: dict[str, int], data: str = "d", items: str = "", kind: Any = "benchmark", title: str = "copa"
) -> Answers:
    rows: Any = rows_of(right)
    scores = direction_scores(rows, 100, 0)
    credits = {
        direction: {f"q{n}": float(n < right.get(direction, NUM_ITEMS // 2)) for n in range(NUM_ITEMS)}
        for direction in DIRECTIONS
    }
    directions: Any = {direction: direction_summary(score) for direction, score in scores.items()}
    return Answers(kind, title, data, items, 0.5, directions, credits, rows)  # type: ignore[arg-type]


def entry(name: str, *own: Answers, strategy: str = "static") -> Entry:
    line: Any = {"name": name.rpartition("/")[2], "strategy": strategy, "num_parameters": 10}
    line |= {"is_evaluated": bool(own), "bits_per_unit": None}
    return Entry(name, 0, Path("run"), line, own)


def test_models_are_told_apart_by_paired_intervals_and_corrected_p_values() -> None:
    base = entry("a/none", answers({}), strategy="none")
    better = entry("b/static", answers({"S→S": 150, "T→T": 60}))
    same = entry("c/static", answers({"S→T": 101}))
    groups = group_tasks([base, better, same])
    found = compare_all(groups, base, 500, 0)
    assert len(found) == 8
    one = next(one for one in found if one["second"] == "b/static" and one["direction"] == "S→S")
    assert (one["difference"], one["num_items"], one["is_paired"]) == (0.25, 200, True)
    assert one["low"] < 0.25 < one["high"]
    first, second = (np.array([*own.answers[0].credits["S→S"].values()]) for own in (base, better))
    assert one["p_value"] == mcnemar(first, second) < one["p_holm"]
    assert {(one["second"], one["direction"]): order_of(one) for one in found if order_of(one)} == {
        ("b/static", "S→S"): 1,
        ("b/static", "T→T"): -1,
    }
    lines = verdict_lines([base, better, same], found)
    assert lines[0] == (
        "Against a/none, b/static is better in 1 and worse in 1 of 4 comparisons; c/static is not distinguishable."
    )
    assert lines[1].startswith("Benchmark: copa. b/static beats a/none on S→S (+25.0 points, +")
    assert "loses to a/none on T→T (−20.0 points, −" in lines[1]
    assert "is not distinguishable from a/none on S→T (+0.0 points" in lines[1]
    assert lines[1].endswith("Paired on 200 items.")


def test_only_equal_items_are_paired() -> None:
    base = entry("a", answers({}, "d1", "w1"), strategy="none")
    others = [
        entry("same words", answers({"S→S": 150}, "d2", "w1")),
        entry("other words", answers({"S→S": 150}, "d2", "w2")),
        entry("unknown", answers({"S→S": 150}, "d3", "")),
        entry("elsewhere", answers({"S→S": 150}, "d4", "w4", title="blimp")),
    ]
    groups = group_tasks([base, *others])
    assert [group.title for group in groups] == ["copa", "blimp"]
    found = {one["second"]: one for one in compare_all(groups, base, 200, 0) if one["direction"] == "S→S"}
    assert {name: one["is_paired"] for name, one in found.items()} == {
        "same words": True,
        "other words": False,
        "unknown": False,
    }
    assert "the items differ (data d1, d2)" in found["other words"]["why"]
    assert "were not recorded" in found["unknown"]["why"]
    assert found["other words"]["low"] < found["same words"]["difference"] < found["other words"]["high"]
    assert any("Unpaired: the items differ" in line for line in verdict_lines([base, *others], list(found.values())))
    disjoint = answers({}, "d1", "w1")
    renamed: Any = {
        direction: {f"x{name}": credit for name, credit in own.items()} for direction, own in disjoint.credits.items()
    }
    groups = group_tasks([base, entry("b", replace(disjoint, credits=renamed))])
    assert "no item is in both" in compare_all(groups, base, 200, 0)[0]["why"]


def test_cloze_items_count_where_a_model_was_asked_no_questions() -> None:
    asked = entry("a", answers({}, kind="questions"), answers({}, kind="cloze"))
    unasked = entry("b", answers({}, kind="cloze"))
    assert [group.kind for group in group_tasks([asked])] == ["questions"]
    assert {group.kind: len(group.members) for group in group_tasks([asked, unasked])} == {"questions": 1, "cloze": 2}


def test_labels_are_as_short_as_they_are_clear() -> None:
    a, b = Path("/x/runs/a"), Path("/y/runs/a")
    assert _labels([(a, "one"), (a, "two")]) == ["one", "two"]
    assert _labels([(a, "one"), (a.with_name("b"), "one")]) == ["a/one", "b/one"]
    assert _labels([(a, "one"), (b, "one")]) == ["x/runs/a/one", "y/runs/a/one"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same data, the second of them scored on a benchmark too."""
    top = tmp_path_factory.mktemp("compare")
    make_run(top / "a run's <b>")
    for path in (top / "a run's <b>" / "eval").glob("*.json"):
        result = json.loads(path.read_text())
        settings = json.loads((path.parents[1] / "models" / path.stem / "settings.json").read_text())
        path.write_text(json.dumps({**result, "corpus": "tones <b>", "data": settings["data"]}))
    shutil.copytree(top / "a run's <b>", top / "b")
    add_benchmark(top / "b")
    add_adapted(top / "b")
    add_contamination(top / "b", json.loads((top / "b/eval/static.json").read_text())["data"])
    return top


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    out = runs / "page.html"
    words = [str(runs / "a run's <b>"), str(runs / "b"), f"out={out}", "num_items=3", "bootstrap_samples=200"]
    assert main(["compare", *words]) == 0
    return out


def test_the_page_says_what_the_evaluations_say_and_needs_nothing_else(page: Path, runs: Path) -> None:
    shown = Page(page.read_text())
    check_self_contained(shown)
    check_well_formed(shown, ("models", "task-1", "items-1", "task-2", "adaptation", "contamination"))
    found = json.loads(page.with_suffix(".json").read_text())
    assert found["base"] == "a run's <b>/baseline"
    assert list(found["models"]) == ["a run's <b>/baseline", "a run's <b>/static", "b/baseline", "b/static"]
    assert all(line in shown.texts["top"] for line in found["verdict"])
    assert shown.texts["top"].index(found["verdict"][0]) < shown.texts["top"].index("Better or worse")
    (cloze, benchmark) = found["tasks"]
    assert (len(cloze["models"]), len(benchmark["models"])) == (4, 2)
    for model in cloze["models"]:
        run, _, name = model["label"].rpartition("/")
        result = json.loads((runs / run / "eval" / f"{name}.json").read_text())
        assert model["directions"]["S→S"]["accuracy"] == result["cloze"]["S→S"]["mean"]["accuracy"]
    own = next(one for one in found["comparisons"] if one["task"] == "Benchmark: copa" and one["direction"] == "S→S")
    assert (own["first"], own["second"], own["difference"]) == ("b/baseline", "b/static", 0.35)
    assert "b/static beats b/baseline on S→S (+35.0 points" in " ".join(found["verdict"])
    same = [one for one in found["comparisons"] if one["second"] == "b/baseline"]
    assert [one["difference"] for one in same] == [0.0] * 4, "a copy of the base"
    assert all(one["is_paired"] for one in same)
    assert [one["label"] for one in found["adapted"]] == ["b/baseline", "b/static"]
    assert "+50.0" in shown.row("adaptation", "b/static")[3]
    assert "do not say where the benchmark lies" in shown.texts["task-2"]
    assert shown.texts["task-2"].count("by swap") == 4
    assert "1 2" in " ".join(shown.row("contamination", "b: its held-out data")[3:]).replace("13 words", "")
    assert sum(tag == "svg" for tag, _ in shown.tags) == 2


def test_damage_is_named_and_the_others_are_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "b", tmp_path / "b")
    (tmp_path / "b/eval/static.items.jsonl").write_text("{")
    (tmp_path / "b/eval/contamination.json").write_text("[]")
    (tmp_path / "b/eval/static@asr-valid-0123456789ab.adapted.json").write_text("{")
    (tmp_path / "b/models/baseline/final/model.safetensors").write_bytes(b"half")
    words = [
        "compare",
        str(tmp_path / "b"),
        str(runs / "b/models/baseline"),
        f"out={tmp_path}/out/p.html",
        "num_items=0",
    ]
    assert main([*words, "--dry-run"]) == 0
    assert main([*words, "base=nobody"]) == 2
    assert "base=nobody: 0 models have this name" in capsys.readouterr().err
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "baseline: it is damaged, not a finished model, and is left out" in told
    found = json.loads((tmp_path / "out/p.json").read_text())
    assert len(found["models"]) == 2
    assert any("contamination" in problem for problem in found["problems"])
    assert any("static@asr-valid" in problem for problem in found["problems"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "name the runs to compare: lst compare RUN RUN…"),
        (["nowhere"], "nowhere holds no model"),
        (["b", "out=page.pdf"], "the page is HTML: write out=page.pdf.html"),
        (["b", "json=true"], "lst compare does not read json"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path, words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    assert main(["compare", *words]) == 2
    assert expected in capsys.readouterr().err


def test_the_scatter_takes_any_number_of_models() -> None:
    def point(number: int) -> Point:
        text, speech = 0.5 + number % 5 / 10, 0.5 + number % 3 / 10
        interval = {"low": speech - 0.05, "high": speech + 0.05}
        return Point(
            f"run {number}",
            f"s{number % 8}",
            number % 8,
            10**6 * (1 + number),
            {"accuracy": text, "low": text - 0.02, "high": text + 0.02},
            {"accuracy": speech, **interval},  # type: ignore[typeddict-item]
        )

    assert "run 3" in speech_against_text([point(number) for number in range(4)], 0.25, "few")
    assert "run 3" not in speech_against_text([point(number) for number in range(40)], 0.5, "many")
    assert speech_against_text([point(0)], 0.5, "one")


@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_shows_the_page_whole(browser: Any, page: Path, width: int) -> None:
    check_layout(browser, page, width, "light" if width > 1000 else "dark", 2)
    assert browser.execute_script("return document.querySelectorAll('audio').length") >= 6
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
