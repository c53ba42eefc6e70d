"""Stories without end: each document tells one that is drawn anew from all stories of the grammar.

A story follows from a seed and the document's name alone, so workers and order change nothing. Draws are independent,
and each story is as likely as any other. So what a model pays for a held-out story, on average over all of them, is
never less than the entropy of the grammar.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from lst.data.synthesis.grammar import StoryGrammar
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.data.utterance import Utterance


@dataclass(frozen=True)
class FreshStories:
    """Draws stories.

    Attributes:
        grammar: of all stories.
        seed: of the draws.
        num_speakers: of whom one tells each.
    """

    grammar: StoryGrammar
    seed: int
    num_speakers: int

    def utterance(self, name: str, speech: SimulatedSpeech | None) -> Utterance:
        """The story of a document, said by ``speech``; a written one where that is None."""
        draw = random.Random(f"stories-{self.seed}-{name}")
        text = " ".join(self.grammar.write(draw.randrange(self.grammar.num_stories)))
        if speech is None:
            return Utterance(name, "", text, 0.0, np.zeros(0, np.uint16))
        return speech.utterance(f"{self.seed}-{name}", text, draw.randrange(self.num_speakers))
