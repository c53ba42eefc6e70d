"""The ideal listener against sums over all stories, the listener for topics, and n-grams."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from tiny_stories import SPEECH, TINY

import lst.evaluation.listener as listener_module
from lst.data.synthesis.phone_lattice import PhoneLattice
from lst.data.synthesis.simulated import one_text
from lst.evaluation import Item, direction_scores
from lst.evaluation.items import Part
from lst.evaluation.listener import Listener
from lst.evaluation.ngrams import NgramReader


def part(text: str, name: str) -> Part:
    return Part.whole(SPEECH.utterance(name, text, 1))


def tiny_item(stratum: str, true: int, false: int) -> Item:
    stories = [TINY.write(number) for number in (true, false)]
    contexts = [part(" ".join(story[:-1]), f"{stratum}-{n}c") for n, story in enumerate(stories)]
    endings = [part(story[-1], f"{stratum}-{n}e") for n, story in enumerate(stories)]
    return Item(stratum, stratum, contexts[0], contexts[1], tuple(endings), 0)


def changed(stratum: str) -> Item:
    digits = [0] * len(TINY.radices)
    digits[TINY.CHOICES.index(stratum)] = 1
    return tiny_item(stratum, 0, TINY.number(tuple(digits)))


ITEMS = [changed(stratum) for stratum in ("topic", "name", "thing")]


def test_the_listener_sums_over_all_stories_and_speakers():
    rows, _ = Listener(TINY, SPEECH).rows(ITEMS[1])
    stories = [TINY.write(number) for number in range(TINY.num_stories)]
    contexts, endings = sorted({" ".join(story[:-1]) for story in stories}), sorted({story[-1] for story in stories})
    context, ending = ITEMS[1].context, ITEMS[1].endings[1]

    def evidence(said: Part, letter: str, texts: list[str]) -> dict[tuple[str, int], float]:
        """p(said | text, speaker), each by the lattice of one text."""
        found = {}
        for text, speaker in product(texts, range(2)):
            if letter == "T":
                found[text, speaker] = float(said.text == text)
            else:
                lattice = PhoneLattice.of([one_text(text)], SPEECH.config.silence_share)
                found[text, speaker] = math.exp(
                    lattice.forward(SPEECH.phone_units, said.utterance.units, speaker).ended[-1, 0]
                )
        return found

    for direction in ("S→S", "T→T", "S→T", "T→S"):
        heard = evidence(context, direction[0], contexts)
        said = evidence(ending, direction[2], endings)
        pairs = [(" ".join(story[:-1]), story[-1]) for story in stories]
        both = sum(heard[c, k] * said[e, k] for c, e in pairs for k in range(2))
        alone = sum(heard[c, k] for c, _ in pairs for k in range(2))
        row = next(row for row in rows if row["direction"] == direction and row["ending"] == 1)
        expected = math.log(both / alone) if both else -math.inf
        assert row["nats"] == pytest.approx(expected, abs=2e-6)


def test_the_ideal_reader_is_always_right_and_one_for_topics_within_a_topic_never():
    ideal, of_topics = (
        direction_scores([row for item in ITEMS for row in Listener(TINY, None).rows(item)[which]], 100, 0)
        for which in (0, 1)
    )
    assert list(ideal) == ["T→T"]
    for stratum, topical in (("topic", 1.0), ("name", 0.5), ("thing", 0.5)):
        assert ideal["T→T"]["strata"][stratum]["mean"]["accuracy"] == 1
        assert of_topics["T→T"]["strata"][stratum]["mean"]["accuracy"] == topical


def test_topics_alone_tell_nothing_of_names_in_speech_either():
    _, rows = Listener(TINY, SPEECH).rows(ITEMS[1])
    scores = direction_scores(rows, 100, 0)
    for direction in ("T→S", "T→T"):
        assert scores[direction]["strata"]["name"]["swap"]["accuracy"] == 0.5


def test_a_listener_that_is_told_the_two_stories_hears_them_apart_better(monkeypatch):
    free, _ = Listener(TINY, SPEECH).rows(ITEMS[1])
    monkeypatch.setattr(listener_module, "MOST_PLOTS", 1)
    listener = Listener(TINY, SPEECH)
    assert listener.is_told
    told, _ = listener.rows(ITEMS[1])
    true, freely = (next(r for r in rows if r["direction"] == "T→S" and r["is_true"]) for rows in (told, free))
    assert true["nats"] == freely["nats"], "the written context tells all"
    assert [row["direction"] for row in told] == [row["direction"] for row in free]


def test_ngrams_are_distributions_and_smooth_as_witten_and_bell():
    reader = NgramReader(["a b a c", "a b"], 3)
    words = ["a", "b", "c", "never"]
    for before, order in product(([], ["a"], ["b", "a"], ["never"]), (1, 2, 3)):
        total = sum(math.exp(reader.log_probability([word], before, order)) for word in words)
        assert total == pytest.approx(1)
    # a: 3 of 6, and 3 kinds of words in all; after "a" came b, c and b.
    unigram = (2 + 3 * 1 / 4) / (6 + 3)
    assert math.exp(reader.log_probability(["b"], ["a"], 2)) == pytest.approx((2 + 2 * unigram) / (3 + 2))
    assert np.isfinite(reader.log_probability(["never"], ["never"], 3))
