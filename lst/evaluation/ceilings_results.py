"""Formats of what the best listener and readers could do, where the data is stories; see ``lst.evaluation.ceilings``.

::

    eval/ceilings.json                                     Ceilings
    eval/ceilings.utterances.jsonl                         EntropyRow a line
    eval/ceilings@FINGERPRINT.json, ….utterances.jsonl     of other data, as in ``lst.evaluation.results``
"""

from __future__ import annotations

from typing import TypedDict

from lst.evaluation.results import DirectionScore
from lst.runs.formats import read_record
from lst.storage import Count, Location


class EntropyRow(TypedDict):
    """A row of ``eval/ceilings.utterances.jsonl``: bits of a held-out utterance; see ``lst.evaluation.entropy``.

    Keys:
        utterance: its id.
        num_units, num_bytes: of its speech and of its text.
        given_words, at_least, at_most, floor: bits of its units.
        text, text_floor: bits of its text where the grammar is known, and where the texts of training are as well.
    """

    utterance: str
    num_units: Count
    num_bytes: Count
    given_words: float
    at_least: float
    at_most: float
    floor: float
    text: float
    text_floor: float


class Estimate(TypedDict):
    """A mean over held-out utterances with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class EntropyRates(TypedDict):
    """Entropy of held-out stories: bits a unit, and bits a byte of text.

    Keys:
        num_utterances, num_units, num_bytes: that were measured.
        is_exact: whether ``at_least`` and ``at_most`` are the same number.
        units: ``given_words``, ``at_least``, ``at_most`` and ``floor`` of ``EntropyRow``.
        bytes: ``text`` and ``text_floor``.
    """

    num_utterances: Count
    num_units: Count
    num_bytes: Count
    is_exact: bool
    units: dict[str, Estimate]
    bytes: dict[str, Estimate]


class OracleScore(TypedDict):
    """Answers to the questions of one that is no model.

    Keys:
        name: ``ideal listener``, ``topic alone``, or an n-gram such as ``3-gram``.
        knows: one line for people.
        questions: by direction, as in ``EvaluatedData``; readers have T→T alone.
    """

    name: str
    knows: str
    questions: dict[str, DirectionScore]


class AboveFloor(TypedDict):
    """How far a model's bits lie above the floor, over the utterances that both have.

    Keys:
        name: of the model.
        num_utterances: that are compared.
        units, bytes: bits a unit and bits a byte above ``floor`` and ``text_floor``.
    """

    name: str
    num_utterances: Count
    units: Estimate
    bytes: Estimate


class Ceilings(TypedDict):
    """``eval/ceilings.json``: what the best listener and readers could do, where the data is stories of a grammar.

    Keys:
        made_from: fingerprint of data, options and seed; equal ones are not measured again.
        corpus, data: description and fingerprint of the prepared data.
        seed: of the intervals.
        num_stories: of the grammar.
        num_known: stories that models are trained on, spoken and written.
        entropy: of held-out stories; None where the speech is not simulated, or none is measured.
        oracles: none where the data holds no questions.
        models: those of the run that were evaluated on this data.
    """

    made_from: str
    corpus: str
    data: str
    seed: int
    num_stories: Count
    num_known: Count
    entropy: EntropyRates | None
    oracles: list[OracleScore]
    models: list[AboveFloor]


def read_ceilings(place: Location) -> Ceilings:
    """Reads ``eval/ceilings.json``; raises ``UserError`` where it is absent or damaged."""
    return read_record(place, Ceilings, "the record of ceilings", f"Delete {place} and run lst eval again.")
