"""Chooses the source of each document: exactly by tokens, or at random by documents.

By tokens: the next document comes from the source that has given the fewest tokens for its weight. This is integer
arithmetic without random draws; no source is ever further from its share than the longest document. The weights of the
LST paper (one third interleaved, two thirds text) are of tokens. By documents: each document's source is drawn with the
weights as probabilities, so sources of long documents give more tokens than their weight.

Where corpora have weights of their own (``data.sources``), the kind of a document is chosen first, and then its corpus
among those of its kind, by the same rule. A corpus that has given all the documents that it may drops out: the others
share what it leaves, in proportion to their weights, and the shares of the kinds stay.

::

    interleaved ── read, talks        a kind, and the corpora that give it
    text        ── read, talks
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
from lst.data.shards import NO_SOURCE, ShardReader
from lst.data.synthesis.fresh import FreshStories
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.data.utterance import Utterance
from lst.errors import UserError

# Added to the seed, so that these draws do not correlate with other uses of it.
_KIND_STREAM, _CORPUS_STREAM = 0x51AD, 0xC0B5
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
        corpus: by which the kind is divided; empty where the source is all of its kind.
        share: of the corpus within the kind, above 0.
        most_documents: that the corpus may give, of all kinds together; None sets no limit.
    """

    name: str
    kind: str
    utterances: Sequence[Utterance]
    weight: float
    speech: SimulatedSpeech | None = None
    stories: FreshStories | None = None
    corpus: str = ""
    share: float = 1.0
    most_documents: int | None = None

    def source_of(self, number: int) -> str:
        """By which name the loss of utterance ``number`` is told."""
        if self.corpus:
            return self.corpus
        return self.utterances.source_of(number) if isinstance(self.utterances, ShardReader | Joined) else NO_SOURCE

    def utterance(self, number: int, epoch: int) -> Utterance:
        """Utterance ``number`` in a pass."""
        if self.stories is not None:
            return self.stories.utterance(f"{self.name}-{epoch}-{number}", self.speech)
        stored = self.utterances[number]
        return stored if self.speech is None else self.speech.again(stored, f"{self.name}-{epoch}")


@dataclass(frozen=True)
class CorpusPart:
    """The training utterances of one of several corpora; see ``MixSource`` for ``share`` and ``most_documents``.

    Those without a transcript are for documents of speech alone.
    """

    name: str
    utterances: Sequence[Utterance]
    share: float
    most_documents: int | None = None
    untranscribed: Sequence[Utterance] = ()


def mix_sources(
    spoken: Sequence[Utterance],
    written: Sequence[Utterance],
    mix: MixConfig,
    speech: SimulatedSpeech | None = None,
    stories: FreshStories | None = None,
    corpora: Sequence[CorpusPart] = (),
    untranscribed: Sequence[Utterance] = (),
) -> list[MixSource]:
    """The sources of a prepared corpus that have a weight above 0.

    Args:
        spoken: aligned utterances.
        written: texts without speech; if empty, the transcripts of ``spoken`` are used as texts.
        mix: weights.
        speech: says spoken utterances anew in every pass; None takes them as they are.
        stories: draws a new story for every document; None takes those that there are.
        corpora: of which ``spoken`` consists, where they have weights of their own.
        untranscribed: utterances without a transcript, for documents of speech alone.

    Raises:
        UserError: there are no utterances for a kind of document with a weight.
    """
    has_texts = bool(len(written))
    written = written if has_texts else spoken
    weights = {kind: weight for kind in DOCUMENT_KINDS if (weight := float(getattr(mix, kind)))}
    _check_kinds(list(weights), spoken, has_texts, bool(len(untranscribed)))
    found: list[MixSource] = []
    for kind, weight in weights.items():
        if corpora and not (kind == "text" and has_texts):
            own_parts = [
                MixSource(
                    f"{kind}:{part.name}",
                    kind,
                    own,
                    weight,
                    corpus=part.name,
                    share=part.share,
                    most_documents=part.most_documents,
                )
                for part in corpora
                if len(own := _with_untranscribed(part.utterances, part.untranscribed, kind))
            ]
            _check_limits(kind, own_parts)
            found += own_parts
        elif kind == "text":
            found.append(MixSource(kind, kind, written, weight, None, stories))
        else:
            heard = _with_untranscribed(spoken, untranscribed, kind)
            found.append(MixSource(kind, kind, heard, weight, speech, stories))
    return found


def _check_kinds(kinds: Sequence[str], spoken: Sequence[Utterance], has_texts: bool, has_untranscribed: bool) -> None:
    """Raises ``UserError`` where there are no utterances for a kind with a weight."""
    has_words = bool(len(spoken)) and bool(spoken[0].text)
    has_speech = bool(len(spoken)) or has_untranscribed
    if not (has_speech or has_texts):
        raise UserError("there is neither speech nor text to train on: prepare a corpus with training utterances")
    possible = {*(DOCUMENT_KINDS if has_words else ()), *(["speech"] * has_speech), *(["text"] * has_texts)}
    if not (lacking := [kind for kind in kinds if kind not in possible]):
        return
    remedy = " ".join(f"data.mix.{kind}=0" for kind in lacking)
    if not has_speech:
        raise UserError(f"the training split holds no aligned speech: set {remedy}")
    more = "" if possible & {*kinds} else " data.mix.speech=1"
    raise UserError(f"the training split is speech without transcripts: set {remedy}{more}")


