"""All ways to say one of many texts, as a lattice of phones, and the exact probability of units under it.

::

    slots of words ──PhoneLattice.of──▶ nodes (a phone of a word each) and edges between them
    units ──PhoneLattice.forward──▶ ln p(units so far), ln p(units, and they end here), of each group of texts

Every sentence is a choice of wordings, a wording a row of slots, a slot a choice of words. All choices are equally
likely. A phone is one onset unit and then its steady unit for a geometric time, so what matters of the past is the
phone that is being said: one number a node is the whole state of the forward algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

from lst.data.text import pronounce

# ARPAbet without stress; silence is number 0.
PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
SILENCE = 0
_NUMBERS = {phone: number for number, phone in enumerate(PHONES)}

# Words of which one is said; slots of a sentence; the wordings of a sentence; the sentences of a text.
Slot: TypeAlias = tuple[str, ...]
Wording: TypeAlias = Sequence[Slot]
Sentence: TypeAlias = Sequence[Wording]
Text: TypeAlias = Sequence[Sentence]


def phone_numbers(word: str) -> list[int]:
    """The phones of a written word, as places in ``PHONES``."""
    return [_NUMBERS[phone] for phone in pronounce(word)]


def ends_sentence(word: str) -> bool:
    """Whether a written word ends a sentence, so that silence follows it."""
    return word.rstrip("\"'”’)]").endswith((".", "!", "?"))


def num_wordings(sentence: Sentence) -> int:
    """Number of different choices of a sentence's words."""
    return sum(prod(map(len, wording)) for wording in sentence)


def num_texts(text: Text) -> int:
    """Number of different choices of a text's words."""
    return prod(map(num_wordings, text))


@dataclass(frozen=True)
class PhoneUnits:
    """What units phones are said with.

    Attributes:
        stay: float [phones], probability that a phone goes on after a unit of it.
        onset: int [speakers, phone before, phone], the first unit.
        steady: int [speakers, phone], all further units.
        silence_share: probability of a silence after a word within a sentence.
        noise: probability that a unit is replaced by a random one of ``num_units``.
    """

    stay: np.ndarray
    onset: np.ndarray
    steady: np.ndarray
    silence_share: float
    noise: float
    num_units: int


class Forward(NamedTuple):
    """Natural logarithms of probabilities, float64 [units, groups].

    Attributes:
        prefix: the units up to here, whether or not more follow.
        ended: the units up to here, and no more.
    """

    prefix: np.ndarray
    ended: np.ndarray


@dataclass(frozen=True)
class PhoneLattice:
    """Texts in groups; the texts of a group are equally likely. Begins and ends with silence.

    Attributes:
        phones: int [nodes]; each group begins with its first silence and ends with its last.
        sources, targets: int [edges], nodes; sorted by target, and every node is a target.
        weights: float [edges], probability of the edge once its source has ended.
        bounds: int [groups + 1], first node of each group.
    """

    phones: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, groups: Sequence[Text], silence_share: float) -> PhoneLattice:
        """A lattice of texts: for each group, its sentences with their wordings."""
        builder = _Builder(silence_share)
        bounds = [0]
        for text in groups:
            builder.add_text(text)
            bounds.append(len(builder.phones))
        sources, targets, weights = (np.array(column) for column in zip(*builder.edges, strict=True))
        order = np.argsort(targets, kind="stable")
        return cls(np.array(builder.phones), sources[order], targets[order], weights[order], np.array(bounds))

    def forward(self, phone_units: PhoneUnits, units: np.ndarray, speaker: int) -> Forward:
        """The forward algorithm over units, int [n], of one speaker. Each group is scaled by itself."""
        stay = phone_units.stay[self.phones]
        noise, num_groups = phone_units.noise, len(self.bounds) - 1
        missed = noise / phone_units.num_units
        found = missed + 1 - noise
        before = self.phones[self.sources]
        moving = self.weights * (1 - stay[self.sources])
        onset = phone_units.onset[speaker, before, self.phones[self.targets]].astype(np.uint16)
        steady = phone_units.steady[speaker, self.phones].astype(np.uint16)
        first_edges = np.searchsorted(self.targets, np.arange(len(self.phones)))
        firsts, lasts, sizes = self.bounds[:-1], self.bounds[1:] - 1, np.diff(self.bounds)
        silence_onset = phone_units.onset[speaker, SILENCE, SILENCE]
        logs, prefix, ended = (
            np.zeros(num_groups),
            np.empty((len(units), num_groups)),
            np.empty((len(units), num_groups)),
        )
        mass = np.zeros(len(self.phones))
        for place, unit in enumerate(units.tolist()):
            if place:
                arriving = mass[self.sources] * moving * np.where(onset == unit, found, missed)
                staying = mass * stay * np.where(steady == unit, found, missed)
                mass = np.add.reduceat(arriving, first_edges) + staying
            else:
                mass[firsts] = found if unit == silence_onset else missed
            sums = np.add.reduceat(mass, firsts)
            with np.errstate(divide="ignore"):
                logs = logs + np.log(sums)
                mass = mass / np.repeat(np.where(sums > 0, sums, 1), sizes)
                prefix[place], ended[place] = logs, logs + np.log(mass[lasts] * (1 - stay[lasts]))
        return Forward(prefix, ended)

    def forward_of_all(self, phone_units: PhoneUnits, units: np.ndarray) -> Forward:
        """The same where every speaker is equally likely, and stays: float64 [units, groups · speakers]."""
        speakers = range(len(phone_units.steady))
        found = [self.forward(phone_units, units, speaker) for speaker in speakers]
        share = np.log(len(found))
        return Forward(*(np.concatenate(column, axis=1) - share for column in zip(*found, strict=True)))


class _Builder:
    """Collects nodes and edges (source, target, weight)."""

    def __init__(self, silence_share: float) -> None:
        self.phones: list[int] = []
        self.edges: list[tuple[int, int, float]] = []
        self._share = silence_share

    def add_text(self, text: Text) -> None:
        """Adds a group."""
        silence = self._node(SILENCE)
        # Nothing leads to the first node, but every node is a target.
        self.edges.append((silence, silence, 0.0))
        for wordings in text:
            total = num_wordings(wordings)
            ends = [
                end for wording in wordings for end in self._say(wording, [(silence, num_wordings([wording]) / total)])
            ]
            silence = self._node(SILENCE)
            self._enter(silence, ends, 1.0)

    def _say(self, wording: Wording, ends: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """Adds the slots of a wording after ``ends``: nodes, each with the probability that it leads here."""
        for place, slot in enumerate(wording):
            share = 1.0 if ends_sentence(slot[0]) else self._share
            before, ends = ends, []
            for word in slot:
                arriving, chance = before, 1 / len(slot)
                for phone in phone_numbers(word):
                    node = self._node(phone)
                    self._enter(node, arriving, chance)
                    arriving, chance = [(node, 1.0)], 1.0
                ends += arriving
            if place < len(wording) - 1:
                silence = self._node(SILENCE)
                self._enter(silence, ends, share)
                ends = [(silence, 1.0), *((node, weight * (1 - share)) for node, weight in ends if share < 1)]
        return ends

    def _node(self, phone: int) -> int:
        self.phones.append(phone)
        return len(self.phones) - 1

    def _enter(self, node: int, ends: Sequence[tuple[int, float]], share: float) -> None:
        self.edges += [(source, node, weight * share) for source, weight in ends]
