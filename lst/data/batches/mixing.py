"""Chooses the source of each document: exactly by tokens, or at random by documents.

By tokens: the next document comes from the source that has given the fewest tokens for its weight. This is integer
arithmetic without random draws; no source is ever further from its share than the longest document. The weights of the
LST paper (one third interleaved, two thirds text) are of tokens. By documents: each document's source is drawn with the
weights as probabilities, so sources of long documents give more tokens than their weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import overload

import numpy as np

from lst.data.config import DOCUMENT_KINDS, MixConfig
from lst.data.documents.draws import uniform_draws
from lst.data.synthesis.fresh import FreshStories
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.data.utterance import Utterance
from lst.errors import UserError

# Added to the seed, so that these draws do not correlate with other uses of it.
_KIND_STREAM = 0x51AD
_DRAWS_A_BLOCK = 1024


@dataclass(frozen=True)
class MixSource:
    """One source of documents.

    Attributes:
        name: unique; used in the loader's state.
        kind: of its documents, one of ``DOCUMENT_KINDS``.
        utterances: from which its documents are made.
        weight: above 0.
        speech: says its utterances anew in every pass; None takes them as they are.
        stories: draws another story in the place of every utterance; None keeps what is told.
    """

    name: str
    kind: str
    utterances: Sequence[Utterance]
    weight: float
    speech: SimulatedSpeech | None = None
    stories: FreshStories | None = None

    def utterance(self, number: int, epoch: int) -> Utterance:
        """Utterance ``number`` in a pass."""
        if self.stories is not None:
            return self.stories.utterance(f"{self.name}-{epoch}-{number}", self.speech)
        stored = self.utterances[number]
        return stored if self.speech is None else self.speech.again(stored, f"{self.name}-{epoch}")


def mix_sources(
    spoken: Sequence[Utterance],
    written: Sequence[Utterance],
    mix: MixConfig,
    speech: SimulatedSpeech | None = None,
    stories: FreshStories | None = None,
    untranscribed: Sequence[Utterance] = (),
) -> list[MixSource]:
    """The sources of a prepared corpus that have a weight above 0.

    Args:
        spoken: aligned utterances.
        written: texts without speech; if empty, the transcripts of ``spoken`` are used as texts.
        mix: weights.
        speech: says spoken utterances anew in every pass; None takes them as they are.
        stories: draws a new story for every document; None takes those that there are.
        untranscribed: utterances without a transcript, for documents of speech alone.

    Raises:
        UserError: there are no utterances for a kind of document with a weight.
    """
    written = written if len(written) else spoken
    if not len(written):
        raise UserError("there is neither speech nor text to train on: prepare a corpus with training utterances")
    weights = {kind: weight for kind in DOCUMENT_KINDS if (weight := float(getattr(mix, kind)))}
    if not len(spoken) and weights.keys() - {"text"}:
        remedy = " ".join(f"data.mix.{kind}=0" for kind in weights if kind != "text")
        raise UserError(f"the training split holds no aligned speech: set {remedy}")
    if len(spoken) and written is spoken and not spoken[0].text and weights.keys() - {"speech"}:
        remedy = " ".join(f"data.mix.{kind}=0" for kind in weights if kind != "speech")
        raise UserError(f"the training split is speech without transcripts: set {remedy} data.mix.speech=1")
    heard = Joined(spoken, untranscribed) if len(untranscribed) else spoken
    utterances = {"text": written, "speech": heard}
    return [
        MixSource(kind, kind, utterances.get(kind, spoken), weight, None if kind == "text" else speech, stories)
        for kind, weight in weights.items()
    ]


class Joined(Sequence[Utterance]):
    """The utterances of two splits, one after the other."""

    def __init__(self, first: Sequence[Utterance], second: Sequence[Utterance]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self.first[place] if place < len(self.first) else self.second[place - len(self.first)]

    @property
    def shard_sizes(self) -> list[int]:
        """As of ``ShardReader``; none where either has none."""
        sizes = [list(getattr(part, "shard_sizes", ())) for part in (self.first, self.second)]
        return sizes[0] + sizes[1] if all(sizes) else []


class TokenMix:
    """Chooses the source that has given the fewest tokens for its weight; of several, the first.

    Args:
        weights: above 0; exact decimal numbers.

    >>> mix = TokenMix([1.0, 2.0])
    >>> mix.next_source(0, [0, 0]), mix.next_source(1, [10, 0]), mix.next_source(2, [10, 21])
    (0, 1, 0)
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(repr(weight)) for weight in weights]
        # Tokens over weight, times a common multiple of all weights, is an integer.
        common = math.lcm(*(weight.numerator for weight in exact))
        self._costs = [int(common / weight.numerator) * weight.denominator for weight in exact]

    def next_source(self, num_drawn: int, num_tokens: Sequence[int]) -> int:
        """Index of the source of the next document.

        Args:
            num_drawn: documents drawn so far.
            num_tokens: tokens that each source has given.
        """
        served = [tokens * cost for tokens, cost in zip(num_tokens, self._costs, strict=True)]
        return served.index(min(served))


class DocumentMix:
    """Draws each document's source, with the weights as probabilities.

    Args:
        weights: above 0.
        seed: of the draws.
        stream, num_streams: document n of stream v uses draw n · num_streams + v.

    >>> mix = DocumentMix([1.0, 2.0], seed=0)
    >>> [mix.next_source(number, []) for number in range(8)]
    [0, 1, 1, 1, 1, 0, 1, 0]
    """

    def __init__(self, weights: Sequence[float], seed: int, stream: int = 0, num_streams: int = 1) -> None:
        self._thresholds = np.cumsum(np.array(weights, float) / sum(weights))
        # Rounding may have made the last one smaller than 1.
        self._thresholds[-1] = 1.0
        self._seed, self._stream, self._num_streams = [_KIND_STREAM, seed], stream, num_streams
        self._block, self._sources = -1, np.zeros(0, np.int64)

    def next_source(self, num_drawn: int, num_tokens: Sequence[int]) -> int:
        """Index of the source of the next document; see ``TokenMix.next_source``."""
        block, place = divmod(num_drawn * self._num_streams + self._stream, _DRAWS_A_BLOCK)
        if block != self._block:
            draws = uniform_draws(self._seed, block * _DRAWS_A_BLOCK, _DRAWS_A_BLOCK)
            self._block, self._sources = block, np.searchsorted(self._thresholds, draws, side="right")
        return int(self._sources[place])
