"""Formats of an evaluation's files: ``eval/NAME.json`` and ``eval/NAME.items.jsonl``. See ``lst.runs.formats``."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict


class Accuracy(TypedDict):
    """Share of items, 0 to 1, with its 95 % interval."""

    accuracy: float
    low: float
    high: float


class ClozeScore(TypedDict):
    """Cloze accuracies in one direction, by summed and by mean log-likelihood a token."""

    num_items: int
    sum: Accuracy
    mean: Accuracy


class HeldOutBits(TypedDict):
    """Bits over whole held-out utterances, and the counts that they are divided by."""

    bits_per_unit: float
    bits_per_byte: float
    num_units: int
    num_bytes: int


class BitsColumn(NamedTuple):
    """How a key of ``HeldOutBits`` is shown; less is better.

    Attributes:
        name: head of the column in the report.
        short: head of the column in the terminal.
        modality: what it is measured on, ``speech`` or ``text``.
    """

    name: str
    short: str
    modality: str


# The columns of bits in the order in which the terminal and the report show them.
BITS_COLUMNS = {
    "bits_per_unit": BitsColumn("bits a unit", "bits/unit", "speech"),
    "bits_per_byte": BitsColumn("bits a byte", "bits/byte", "text"),
}


class EvalResult(TypedDict):
    """``eval/NAME.json``.

    Keys:
        made_from: fingerprint of weights, data, options and seed; an equal one is not evaluated again.
        name: of the model in the run.
        strategy: patching strategy at inference.
        options: of ``eval=``.
        cloze: by direction, such as ``S→T``.
    """

    made_from: str
    name: str
    weights_sha256: str
    seed: int
    strategy: str
    options: dict[str, Any]
    num_parameters: int
    cloze: dict[str, ClozeScore]
    bits: HeldOutBits


class ClozeRow(TypedDict):
    """A row of ``eval/NAME.items.jsonl``: one item in one direction.

    Keys:
        utterance: id of the utterance that gives context and true ending.
        other: id of the utterance that gives the false ending.
        true_nats, false_nats: summed log-likelihood of an ending given the context.
        true_tokens, false_tokens: length of an ending.
    """

    utterance: str
    other: str
    direction: str
    true_nats: float
    true_tokens: int
    false_nats: float
    false_tokens: int


class ItemRow(TypedDict):
    """A row of ``eval/NAME.items.jsonl``: one ending of one item in one direction.

    Keys:
        item, stratum: of the item; the stratum is empty where items have none.
        direction: such as ``S→T``: spoken context, written ending.
        ending: index of the ending in the item.
        is_true: whether it is the true one.
        nats: log-likelihood of the ending given the context.
        swapped_nats: the same given the other context.
        alone_nats: the same without context.
        num_tokens: tokens of the ending.
        num_bytes: UTF-8 bytes of its text.
    """

    item: str
    stratum: str
    direction: str
    ending: int
    is_true: bool
    nats: float
    swapped_nats: float
    alone_nats: float
    num_tokens: int
    num_bytes: int


class StratumScore(TypedDict):
    """Accuracies of the items of a stratum by each normalisation; see ``lst.evaluation.accuracy``."""

    num_items: int
    sum: Accuracy
    mean: Accuracy
    byte: Accuracy
    mi: Accuracy
    swap: Accuracy


class DirectionScore(TypedDict):
    """One direction: which normalisation is its headline, and the scores of ``all`` items and of each stratum."""

    headline: str
    strata: dict[str, StratumScore]
