"""Lattices of stories: they hold every story once, and sum over all of them exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tiny_stories import SPEECH, TINY, log_marginal

from lst.data.synthesis.grammar import SIZES, grammar
from lst.data.synthesis.phone_lattice import PhoneLattice, num_texts
from lst.data.synthesis.simulated import SimulatedSpeech, one_text
from lst.data.synthesis.stories import generate_stories

STORY = " ".join(TINY.write(100))


@pytest.mark.parametrize("size", SIZES)
def test_the_choices_of_all_plots_are_the_stories_of_the_grammar(size):
    chosen = grammar(size)
    each = {num_texts(chosen.texts(plot.topic, [plot.name], [plot.thing])) for plot in chosen.plots[::500]}
    assert {number * len(chosen.plots) for number in each} == {chosen.num_stories}
    for story in generate_stories(20, 0, size):
        topic, name, thing = chosen.digits(story.number)[:3]
        for place in (0, -1):
            sentence = story.sentences[-1] if place else story.sentences[int(bool(chosen.openings))]
            assert (topic, name, thing) in chosen.plots_of(sentence, place)


def test_the_sum_over_all_stories_is_that_of_each_story_by_itself():
    lattice = PhoneLattice.of(
        [TINY.texts(plot.topic, [plot.name], [plot.thing]) for plot in TINY.plots], SPEECH.config.silence_share
    )
    units = SPEECH.utterance("story", STORY, 1).units
    found = lattice.forward_of_all(SPEECH.phone_units, units).ended[-1]
    assert np.logaddexp.reduce(found) - math.log(len(TINY.plots)) == pytest.approx(log_marginal(TINY, units), abs=1e-9)


def test_probabilities_of_what_comes_next_sum_to_one():
    """What begins with some units ends there, or goes on with one of all units."""
    lattice = PhoneLattice.of([TINY.texts(0, [0, 1], [0, 1]), one_text("a big dog")], SPEECH.config.silence_share)
    units = SPEECH.utterance("dog", "a big dog").units
    for length in (1, 5, len(units)):
        begun = units[:length]
        here = lattice.forward(SPEECH.phone_units, begun, 0)
        longer = [
            lattice.forward(SPEECH.phone_units, np.append(begun, unit), 0).prefix[-1]
            for unit in range(SPEECH.config.num_units)
        ]
        total = np.exp(here.ended[-1] - here.prefix[-1]) + np.exp(np.array(longer) - here.prefix[-1]).sum(axis=0)
        assert total == pytest.approx(np.ones(2), abs=1e-9)
    assert here.ended[-1, 1] == pytest.approx(lattice.forward(SPEECH.phone_units, units, 0).ended[-1, 1], abs=1e-12), (
        "a group does not depend on the others"
    )


def test_impossible_units_have_no_probability_and_disturb_no_other_group():
    quiet = replace(SPEECH.phone_units, noise=0.0)
    lattice = PhoneLattice.of([one_text("dog"), one_text("cat")], SPEECH.config.silence_share)
    clean = replace(SPEECH.config, noise=0.0)
    units = SimulatedSpeech(clean, SPEECH.seed, 3.2).utterance("x", "dog").units
    ended = lattice.forward(quiet, units, 0).ended[-1]
    assert np.isfinite(ended[0])
    assert np.isneginf(ended[1])
