"""Simulated speech: random units of known words, drawn from a model whose likelihoods are exact.

A word is spoken as its phones. A phone is an onset unit, then its steady unit for a random time. The onset depends on
the phone before it (coarticulation); all units depend on the speaker. There is silence at both ends, after every
sentence and after a share of the other words. Noise replaces units by random ones. This is a hidden Markov model, so
``log_likelihood`` sums over all durations, silences and speakers::

    text ──phones──▶ SimulatedSpeech.utterance ──▶ units and aligned words
    units, text ──▶ SimulatedSpeech.log_likelihood ──▶ ln p(units | text)

It is no recording of anybody: results on it are results on simulated speech.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lst.data.config import SimulatedConfig
from lst.data.text import SpokenWord, pronounce, spoken_words
from lst.data.utterance import Utterance, Word
from lst.errors import UserError

FRAME_RATE_HZ = 25
# ARPAbet without stress; silence is number 0.
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
SILENCE = 0
_NUMBERS = {phone: number for number, phone in enumerate(PHONES)}
# Keep the draws of the units' tables and of utterances apart from other uses of a seed.
_TABLE_STREAM, _SPEECH_STREAM = 0x7AB1E, 0x59EEC


def mean_phones(texts: Iterable[str]) -> float:
    """Mean number of phones of a word of some texts; raises ``UserError`` where there is no word."""
    counts = [len(_phones(word)) for text in texts for word in spoken_words(text)]
    if not counts:
        raise UserError("simulated speech needs texts with at least one word")
    return sum(counts) / len(counts)


@dataclass(frozen=True)
class SimulatedRow:
    """A text to be said. ``split`` is ``train``, ``valid`` or ``questions``."""

    id: str
    text: str
    speaker: int
    split: str
    ending_start_word: int | None = None


class SimulatedSpeech:
    """Speaks texts as units, and gives the exact likelihood of units.

    Args:
        config: number of units, durations, noise, coarticulation and speakers.
        seed: of the tables of units and of every utterance.
        phones_a_word: mean of the texts, from which a phone's duration follows.

    Raises:
        UserError: words would be shorter than a unit a phone.
    """

    def __init__(self, config: SimulatedConfig, seed: int, phones_a_word: float) -> None:
        phone_units = config.word_units / phones_a_word
        if phone_units < 1:
            raise UserError(
                f"data.simulated.word_units={config.word_units}: these words have {phones_a_word:.2f} phones on "
                f"average, and a phone lasts a unit or longer; set {math.ceil(10 * phones_a_word) / 10} or more"
            )
        self.config, self.seed = config, seed
        self.stay = np.full(len(PHONES), 1 - 1 / phone_units)
        self.stay[SILENCE] = 1 - 1 / config.silence_units
        self.onset, self.steady = _unit_tables(config, seed)

    @classmethod
    def of(cls, facts: Any) -> SimulatedSpeech:
        """Opens what ``source.json`` records under ``simulated``."""
        return cls(SimulatedConfig(**facts["options"]), facts["seed"], facts["phones_a_word"])

    def say(self, row: SimulatedRow) -> Utterance:
        """``utterance`` of a row."""
        return self.utterance(row.id, row.text, row.speaker, row.ending_start_word)

    def utterance(
        self, utterance_id: str, text: str, speaker: int = 0, ending_start_word: int | None = None
    ) -> Utterance:
        """A text as units (uint16 [num_frames]) and aligned words; a pure function of seed and arguments.

        Raises:
            ValueError: a word cannot be said.
        """
        words = spoken_words(text)
        draw = np.random.default_rng([self.seed, _SPEECH_STREAM, _number(utterance_id)])
        phones, owners = self._with_silences(words, draw)
        frames = draw.geometric(1 - self.stay[phones])
        ends = np.cumsum(frames)
        units = np.repeat(self.steady[speaker, phones], frames)
        units[ends - frames] = self.onset[speaker, np.append(SILENCE, phones[:-1]), phones]
        is_noise = draw.random(len(units)) < self.config.noise
        units = np.where(is_noise, draw.integers(self.config.num_units, size=len(units)), units)
        first, last = (np.searchsorted(owners, range(len(words)), side=side) for side in ("left", "right"))
        starts = (ends - frames)[first]
        return Utterance(
            id=utterance_id,
            speaker=f"simulated-{speaker}",
            text=" ".join(word.text for word in words),
            duration_s=round(len(units) / FRAME_RATE_HZ, 3),
            units=units.astype(np.uint16),
            words=tuple(
                Word(word.text, int(start), int(end), 0.0)
                for word, start, end in zip(words, starts, ends[last - 1], strict=True)
            ),
            ending_start_word=ending_start_word,
        )

    def _with_silences(self, words: Sequence[SpokenWord], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Phones of words with the silences drawn, int [p], and twice the word of each: odd numbers are silences."""
        phones: list[int] = [SILENCE]
        owners: list[float] = [-0.5]
        pauses = draw.random(len(words)) < self.config.silence_share
        for index, word in enumerate(words):
            own = _phones(word)
            phones += own
            owners += [float(index)] * len(own)
            if pauses[index] or index == len(words) - 1 or ends_sentence(word.text):
                phones.append(SILENCE)
                owners.append(index + 0.5)
        return np.array(phones), np.array(owners)

    def log_likelihood(self, units: np.ndarray, text: str) -> float:
        """ln p(units | text), in nats: exact, over all durations, silences and (equally likely) speakers.

        Args:
            units: int [num_frames].
            text: the words that were said.
        """
        chain = _Chain(self, spoken_words(text))
        noise = self.config.noise
        # [speakers, states, units]: what each state emits.
        tables = np.full((*chain.units.shape, self.config.num_units), noise / self.config.num_units)
        np.put_along_axis(tables, chain.units[..., None], noise / self.config.num_units + 1 - noise, axis=2)
        weights = chain.first * tables[:, :, int(units[0])]
        logs = np.zeros(len(weights))
        for unit in units[1:].tolist():
            sums = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
            logs += np.log(sums[:, 0])
            weights = (weights / sums) @ chain.moves * tables[:, :, unit]
        with np.errstate(divide="ignore"):
            logs += np.log(weights @ chain.last)
        return float(np.logaddexp.reduce(logs) - math.log(len(logs)))


