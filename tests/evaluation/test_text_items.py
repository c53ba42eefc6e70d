"""Items of text benchmarks in their own formats; every fault is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lst.evaluation.accuracy import off_chance
from lst.evaluation.benchmark import read_items
from lst.evaluation.benchmark.build import questions_of
from lst.evaluation.benchmark.clips import measure_clip

STORY = {f"InputSentence{number}": f"Sentence {number}." for number in range(1, 5)}
STORY |= {"RandomFifthSentenceQuiz1": "It ends badly.", "RandomFifthSentenceQuiz2": "It ends well."}


def written(path: Path, *records: dict[str, Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        lines = [",".join(records[0]), *(",".join(map(str, record.values())) for record in records)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "suffix", "record", "context", "true", "stratum"),
    [
        (
            "hellaswag",
            "jsonl",
            {"ind": 7, "ctx": "A man sits. he", "endings": ["runs.", "stays."], "label": "1"},
            1,
            "stays.",
            "",
        ),
        (
            "hellaswag",
            "jsonl",
            {"ctx": "He", "endings": ["is.", "isn't."], "label": 0, "domain": "wikihow"},
            1,
            "is.",
            "wikihow",
        ),
        ("story_cloze", "csv", {"InputStoryid": "a-1", **STORY, "AnswerRightEnding": 2}, 1, "It ends well.", ""),
        (
            "topic_story_cloze",
            "jsonl",
            {"id": "a", "context": "A fox came.", "pos": "It ate.", "neg": "No."},
            1,
            "It ate.",
            "",
        ),
        (
            "copa",
            "jsonl",
            {"query": "It rained, therefore", "choices": ["it dried.", "he got wet."], "gold": 1},
            1,
            "he got wet.",
            "",
        ),
        (
            "copa",
            "jsonl",
            {"premise": "It rained.", "choice1": "he ran", "choice2": "he sat", "question": "effect", "label": 0},
            1,
            "he ran",
            "effect",
        ),
        (
            "blimp",
            "jsonl",
            {"uid": "x", "pair": "0", "field": "syntax", "good": "He is.", "bad": "He are."},
            0,
            "He is.",
            "syntax",
        ),
        (
            "blimp",
            "jsonl",
            {"sentence_good": "He is.", "sentence_bad": "He are.", "UID": "x", "pairID": "3"},
            0,
            "He is.",
            "",
        ),
        ("swuggy", "csv", {"word": "brick", "nonword": "blick"}, 0, "brick", ""),
        (
            "items",
            "jsonl",
            {"id": "q 1", "context": "Two and two", "endings": ["are 4", "are 5", "fly"], "label": 0},
            1,
            "are 4",
            "",
        ),
    ],
)
def test_each_format_gives_the_same_items(
    tmp_path: Path, name: str, suffix: str, record: dict[str, Any], context: int, true: str, stratum: str
) -> None:
    items, problems = read_items(name, written(tmp_path / f"items.{suffix}", record))
    assert problems == []
    (item,) = items
    assert bool(item.context) == bool(context)
    assert (item.endings[item.label], item.stratum) == (true, stratum)


def test_pairs_of_words_are_matched_by_id_and_not_by_order(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "voice": "a", "word": "brick", "correct": 1},
        {"id": 2, "voice": "a", "word": "snup", "correct": 0},
        {"id": 1, "voice": "a", "word": "blick", "correct": 0},
        {"id": 2, "voice": "a", "word": "snap", "correct": 1},
        {"id": 2, "voice": "b", "word": "snap", "correct": 1},
    ]
    items, problems = read_items("swuggy", written(tmp_path / "gold.csv", *rows))
    assert problems == []
    assert {(item.id, item.endings[item.label]) for item in items} == {("1", "brick"), ("2", "snap")}


def test_all_faulty_rows_are_named_with_their_lines(tmp_path: Path) -> None:
    good = {"id": "a", "context": "He", "endings": ["is.", "was."], "label": 0}
    path = written(
        tmp_path / "items.jsonl",
        good,
        {**good, "endings": ["is."]},
        {**good, "id": "b", "label": 2},
        {**good, "id": "c", "endings": ["is.", "— …"]},
        {**good, "id": "d", "endings": ["is.", "это"]},
        {key: value for key, value in good.items() if key != "endings"},
        {**good, "id": "e", "context": ""},
        {**good, "id": "f", "context": "so " * 151},
    )
    path.write_text(path.read_text() + "{broken\n")
    items, problems = read_items("items", path)
    assert [item.id for item in items] == ["a"]
    told = [str(problem) for problem in problems]
    for line, fault in (
        (2, "at least two are needed"),
        (2, "the id is also at items.jsonl, line 1"),
        (3, "its label is 2"),
        (4, "ending 1: the text"),
        (5, "not English"),
        (6, "endings is missing"),
        (7, "it has no context, and other items have one"),
        (8, "at most 150"),
        (9, "not JSON"),
    ):
        assert any(f"line {line}" in one and fault in one for one in told), (line, fault, told)
    items, problems = read_items("items", path, is_spoken=False)
    assert [item.id for item in items] == ["a", "d", "f"], "text alone has any script and length"
    assert any("ending 1: there is no text" in str(problem) for problem in problems)


def test_each_item_swaps_with_another_context_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = [{"id": n, "context": f"Context {n // 2}", "endings": ["a", "b"], "label": 0} for n in range(10)]
    items, _ = read_items("items", written(tmp_path / "items.jsonl", *rows))
    contexts = {f"{item.id}-context": item.context for item in items}
    questions = questions_of(items, 3)
    assert all(contexts[one.other_context] != contexts[one.context] for one in questions)
    assert questions == questions_of(items, 3)
    assert questions != questions_of(items, 4)


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (np.full(16_000, 0.3), ""),
        (np.full(1_600, 0.3), "s for 11 letters"),
        (np.full(160_000, 0.3), "s for 11 letters"),
        (np.full(16_000, 1e-3), "below -45 dB"),
        (np.ones(16_000), "clipped"),
        (np.zeros(0), "s for 11 letters"),
    ],
)
def test_clips_are_judged_by_duration_level_and_clipping(samples: np.ndarray, fault: str) -> None:
    found = measure_clip(samples.astype(np.float32), "hello there, x").fault
    assert fault in found
    assert bool(found) == bool(fault)


def test_a_control_is_tested_against_the_chance_of_its_items() -> None:
    quarter = np.array([1.0] * 25 + [0.0] * 75)
    assert off_chance(quarter, 0.25) == pytest.approx(1.0)
    assert off_chance(quarter, 0.5) < 1e-5
    assert off_chance(np.full(4, 0.25), 0.25) == 1.0


def test_what_cannot_be_asked_or_spoken_is_named_once(tmp_path: Path) -> None:
    good = {"ctx": "A dog", "endings": ["barks.", "sings.", "barks"], "label": 1}
    path = written(
        tmp_path / "items.jsonl",
        {**good, "ind": 1, "endings": None},
        {**good, "ind": 2, "label": None},
        {**good, "ind": 3, "label": 0},
        {**good, "ind": 4, "ctx": "An " + "a" * 61},
        {**good, "ind": 5},
    )
    items, problems = read_items("hellaswag", path)
    assert [item.id for item in items] == ["5"], "two false endings may be alike"
    assert [problem.message for problem in problems] == [
        "endings is missing or no list of texts",
        "label must be a whole number, not None",
        "its true ending is among the false ones, word for word",
        "context: it has a word of 61 letters, at most 60 are spoken",
    ]


def test_rows_of_words_that_are_no_pairs_are_named(tmp_path: Path) -> None:
    rows = [
        *({"id": "a", "word": word, "correct": correct} for word, correct in (("cat", "1"), ("cit", 0.0))),
        *({"id": "b", "word": word, "correct": correct} for word, correct in (("aa", 1), ("bb", 1), ("cc", 0))),
        {"id": "c", "word": "dit", "correct": "no"},
        {"word": "dit", "correct": 1},
        {"id": "d", "word": "dog", "correct": 1},
    ]
    items, problems = read_items("swuggy", written(tmp_path / "words.jsonl", *rows))
    assert {item.id for item in items} == {"a", "b"}
    assert [problem.message for problem in problems] == [
        "the id 'b' has two words with correct=1: 'aa' and 'bb'",
        "correct must be 1 or 0, not 'no'",
        "id is missing",
        "nonword or non_word is missing, empty or no text",
    ]
