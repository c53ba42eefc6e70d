"""Formats of an evaluation's files. See ``lst.runs.formats`` for versions.

::

    eval/NAME.json, eval/NAME.items.jsonl                  on the data that the model was trained on
    eval/NAME.questions.jsonl                              ItemRow a line, where the data holds questions
    eval/NAME@FINGERPRINT.json, NAME@….items.jsonl         on other data (``lst eval data_dir=…``), a pair for each;
                                                           FINGERPRINT is the start of the data's
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args

from lst.data.shards import LeftOut
from lst.runs.formats import read_record
from lst.storage import Between, Count, FormatError, Location

Direction = Literal["S→S", "T→T", "S→T", "T→S"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Share = Annotated[float, Between(0, 1)]
Size = Annotated[float, Between(0)]


class Accuracy(TypedDict):
    """Share of items, 0 to 1, with its 95 % interval."""

    accuracy: Share
    low: Share
    high: Share


class ClozeScore(TypedDict):
    """Cloze accuracies in one direction, by summed and by mean log-likelihood a token."""

    num_items: Count
    sum: Accuracy
    mean: Accuracy


class HeldOutBits(TypedDict):
    """Bits over whole held-out utterances, and the counts that they are divided by."""

    bits_per_unit: Size
    bits_per_byte: Size
    num_units: Count
    num_bytes: Count


class JointCost(TypedDict):
    """What speech costs on the aligner's own patches, in bits a unit: an upper bound, with all that the aligner tells.

    Keys:
        bits_per_unit: of the units, given where patches ended so far: no likelihood by itself.
        boundary_bits_per_unit: of saying after each unit whether the patch ends, under the model's boundary head.
        joint_bits_per_unit: their sum.
    """

    bits_per_unit: Size
    boundary_bits_per_unit: Size
    joint_bits_per_unit: Size


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


class StratumScore(TypedDict):
    """Accuracies of the items of a stratum by each normalisation; see ``lst.evaluation.accuracy``."""

    num_items: Count
    sum: Accuracy
    mean: Accuracy
    byte: Accuracy
    mi: Accuracy
    swap: Accuracy


class DirectionScore(TypedDict):
    """One direction: which normalisation is its headline, and the scores of ``all`` items and of each stratum."""

    headline: str
    strata: dict[str, StratumScore]


class EvaluatedData(TypedDict, total=False):
    """What an evaluation was of; absent in results of version 0.1 of the package.

    Keys:
        corpus: description of the prepared data.
        data: fingerprint of the prepared data.
        left_out: utterances, cloze items and questions that the model cannot read, with the reason; no number counts
            them.
        questions: by direction, of the questions that the data holds (``data.num_questions``).
        patching_note: that the model was scored under a patching which its training never saw.
        joint_cost: of a model with a boundary head, on aligned patches.
    """

    corpus: str
    data: str
    left_out: list[LeftOut]
    questions: dict[str, DirectionScore]
    patching_note: str
    joint_cost: JointCost


class EvalResult(EvaluatedData):
    """``eval/NAME.json``, and ``eval/NAME@FINGERPRINT.json`` of other data.

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
    num_parameters: Count
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
    direction: Direction
    true_nats: float
    true_tokens: Count
    false_nats: float
    false_tokens: Count


class _AnyResult(TypedDict):
    """What results of every version have; columns may be of an earlier one."""

    bits: dict[str, float]


def read_result(place: Location) -> EvalResult | None:
    """Reads ``eval/NAME.json``; None where it lacks a column, as one of an earlier version does.

    Raises:
        UserError: the file is damaged or of a later version.
    """
    what, remedy = "the evaluation", f"Delete {place} and run lst eval again."
    if BITS_COLUMNS.keys() - read_record(place, _AnyResult, what, remedy)["bits"].keys():
        return None
    result = read_record(place, EvalResult, what, remedy)
    if missing := [direction for direction in DIRECTIONS if direction not in result["cloze"]]:
        raise FormatError(f"{what} is damaged: {place} lacks cloze {', '.join(missing)}. {remedy}")
    return result


class ItemRow(TypedDict):
    """A row of ``eval/NAME.questions.jsonl``: one ending of one item in one direction.

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
    direction: Direction
    ending: Count
    is_true: bool
    nats: float
    swapped_nats: float
    alone_nats: float
    num_tokens: Count
    num_bytes: Count
