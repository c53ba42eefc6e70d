"""Which texts occur in others: the fast search is compared with a slow one; counts, examples, and what is not known."""

from __future__ import annotations

import json
import random
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lst.evaluation.overlap as overlap_module
from lst.evaluation.contamination import contamination_as_text, read_contamination, write_contamination
from lst.evaluation.overlap import Overlaps, words_of


def slow_overlaps(texts: dict[str, str], sources: list[tuple[str, str]], ngram: int) -> tuple[set[str], set[str]]:
    """Ids of texts that share an n-gram, and of those that are there as a whole."""
    hay = [f" {' '.join(words_of(text))} " for _, text in sources]
    shared, whole = set(), set()
    for name, text in texts.items():
        words = words_of(text)
        length = min(ngram, len(words))
        grams = [f" {' '.join(words[start : start + length])} " for start in range(len(words) - length + 1) if length]
        if any(gram in one for gram in grams for one in hay):
            shared.add(name)
        if words and any(f" {' '.join(words)} " in one for one in hay):
            whole.add(name)
    return shared, whole


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("words_a_batch", [1, 40, 10_000])
def test_the_fast_search_finds_what_the_slow_one_finds(
    seed: int, words_a_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap_module, "WORDS_A_BATCH", words_a_batch)
    rng = random.Random(seed)

    def drawn(length: int) -> list[str]:
        return rng.choices(["a", "b", "c", "A.", "d-e", "it's"], k=length)

    sources = [(f"s{number}", " ".join(drawn(rng.randrange(0, 30)))) for number in range(60)]
    texts = {f"t{number}": " ".join(drawn(rng.randrange(0, 14))) for number in range(60)}
    texts |= {f"u{number}": sources[number][1] for number in range(5)}
    texts |= {f"v{number}": f"{sources[number][1]} {sources[number + 1][1]}" for number in range(5)}
    for ngram in (3, 5):
        found = Overlaps(texts, ngram)
        found.scan(iter(sources))
        assert (set(found.shared), set(found.whole)) == slow_overlaps(texts, sources, ngram)
        assert found.num_texts == 60
        for name, seen in (found.shared | found.whole).items():
            assert f" {seen.words} " in f" {' '.join(words_of(dict(sources)[seen.source]))} "
            assert f" {seen.words} " in f" {' '.join(words_of(texts[name]))} "


def test_words_are_compared_without_case_punctuation_and_forms_of_letters() -> None:
    found = Overlaps({"a": "Ｔhe ﬁrst, “MÄDCHEN’S” word!", "b": "", "c": "…"}, 13)
    found.scan([("s", "so the first mädchen's word")])
    assert found.whole.keys() == {"a"}
    assert found.lengths == {"a": 4, "b": 0, "c": 0}


def test_long_corpora_take_little_time_and_memory() -> None:
    """A million words in a second or so, streamed: 10,000 hours are about 90 million."""
    rng = random.Random(0)
    words = [f"w{number}" for number in range(2000)]
    texts = {f"t{number}": " ".join(rng.choices(words, k=40)) for number in range(300)}
    block = [" ".join(rng.choices(words, k=500)) for _ in range(20)]
    sources = ((f"s{number}", block[number % 20]) for number in range(600))
    found = Overlaps(texts, 13)
    began_s = time.process_time()
    found.scan(islice(sources, 600))
    assert found.num_words == 300_000
    assert time.process_time() - began_s < 3


def prepared(texts: dict[str, str], fingerprint: str = "f") -> Any:
    """Prepared data as far as it is read: texts of the training, half of them spoken."""
    rows = [SimpleNamespace(id=name, text=text) for name, text in texts.items()]
    return SimpleNamespace(train=rows[::2], text=rows[1::2], fingerprint=fingerprint)


def test_counts_examples_and_what_is_looked_for_again(tmp_path: Path) -> None:
    story = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    training = prepared(
        {"train-0": f"Before: {story}. After", "train-1": story.replace("eight", "EIGHT"), "x": "short one"}
    )
    questions = {
        "whole": story,
        "part": story.replace("fifteen", "other"),
        "short": "Short one!",
        "new": "something else altogether that nobody has ever said in so many words as these",
        "new short": "else",
    }
    path = tmp_path / "contamination.json"
    found = write_contamination(path, "d", (training, ""), {"questions": questions, "cloze": {}}, 13)
    (own,) = found["kinds"].values()
    assert (own["num_items"], own["num_whole"], own["num_shared"], own["num_short"]) == (5, 2, 3, 2)
    assert [example["item"] for example in own["examples"]] == ["whole", "short", "part"]
    assert own["examples"][0]["source"] == "train-0"
    assert own["examples"][2]["words"] in story
    assert len(own["examples"][2]["words"].split()) == 13
    assert read_contamination(path) == found
    told = "\n".join(contamination_as_text(found))
    assert "5 questions: 2 seen whole, 3 share 13 words" in told
    assert "whole whole in train-0: one two three" in told
    before = path.stat().st_mtime_ns
    assert write_contamination(path, "d", (training, ""), {"questions": questions}, 13)["kinds"] == found["kinds"]
    again = write_contamination(path, "d", (prepared({}, "g"), ""), {"questions": questions}, 13)
    assert again["kinds"]["questions"]["num_shared"] == 0
    assert path.stat().st_mtime_ns != before
    unknown = write_contamination(path, "d", (None, "the data is gone"), {"questions": questions}, 13)
    assert unknown["kinds"] == {}
    assert "not known: the data is gone" in "\n".join(contamination_as_text(unknown))
    assert json.loads(path.read_text())["version"] == 1
