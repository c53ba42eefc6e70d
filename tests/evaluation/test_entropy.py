"""Entropy of simulated speech: bounds on both sides of the exact number, and a floor that only cheats lie below."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tiny_stories import SPEECH, TINY, log_marginal

from lst.data.config import SimulatedConfig
from lst.data.synthesis.grammar import grammar
from lst.data.synthesis.simulated import SimulatedSpeech, mean_phones
from lst.data.synthesis.stories import generate_stories
from lst.evaluation.ceilings import above_floor, entropy_rates
from lst.evaluation.ceilings_results import EntropyRow
from lst.evaluation.entropy import UnitEntropy
from lst.evaluation.results import BitsRow

NUM_KNOWN = 30


def tiny_rows(num_stories: int, is_exact: bool) -> list[EntropyRow]:
    entropy = UnitEntropy(SPEECH, TINY, NUM_KNOWN, is_exact)
    texts = [" ".join(TINY.write(number)) for number in range(0, 7 * num_stories, 7)]
    return [entropy.row(SPEECH.utterance(f"s{n}", text, n % 2)) for n, text in enumerate(texts)]


def test_bits_are_those_of_units_known_to_go_on():
    """By the definition: − Σ log2 p(unit | units before, more units follow), each sum over all stories by itself."""
    text = " ".join(TINY.write(40))
    utterance = SPEECH.utterance("s", text)
    exact = UnitEntropy(SPEECH, TINY, NUM_KNOWN, True)
    row = exact.row(utterance)
    found = exact._lattice.forward_of_all(SPEECH.phone_units, utterance.units)
    prefix, ended = (np.logaddexp.reduce(logs, axis=1) - math.log(len(TINY.plots)) for logs in found)
    assert ended[-1] == pytest.approx(log_marginal(TINY, utterance.units), abs=1e-9)
    going_on = np.log(np.exp(prefix[:-1]) - np.exp(ended[:-1]))
    by_definition = -(prefix[0] + (prefix[1:] - going_on).sum()) / math.log(2)
    assert row["at_least"] == pytest.approx(by_definition, abs=1e-6)
    assert row["at_most"] == pytest.approx(by_definition, abs=1e-6)
    assert row["text"] == math.log2(TINY.num_stories)


def test_bounds_lie_on_both_sides_of_the_exact_number():
    exact, bounded = tiny_rows(12, True), tiny_rows(12, False)
    for one, two in zip(exact, bounded, strict=True):
        assert two["at_least"] <= one["at_least"] + 1e-9
        assert one["at_most"] <= two["at_most"] + 1e-9
        assert one["given_words"] < one["at_least"]
        assert two["floor"] <= one["floor"] + 1e-9 < one["at_least"] + 1e-9
    # The mean of what knowing the words saves is at most the entropy of the words.
    saved = np.mean([row["at_least"] - row["given_words"] for row in exact])
    assert 0 < saved <= math.log2(TINY.num_stories)


def test_bounds_of_the_shipped_grammars_are_tight():
    for size, most_bits in (("mini", 1e-3), ("standard", 0.05)):
        stories = generate_stories(3, 0, size)
        speech = SimulatedSpeech(SimulatedConfig(), 0, mean_phones(story.text for story in stories))
        entropy = UnitEntropy(speech, grammar(size), 100, is_exact=False)
        for story in stories:
            row = entropy.row(speech.utterance(story.id, story.text))
            assert 0 <= row["at_most"] - row["at_least"] < most_bits
            assert row["at_least"] - row["given_words"] == pytest.approx(row["text"], abs=1)


def model_of(rows: list[EntropyRow], unit_bits: list[float]) -> list[BitsRow]:
    return [
        {
            "utterance": row["utterance"],
            "num_units": row["num_units"],
            "num_bytes": row["num_bytes"],
            "unit_bits": bits,
            "text_bits": row["text"],
        }
        for row, bits in zip(rows, unit_bits, strict=True)
    ]


def test_the_generator_itself_lies_at_the_floor_and_a_cheat_below_it():
    rows = tiny_rows(60, True)
    itself = above_floor("itself", model_of(rows, [row["at_least"] for row in rows]), rows, 500, 0)
    cheat = above_floor("cheat", model_of(rows, [row["given_words"] for row in rows]), rows, 500, 0)
    blind = above_floor(
        "blind", model_of(rows, [row["num_units"] * math.log2(SPEECH.config.num_units) for row in rows]), rows, 500, 0
    )
    assert itself is not None
    assert cheat is not None
    assert blind is not None
    # All that is left is what the stories of training tell of held-out ones.
    known = math.log2(TINY.num_stories / (TINY.num_stories - NUM_KNOWN)) * len(rows) / sum(r["num_units"] for r in rows)
    assert known - 1e-9 <= itself["units"]["mean"] < 0.01
    assert cheat["units"]["high"] < 0 < blind["units"]["low"]
    assert itself["bytes"]["low"] > 0, "text that is drawn from all stories, known ones too"


def test_models_that_count_other_units_are_not_compared():
    rows = tiny_rows(2, False)
    merged = model_of(rows, [10.0, 10.0])
    merged[0]["num_units"] -= 1
    assert above_floor("merged", merged, rows, 100, 0) is None
    assert above_floor("others", [{**merged[1], "utterance": "unknown"}], rows, 100, 0) is None


def test_rates_are_sums_over_sums_and_depend_on_the_seed_alone():
    rows = tiny_rows(5, True)
    rates = entropy_rates(rows, 200, 1)
    assert rates == entropy_rates(rows, 200, 1)
    assert rates["is_exact"]
    num_units = sum(row["num_units"] for row in rows)
    assert rates["units"]["floor"]["mean"] == pytest.approx(sum(row["floor"] for row in rows) / num_units)
    assert rates["units"]["floor"]["low"] < rates["units"]["floor"]["mean"] < rates["units"]["floor"]["high"]