class _Chain:
    """The states through which a text can be said.

    Attributes:
        units: int [speakers, states], the unit that each state emits where noise does not replace it.
        first, last: float [states], probability to begin in a state, and to end after it.
        moves: float [states, states], probability of the next state.
    """

    def __init__(self, speech: SimulatedSpeech, words: Sequence[SpokenWord]) -> None:
        self._speech = speech
        self._units: list[np.ndarray] = []
        # Of each move: the state before (−1 for the beginning), the state after, its probability.
        self._moves: list[tuple[int, int, float]] = []
        share = speech.config.silence_share
        ends = self._say(SILENCE, [(-1, SILENCE, 1.0)])
        for index, word in enumerate(words):
            for phone in _phones(word):
                ends = self._say(phone, ends)
            is_certain = index == len(words) - 1 or ends_sentence(word.text)
            taken = 1.0 if is_certain else share
            silent = self._say(SILENCE, [(state, phone, weight * taken) for state, phone, weight in ends])
            ends = silent + [(state, phone, weight * (1 - taken)) for state, phone, weight in ends if not is_certain]
        size = len(self._units)
        self.units = np.stack(self._units, axis=1)
        moves = np.zeros((size + 1, size))
        for before, after, weight in self._moves:
            moves[before, after] += weight
        # The last row is that of −1, the beginning.
        self.first, self.moves = moves[-1], moves[:-1]
        self.last = np.zeros(size)
        for state, _, weight in ends:
            self.last[state] += weight

    def _say(self, phone: int, before: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
        """Adds the states of a phone after (state, its phone, probability to leave it); returns the same of its own."""
        speech, stay = self._speech, float(self._speech.stay[phone])
        steady = len(self._units)
        self._units.append(speech.steady[:, phone])
        self._moves.append((steady, steady, stay))
        ends = [(steady, phone, 1 - stay)]
        for left in sorted({own for _, own, _ in before}):
            onset = len(self._units)
            self._units.append(speech.onset[:, left, phone])
            self._moves += [(state, onset, weight) for state, own, weight in before if own == left]
            self._moves.append((onset, steady, stay))
            ends.append((onset, phone, 1 - stay))
        return ends


def ends_sentence(word: str) -> bool:
    """Whether a written word ends a sentence, so that silence follows it."""
    return word.rstrip("\"'”’)]").endswith((".", "!", "?"))


def _phones(word: SpokenWord) -> list[int]:
    return [_NUMBERS[phone] for token in word.tokens for phone in pronounce(token)]


def _unit_tables(config: SimulatedConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Units of onsets, int [speakers, phone before, phone], and steady units, int [speakers, phone]."""
    draw = np.random.default_rng([seed, _TABLE_STREAM])
    size, speakers, num_units = len(PHONES), config.num_speakers, config.num_units
    own = np.resize(draw.permutation(num_units), 2 * size)
    onset, steady = (np.tile(own[start::2], (speakers, 1)) for start in (0, 1))
    # The first speaker has the common units; the others say a share of the phones with units of their own.
    for table in (onset, steady):
        differs = draw.random((speakers, size)) < config.speaker_share
        differs[0] = False
        table[differs] = draw.integers(num_units, size=int(differs.sum()))
    after = np.repeat(onset[:, None, :], size, axis=1)
    is_changed = draw.random((size, size)) < config.coarticulation
    is_changed[:, SILENCE] = False
    after[:, is_changed] = draw.integers(num_units, size=int(is_changed.sum()))
    return after, steady


def _number(utterance_id: str) -> int:
    return int.from_bytes(hashlib.sha256(utterance_id.encode()).digest()[:8], "little")
