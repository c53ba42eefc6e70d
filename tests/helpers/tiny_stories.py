"""A story grammar that is small enough to sum over all its stories one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lst.data.config import SimulatedConfig
from lst.data.synthesis.grammar import StoryGrammar, grammar
from lst.data.synthesis.simulated import SimulatedSpeech

# Two topics, a woman and a man, two things, an opening of two articles: 2 · 2 · 2 · 3 · 9 stories.
TINY = replace(
    grammar("mini"),
    topics=tuple(
        replace(topic, things=topic.things[:2], places=topic.places[:1]) for topic in grammar("mini").topics[:2]
    ),
    she=("Anna",),
    he=("Tom",),
    openings={"moods": ("icy", "sunny", "warm"), "days": ("day",), "towns": ("Rome",)},
    sentences=(0, 4),
)
# So noisy that other stories than the true one matter.
SPEECH = SimulatedSpeech(SimulatedConfig(num_units=41, word_units=3.6, noise=0.6, num_speakers=2), 1, 3.2)


def log_marginal(stories: StoryGrammar, units: np.ndarray) -> float:
    """ln p(units), by a sum over all stories."""
    every = [SPEECH.log_likelihood(units, " ".join(stories.write(number))) for number in range(stories.num_stories)]
    return float(np.logaddexp.reduce(every) - math.log(stories.num_stories))
