"""Entropy of simulated speech and of stories: what the best listener pays, and a floor for every model.

A story is drawn from a grammar, its speech from ``SimulatedSpeech``. So the probability of units is a sum over all
stories, durations, silences and speakers. Of an utterance, four numbers of bits follow::

    given_words     the story is known:                 exact
    at_least        the grammar is known:               every sentence by itself may name any person and thing
    at_most         the grammar is known:               the true story alone is counted
    floor           and so are the stories of training: what is held out is none of them

Where the grammar is small (``MOST_PLOTS``), the sum is exact and ``at_least`` equals ``at_most``. Models are not scored
on where an utterance ends, so that it goes on is known to all of these. In expectation, no model's bits lie below
``floor``, whatever it was trained on.
"""

from __future__ import annotations

import math

import numpy as np

from lst.data.synthesis.grammar import StoryGrammar
from lst.data.synthesis.phone_lattice import Forward, PhoneLattice, num_texts
from lst.data.synthesis.simulated import SimulatedSpeech, one_text
from lst.data.utterance import Utterance
from lst.evaluation.ceilings_results import EntropyRow

# Up to so many combinations of topic, name and thing, sums go over all of them.
MOST_PLOTS = 200


class UnitEntropy:
    """Bits of simulated units of stories.

    Args:
        speech: that says the stories.
        grammar: that they are drawn from.
        num_known: stories that a model is trained on; no held-out story is one of them.
        is_exact: sum over all combinations of topic, name and thing.
    """

    def __init__(
        self, speech: SimulatedSpeech, grammar: StoryGrammar, num_known: int, is_exact: bool | None = None
    ) -> None:
        self.speech, self.num_stories = speech, grammar.num_stories
        self.num_new = grammar.num_stories - num_known
        self.is_exact = len(grammar.plots) <= MOST_PLOTS if is_exact is None else is_exact
        if self.is_exact:
            groups = [grammar.texts(plot.topic, [plot.name], [plot.thing]) for plot in grammar.plots]
        else:
            num_she, things = len(grammar.she), range(len(grammar.topics[0].things))
            genders = (range(num_she), range(num_she, len(grammar.names)))
            groups = [grammar.texts(topic, names, things) for topic in range(len(grammar.topics)) for names in genders]
        self._lattice = PhoneLattice.of(groups, speech.config.silence_share)
        weights = np.log([float(num_texts(text)) for text in groups]) - math.log(self.num_stories)
        self._log_weights = np.tile(weights, speech.config.num_speakers)

    def row(self, utterance: Utterance) -> EntropyRow:
        """All bits of an utterance whose text is a story."""
        one = _summed(self._forward_of(utterance.text, utterance.units), 0.0)
        over = _summed(self._lattice.forward_of_all(self.speech.phone_units, utterance.units), self._log_weights)
        under = over if self.is_exact else _plus(one, -math.log(self.num_stories))
        new_over, new_under = (
            _plus(over, math.log(self.num_stories / self.num_new)),
            _plus(one, -math.log(self.num_new)),
        )
        text, text_floor = math.log2(self.num_stories), math.log2(self.num_new)
        return {
            "utterance": utterance.id,
            "num_units": utterance.num_frames,
            "num_bytes": len(utterance.text.encode()),
            "given_words": self._bits(one, one),
            "at_least": self._bits(over, under),
            "at_most": self._bits(under, over, least=False),
            "floor": self._bits(new_over, new_under),
            "text": text,
            "text_floor": text_floor,
        }

    def said_bits(self, utterance: Utterance) -> tuple[float, float]:
        """Bits of the units of a story as a model pays them, which says of each that the utterance goes on.

        Returns:
            Bounds from below and from above; equal where sums are exact.
        """
        over = _summed(self._lattice.forward_of_all(self.speech.phone_units, utterance.units), self._log_weights)
        at_least = -float(over.prefix[-1]) / math.log(2)
        if self.is_exact:
            return at_least, at_least
        one = _summed(self._forward_of(utterance.text, utterance.units), -math.log(self.num_stories))
        return at_least, -float(one.prefix[-1]) / math.log(2)

    def _forward_of(self, text: str, units: np.ndarray) -> Forward:
        lattice = PhoneLattice.of([one_text(text)], self.speech.config.silence_share)
        return lattice.forward_of_all(self.speech.phone_units, units)

    def _bits(self, own: Forward, other: Forward, least: bool = True) -> float:
        """Bits of units known to go on: ``own`` bounds their probability, ``other`` from the other side.

        Bits are least with the probability bounded from above; so is the share of what could have ended before.
        """
        ended = np.exp(np.minimum(own.ended[:-1] - other.prefix[:-1], 0.0))
        if least:
            # Speech can end within its last silence only.
            ended = np.minimum(ended, 1 / self.speech.config.silence_units)
        going_on = np.log1p(-np.minimum(ended, 1 - 1e-12)).sum()
        return float((going_on - own.prefix[-1]) / math.log(2))


def _summed(found: Forward, log_weights: np.ndarray | float) -> Forward:
    return Forward(*(np.logaddexp.reduce(logs + log_weights, axis=1) for logs in found))


def _plus(found: Forward, log_factor: float) -> Forward:
    return Forward(found.prefix + log_factor, found.ended + log_factor)
