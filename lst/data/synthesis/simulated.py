"""Simulated speech: random units of known words, drawn from a model whose likelihoods are exact.

A word is spoken as its phones. A phone is an onset unit, then its steady unit for a random time. The onset depends on
the phone before it (coarticulation); all units depend on the speaker. There is silence at both ends, after every
sentence and after a share of the other words. Noise replaces units by random ones. This is a hidden Markov model, so
``log_likelihood`` sums over all durations, silences and speakers::

    text ──phones──▶ SimulatedSpeech.utterance ──▶ units and aligned words
    utterance ──▶ SimulatedSpeech.again ──▶ the same words with other durations, silences and noise
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
from lst.data.synthesis.phone_lattice import (
    PHONES,
    SILENCE,
    PhoneLattice,
    PhoneUnits,
    Text,
    ends_sentence,
    phone_numbers,
)
from lst.data.text import spoken_words
from lst.data.utterance import Utterance, Word
from lst.errors import UserError

FRAME_RATE_HZ = 25
_SPEAKER = "simulated-"
# Keep the draws of the units' tables and of utterances apart from other uses of a seed.
_TABLE_STREAM, _SPEECH_STREAM = 0x7AB1E, 0x59EEC


def mean_phones(texts: Iterable[str]) -> float:
    """Mean number of phones of a word of some texts; raises ``UserError`` where there is no word."""
    counts = [len(phone_numbers(word.text)) for text in texts for word in spoken_words(text)]
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
        self.phone_units = PhoneUnits(
            self.stay, self.onset, self.steady, config.silence_share, config.noise, config.num_units
        )

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
        words = [word.text for word in spoken_words(text)]
        return self._say(utterance_id, utterance_id, words, speaker, ending_start_word)

    def again(self, utterance: Utterance, take: str) -> Utterance:
        """The same words said anew by the same speaker. Other takes have other durations, silences and noise."""
        words = [word.text for word in utterance.words]
        speaker = int(utterance.speaker.removeprefix(_SPEAKER))
        return self._say(utterance.id, f"{utterance.id}#{take}", words, speaker, utterance.ending_start_word)

    def _say(
        self, utterance_id: str, drawn_from: str, words: Sequence[str], speaker: int, ending_start_word: int | None
    ) -> Utterance:
        """An utterance whose random draws follow from the seed and from ``drawn_from``."""
        draw = np.random.default_rng([self.seed, _SPEECH_STREAM, _number(drawn_from)])
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
            speaker=f"{_SPEAKER}{speaker}",
            text=" ".join(words),
            duration_s=round(len(units) / FRAME_RATE_HZ, 3),
            units=units.astype(np.uint16),
            words=tuple(
                Word(word, int(start), int(end), 0.0)
                for word, start, end in zip(words, starts, ends[last - 1], strict=True)
            ),
            ending_start_word=ending_start_word,
        )

    def _with_silences(self, words: Sequence[str], draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Phones of words with the silences drawn, int [p], and twice the word of each: odd numbers are silences."""
        phones: list[int] = [SILENCE]
        owners: list[float] = [-0.5]
        pauses = draw.random(len(words)) < self.config.silence_share
        for index, word in enumerate(words):
            own = phone_numbers(word)
            phones += own
            owners += [float(index)] * len(own)
            if pauses[index] or index == len(words) - 1 or ends_sentence(word):
                phones.append(SILENCE)
                owners.append(index + 0.5)
        return np.array(phones), np.array(owners)

    def log_likelihood(self, units: np.ndarray, text: str) -> float:
        """ln p(units | text), in nats: exact, over all durations, silences and (equally likely) speakers.

        Args:
            units: int [num_frames].
            text: the words that were said.
        """
        lattice = PhoneLattice.of([one_text(text)], self.config.silence_share)
        return float(np.logaddexp.reduce(lattice.forward_of_all(self.phone_units, units).ended[-1]))


def one_text(text: str) -> Text:
    """A text without a choice, as ``PhoneLattice`` takes it."""
    return [[[(word.text,) for word in spoken_words(text)]]]


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