def _check_limits(kind: str, parts: Sequence[MixSource]) -> None:
    """Raises ``UserError`` where every corpus of a kind has a limit: its documents would run out."""
    if all(part.most_documents is not None for part in parts):
        raise UserError(
            f"data.sources.max_epochs limits every source of data.mix.{kind} documents "
            f"({', '.join(part.corpus for part in parts)}): leave one without, or set data.mix.{kind}=0"
        )


def _with_untranscribed(
    spoken: Sequence[Utterance], untranscribed: Sequence[Utterance], kind: str
) -> Sequence[Utterance]:
    if kind != "speech" or not len(untranscribed):
        return spoken
    return Joined(spoken, untranscribed) if len(spoken) else untranscribed


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

    def source_of(self, index: int) -> str:
        """As of ``ShardReader``; what has no sources is unnamed."""
        is_first = index < len(self.first)
        part, place = (self.first, index) if is_first else (self.second, index - len(self.first))
        return part.source_of(place) if isinstance(part, ShardReader) else NO_SOURCE

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
        draws: number of a sequence of draws, of which there are many.

    >>> mix = DocumentMix([1.0, 2.0], seed=0)
    >>> [mix.next_source(number, []) for number in range(8)]
    [0, 1, 1, 1, 1, 0, 1, 0]
    """

    def __init__(
        self, weights: Sequence[float], seed: int, stream: int = 0, num_streams: int = 1, draws: int = _KIND_STREAM
    ) -> None:
        self._thresholds = np.cumsum(np.array(weights, float) / sum(weights))
        # Rounding may have made the last one smaller than 1.
        self._thresholds[-1] = 1.0
        self._seed, self._stream, self._num_streams = [draws, seed], stream, num_streams
        self._block, self._sources = -1, np.zeros(0, np.int64)

    def next_source(self, num_drawn: int, num_tokens: Sequence[int]) -> int:
        """Index of the source of the next document; see ``TokenMix.next_source``."""
        block, place = divmod(num_drawn * self._num_streams + self._stream, _DRAWS_A_BLOCK)
        if block != self._block:
            draws = uniform_draws(self._seed, block * _DRAWS_A_BLOCK, _DRAWS_A_BLOCK)
            self._block, self._sources = block, np.searchsorted(self._thresholds, draws, side="right")
        return int(self._sources[place])


class Mixture:
    """Chooses the source of each document of a stream: its kind, then its corpus if several give this kind.

    Args:
        sources: all of them.
        mix_by: unit of the weights, ``tokens`` or ``documents``.
        seed: of the draws by documents.
        stream, num_streams: of a corpus with a limit, stream v gives documents v, v + V, … of those that it may.

    >>> from dataclasses import replace
    >>> read, talks = (MixSource(f"text:{name}", "text", [], 1.0, corpus=name) for name in ("read", "talks"))
    >>> mixture = Mixture([read, replace(talks, most_documents=1)], "tokens", seed=0)
    >>> mixture.next_source([1, 0], [10, 0]), mixture.next_source([1, 1], [10, 5])
    (1, 0)
    """

    def __init__(
        self, sources: Sequence[MixSource], mix_by: str, seed: int, stream: int = 0, num_streams: int = 1
    ) -> None:
        self._sources, self._seed = sources, seed
        self._by_tokens, self._stream, self._num_streams = mix_by == "tokens", stream, num_streams
        groups: dict[str, list[int]] = {}
        for number, source in enumerate(sources):
            groups.setdefault(source.kind if source.corpus else source.name, []).append(number)
        self._groups = list(groups.values())
        self._is_plain = all(len(group) == 1 for group in self._groups)
        self._kinds = self._chooser([sources[group[0]].weight for group in self._groups], _KIND_STREAM)
        self._corpora: dict[tuple[int, ...], TokenMix | DocumentMix] = {}
        self._limits = {
            source.corpus: (source.most_documents - stream + num_streams - 1) // num_streams
            for source in sources
            if source.most_documents is not None
        }

    def next_source(self, num_drawn: Sequence[int], num_tokens: Sequence[int]) -> int:
        """Index of the source of the next document.

        Args:
            num_drawn: documents that each source has given.
            num_tokens: tokens that each source has given.
        """
        if self._is_plain:
            return self._kinds.next_source(sum(num_drawn), num_tokens)
        of_kinds = [sum(num_tokens[number] for number in group) for group in self._groups]
        kind = self._kinds.next_source(sum(num_drawn), of_kinds)
        group, gone = self._groups[kind], self.used_up(num_drawn)
        left = tuple(number for number in group if self._sources[number].corpus not in gone)
        if left not in self._corpora:
            self._corpora[left] = self._chooser([self._sources[number].share for number in left], _CORPUS_STREAM + kind)
        drawn_of_kind = sum(num_drawn[number] for number in group)
        return left[self._corpora[left].next_source(drawn_of_kind, [num_tokens[number] for number in left])]

    def used_up(self, num_drawn: Sequence[int]) -> set[str]:
        """The corpora that have given all the documents that they may in this stream."""
        drawn = dict.fromkeys(self._limits, 0)
        for source, number in zip(self._sources, num_drawn, strict=True):
            if source.corpus in drawn:
                drawn[source.corpus] += number
        return {name for name, number in drawn.items() if number >= self._limits[name]}

    def _chooser(self, weights: Sequence[float], draws: int) -> TokenMix | DocumentMix:
        if self._by_tokens:
            return TokenMix(weights)
        return DocumentMix(weights, self._seed, self._stream, self._num_streams, draws)
