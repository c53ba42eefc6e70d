"""Which kind of document comes next: exact by tokens, or drawn by documents.

By tokens (the weights of the LST paper, one third interleaved and two thirds text, are of tokens), the next document is
of the source that has given least for its weight. That is integer arithmetic on the tokens given so far: nothing is
drawn, and no source is ever further from its share than the longest document. By documents, each document's source is
drawn with the weights as probabilities, so that sources of long documents give more tokens than their weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lst.data.config import MixConfig
from lst.data.documents.draws import uniform_draws
from lst.data.utterance import Utterance
from lst.errors import UserError

# Draws of their own, so that no two uses of the seed are correlated.
_KIND_STREAM = 0x51AD
_DRAWS_A_BLOCK = 1024


@dataclass(frozen=True)
class MixSource:
    """A part of the mix.

    Attributes:
        name: unique; keys of documents and the state name it.
        kind: what its documents are: ``interleaved``, ``text`` or ``speech``.
        utterances: what they are made of.
        weight: above 0.
    """

    name: str
    kind: str
    utterances: Sequence[Utterance]
    weight: float


def mix_sources(spoken: Sequence[Utterance], written: Sequence[Utterance], mix: MixConfig) -> list[MixSource]:
    """The sources of a prepared corpus, those of weight 0 left out.

    Args:
        spoken: aligned utterances.
        written: texts without speech; empty means that text documents are the transcripts of ``spoken``.
        mix: weights.

    Raises:
        UserError: a kind of document that has weight has no source.
    """
    written = written if len(written) else spoken
    if not len(written):
        raise UserError("there is neither speech nor text to train on: prepare a corpus with training utterances")
    if not len(spoken) and (mix.interleaved or mix.speech):
        raise UserError("the training split holds no aligned speech: set data.mix.interleaved=0 data.mix.speech=0")
    kinds = {"interleaved": spoken, "text": written, "speech": spoken}
    weights = {kind: float(getattr(mix, kind)) for kind in kinds}
    return [MixSource(kind, kind, source, weights[kind]) for kind, source in kinds.items() if weights[kind]]


class TokenMix:
    """Takes the source that has given the fewest tokens for its weight; the earlier one among equals.

    Args:
        weights: above 0; taken as the decimal numbers that they are written as.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(repr(weight)) for weight in weights]
        # Tokens over weight are compared in integers: tokens times what the weight must be multiplied by to be common.
        common = math.lcm(*(weight.numerator for weight in exact))
        self._costs = [int(common / weight.numerator) * weight.denominator for weight in exact]

    def next_source(self, num_drawn: int, num_tokens: Sequence[int]) -> int:
        """Index of the next document's source.

        Args:
            num_drawn: documents before it.
            num_tokens: tokens that each source has given.
        """
        served = [tokens * cost for tokens, cost in zip(num_tokens, self._costs, strict=True)]
        return served.index(min(served))


class DocumentMix:
    """Draws each document's source, with the weights as probabilities.

    Args:
        weights: above 0.
        seed: of the draws.
        stream, num_streams: document n of stream v takes draw n · num_streams + v.
    """

    def __init__(self, weights: Sequence[float], seed: int, stream: int = 0, num_streams: int = 1) -> None:
        self._thresholds = np.cumsum(np.array(weights, float) / sum(weights))
        # Rounding may leave the last one below 1.
        self._thresholds[-1] = 1.0
        self._seed, self._stream, self._num_streams = [_KIND_STREAM, seed], stream, num_streams
        self._block, self._sources = -1, np.zeros(0, np.int64)

    def next_source(self, num_drawn: int, num_tokens: Sequence[int]) -> int:
        """Index of the next document's source; see ``TokenMix.next_source``."""
        block, place = divmod(num_drawn * self._num_streams + self._stream, _DRAWS_A_BLOCK)
        if block != self._block:
            draws = uniform_draws(self._seed, block * _DRAWS_A_BLOCK, _DRAWS_A_BLOCK)
            self._block, self._sources = block, np.searchsorted(self._thresholds, draws, side="right")
        return int(self._sources[place])
