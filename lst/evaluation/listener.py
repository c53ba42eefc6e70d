"""Listeners and readers that know the story grammar: the best answers to questions about stories.

The ideal listener knows lexicon, grammar, noise and speakers. A story's context and ending share its plot (topic, name
and thing) alone. So all that a part of a question says is its probability given each plot and speaker::

    p(ending | context) = Σ p(context | plot, speaker) p(ending | plot, speaker) / Σ p(context | plot, speaker)

Where the grammar has many plots, the listener is told the plots of the question's two stories; no listener does better.
A listener for topics knows the context's topic alone, and takes all its names and things for equally likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from lst.data.synthesis import split_sentences
from lst.data.synthesis.grammar import Plot, StoryGrammar
from lst.data.synthesis.phone_lattice import PhoneLattice, Text, num_texts
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.errors import UserError
from lst.evaluation.entropy import MOST_PLOTS
from lst.evaluation.items import Item, Part
from lst.evaluation.results import DIRECTIONS, Direction, ItemRow

# ln p(part | plot, speaker), float64 [speakers, plots], of parts that are spoken (S) and written (T).
_Evidence: TypeAlias = Mapping[str, Sequence[np.ndarray]]
# Scores that are equal but for rounding are ties.
DECIMALS = 6


class _Side(NamedTuple):
    """A side of a story, its context or its ending, under each plot; the lattice is of its speech."""

    texts: list[Text]
    lattice: PhoneLattice | None


class Listener:
    """Scores the endings of questions about stories.

    Args:
        grammar: of the stories.
        speech: that says them; None for a reader, who is asked in the direction T→T alone.
    """

    def __init__(self, grammar: StoryGrammar, speech: SimulatedSpeech | None) -> None:
        self.grammar, self.speech = grammar, speech
        self.directions: tuple[Direction, ...] = DIRECTIONS if speech else ("T→T",)
        self._every_plot = tuple(grammar.plots) if len(grammar.plots) <= MOST_PLOTS else ()
        self._sides = lru_cache(maxsize=1)(self._made_sides)

    @property
    def is_told(self) -> bool:
        """Whether it is told the plots of a question's two stories."""
        return not self._every_plot

    def rows(self, item: Item) -> tuple[list[ItemRow], list[ItemRow]]:
        """A row for each ending in each direction: of the ideal listener, and of the one for topics."""
        plots = self._every_plot or self._plots_of(item)
        context, ending = self._sides(plots)
        letters = sorted({letter for direction in self.directions for letter in direction.split("→")})
        contexts = {
            letter: [self._evidence(context, part, letter) for part in (item.context, item.other_context)]
            for letter in letters
        }
        endings = {letter: [self._evidence(ending, part, letter) for part in item.endings] for letter in letters}
        of_topics = {letter: [_topics_of(heard, plots) for heard in own] for letter, own in contexts.items()}
        return self._rows(item, contexts, endings), self._rows(item, of_topics, endings)

    def _rows(self, item: Item, contexts: _Evidence, endings: _Evidence) -> list[ItemRow]:
        rows: list[ItemRow] = []
        for direction in self.directions:
            of_context, of_ending = direction.split("→")
            for number, (part, said) in enumerate(zip(item.endings, endings[of_ending], strict=True)):
                own, swapped = (_log_mean(said, heard) for heard in contexts[of_context])
                rows.append(
                    {
                        "item": item.id,
                        "stratum": item.stratum,
                        "direction": direction,
                        "ending": number,
                        "is_true": number == item.label,
                        "nats": own,
                        "swapped_nats": swapped,
                        "alone_nats": _log_mean(said, np.zeros_like(said)),
                        "num_tokens": part.utterance.num_frames if of_ending == "S" else len(part.text.split()),
                        "num_bytes": len(part.text.encode()),
                    }
                )
        return rows

    def _plots_of(self, item: Item) -> tuple[Plot, ...]:
        """The plots of an item's two stories, which the first sentence about the person tells."""
        place = int(bool(self.grammar.openings))
        found = [
            plot
            for part in (item.context, item.other_context)
            for plot in self.grammar.plots_of(split_sentences(part.text)[place], 0)
        ]
        if not found:
            raise UserError(f"question {item.id!r} is about no story of the grammar: prepare the data again")
        return tuple(dict.fromkeys(found))

    def _made_sides(self, plots: tuple[Plot, ...]) -> tuple[_Side, _Side]:
        whole = [self.grammar.texts(plot.topic, [plot.name], [plot.thing]) for plot in plots]
        sides = [text[:-1] for text in whole], [text[-1:] for text in whole]
        if self.speech is None:
            return _Side(sides[0], None), _Side(sides[1], None)
        share = self.speech.config.silence_share
        return _Side(sides[0], PhoneLattice.of(sides[0], share)), _Side(sides[1], PhoneLattice.of(sides[1], share))

    def _evidence(self, side: _Side, part: Part, letter: str) -> np.ndarray:
        """ln p(part | plot, speaker), float64 [speakers, plots]."""
        if letter == "T" or self.speech is None or side.lattice is None:
            words = part.text.split()
            with np.errstate(divide="ignore"):
                own = np.log([_num_choices(text, words) / num_texts(text) for text in side.texts])
            return np.tile(own, (1 if self.speech is None else self.speech.config.num_speakers, 1))
        speakers = range(self.speech.config.num_speakers)
        units = part.utterance.units
        return np.stack([side.lattice.forward(self.speech.phone_units, units, one).ended[-1] for one in speakers])


def _topics_of(evidence: np.ndarray, plots: Sequence[Plot]) -> np.ndarray:
    """The mean of the probabilities, float64 [speakers, plots], over each topic's plots."""
    topics = np.array([plot.topic for plot in plots])
    heard = np.empty_like(evidence)
    for topic in set(topics.tolist()):
        own = evidence[:, topics == topic]
        heard[:, topics == topic] = np.logaddexp.reduce(own, axis=1, keepdims=True) - np.log(own.shape[1])
    return heard


def _log_mean(values: np.ndarray, log_weights: np.ndarray) -> float:
    """Logarithm of the weighted mean of exp(values), rounded."""
    total = np.logaddexp.reduce(log_weights, axis=None)
    return round(float(np.logaddexp.reduce(values + log_weights, axis=None) - total), DECIMALS)


def _num_choices(text: Text, words: Sequence[str]) -> int:
    """Number of choices of a text's words that give these words."""
    # By the number of words told so far.
    ways = {0: 1}
    for sentence in text:
        after: dict[int, int] = {}
        for start, count in ways.items():
            for wording in sentence:
                own = words[start : start + len(wording)]
                if len(own) == len(wording) and all(word in slot for word, slot in zip(own, wording, strict=True)):
                    after[start + len(wording)] = after.get(start + len(wording), 0) + count
        ways = after
    return ways.get(len(words), 0)
