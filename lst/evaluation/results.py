"""Formats of an evaluation's files. See ``lst.runs.formats`` for versions; ``ceilings_results`` has those of ceilings.

::

    eval/NAME.json, eval/NAME.items.jsonl                  on the data that the model was trained on
    eval/NAME.questions.jsonl                              ItemRow a line, where the data holds questions
    eval/NAME.bits.jsonl                                   BitsRow a line
    eval/NAME@FINGERPRINT.json, NAME@….items.jsonl         on other data (``lst eval data_dir=…``), a pair for each;
                                                           FINGERPRINT is the start of the data's
    eval/NAME.controls.jsonl                               ControlRow a line
    results.json                                           RunResults: beside the report, what it says in numbers
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args

from lst.data.shards import LeftOut
from lst.runs.formats import read_record
from lst.storage import Between, Count, FormatError, Location

Direction = Literal["S→S", "T→T", "S→T", "T→S"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
# What tables and pages say where speech without transcripts is all that is held out.
NO_CLOZE = "no cloze is possible without words: held-out bits of speech are all that is told"
ItemKind = Literal["questions", "cloze", "benchmark"]
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
    """Bits over whole held-out utterances, and the counts that they are divided by; None where these are 0."""

    bits_per_unit: Size
    bits_per_byte: Size | None
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
    """How a key of ``HeldOutBits`` is shown.

    Attributes:
        name: head of the column in the report.
        short: head of the column in the terminal, at most 10 characters.
        modality: what it is measured on, ``speech`` or ``text``.
        is_a_unit: it is divided by units: models that read repeated units once do not compare with others.
        more_is_better: the report shades the greatest value instead of the least.
        meaning: what it is, for the caption of the report's table, which itself says what bits are.
    """

    name: str
    short: str
    modality: str
    is_a_unit: bool = False
    more_is_better: bool = False
    meaning: str = ""


# The columns of bits in the order in which the terminal and the report show them.
BITS_COLUMNS = {
    "bits_per_unit": BitsColumn("bits a unit", "bits/unit", "speech", is_a_unit=True),
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


class CountedAccuracy(Accuracy):
    """An accuracy, and of how many items it is."""

    num_items: Count


class ControlScore(TypedDict):
    """How often a control is right, which chooses endings by anything but content; see ``lst.evaluation.controls``.

    Keys:
        chooses: which ending, in words.
        directions: whose items it can answer.
        missing: why items are left out, or all of them; empty where none is.
        p_value: of its right and wrong answers being equally likely (two-sided, exact).
        p_holm: the same, corrected for the number of controls.
        strata: accuracies of ``all`` items and of each stratum; empty where nothing could be measured.
    """

    chooses: str
    directions: list[Direction]
    missing: str
    p_value: Share
    p_holm: Share
    strata: dict[str, CountedAccuracy]


class ControlRow(TypedDict):
    """A row of ``eval/NAME.controls.jsonl``: one ending of one item.

    Keys:
        items: what it is one of, ``questions`` or ``cloze``.
        item, stratum, ending, is_true: as in ``ItemRow``; of cloze items, the utterance, and ending 0 is the true one.
        scores: by control; the highest is chosen. None where the control cannot measure the ending.
    """

    items: ItemKind
    item: str
    stratum: str
    ending: Count
    is_true: bool
    scores: dict[str, float | None]


class EvaluatedData(TypedDict, total=False):
    """What an evaluation was of; absent in results of version 0.1 of the package.

    Keys:
        corpus: description of the prepared data.
        data: fingerprint of the prepared data.
        left_out: utterances, cloze items and questions that the model cannot read, with the reason; no number counts
            them.
        questions: by direction, of the questions that the data holds (``data.num_questions``).
        controls: of ``cloze`` items and, where the data holds some, of ``questions``; by name of the control.
        patching_note: that the model was scored under a patching which its training never saw.
        joint_cost: of a model with a boundary head, on aligned patches.
        items: fingerprint of ids and words of all items by their kind, those that are left out too.
    """

    corpus: str
    data: str
    left_out: list[LeftOut]
    questions: dict[str, DirectionScore]
    controls: dict[ItemKind, dict[str, ControlScore]]
    patching_note: str
    joint_cost: JointCost
    items: dict[ItemKind, str]


class EvalResult(EvaluatedData):
    """``eval/NAME.json``, and ``eval/NAME@FINGERPRINT.json`` of other data.

    Keys:
        made_from: fingerprint of weights, data, options and seed; an equal one is not evaluated again.
        name: of the model in the run.
        strategy: patching strategy at inference.
        options: of ``eval=``.
        cloze: by direction, such as ``S→T``; empty where no held-out utterance has words.
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

    bits: dict[str, float | None]


def read_result(place: Location) -> EvalResult | None:
    """Reads ``eval/NAME.json``; None where it lacks a column, as one of an earlier version does.

    Raises:
        UserError: the file is damaged or of a later version.
    """
    what, remedy = "the evaluation", f"Delete {place} and run lst eval again."
    if BITS_COLUMNS.keys() - read_record(place, _AnyResult, what, remedy)["bits"].keys():
        return None
    result = read_record(place, EvalResult, what, remedy)
    missing = [direction for direction in DIRECTIONS if direction not in result["cloze"]]
    if result["cloze"] and missing:
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


class BitsRow(TypedDict):
    """A row of ``eval/NAME.bits.jsonl``: what a model pays for a held-out utterance.

    Keys:
        utterance: its id.
        num_units, num_bytes: units of its speech that are counted, and UTF-8 bytes of its text.
        unit_bits, text_bits: of all its speech and of all its text; markers and ``<eos>`` are not counted.
    """

    utterance: str
    num_units: Count
    num_bytes: Count
    unit_bits: float
    text_bits: float


class StratumSummary(CountedAccuracy):
    """An accuracy by the headline score, and the one by the mean log-likelihood a token beside it."""

    mean: Accuracy


class DirectionSummary(StratumSummary):
    """One direction of a model.

    Keys:
        stratum: of these numbers: ``story`` where the questions have it, else ``all``.
        score: the headline score, one of ``lst.evaluation.accuracy.NORMALISATIONS``.
        strata: the same numbers of each other stratum; empty for cloze items.
    """

    stratum: str
    score: str
    strata: dict[str, StratumSummary]


class _ModelBits(TypedDict, total=False):
    bits: HeldOutBits


class ModelSummary(_ModelBits):
    """A model, its patching strategy when it is scored, and its accuracies by direction.

    ``directions`` is empty where no held-out utterance has words. Earlier files have no ``bits``.
    """

    name: str
    strategy: str
    directions: dict[Direction, DirectionSummary]


class Comparison(TypedDict):
    """A model against another one on the same items in one direction.

    Keys:
        first, second: names of the models.
        num_items: that both were asked.
        difference, low, high: accuracy of ``second`` less that of ``first``, and its 95 % paired bootstrap interval.
        p_value: of McNemar's exact test.
        p_holm: the same, corrected for the number of comparisons of the run.
    """

    first: str
    second: str
    direction: Direction
    num_items: Count
    difference: float
    low: float
    high: float
    p_value: Share
    p_holm: Share


class ControlSummary(CountedAccuracy):
    """A control, its accuracy on all items, and that of each stratum."""

    name: str
    chooses: str
    directions: list[Direction]
    p_value: Share
    p_holm: Share
    strata: dict[str, CountedAccuracy]


class MissingControl(TypedDict):
    """A control for which items could not be measured, all or some of them, and why."""

    name: str
    reason: str


class RunResults(TypedDict):
    """``results.json``.

    Keys:
        verdict: the run in one sentence.
        score: the headline score of each direction, in words.
        items: what was asked, ``questions`` or, where the data holds none, ``cloze``.
        chance: the accuracy of guessing.
        corpus: description of the prepared data.
        speech: ``simulated speech``, ``synthesised speech`` or ``recordings``.
        data: fingerprint of the prepared data.
        models: those that were evaluated.
        comparisons: of each further model with the baseline.
        controls: that could be measured.
        missing_controls: that could not, on all or some items.
    """

    version: Literal[1]
    verdict: str
    score: str
    items: ItemKind
    chance: Share
    corpus: str
    speech: str
    data: str
    models: list[ModelSummary]
    comparisons: list[Comparison]
    controls: list[ControlSummary]
    missing_controls: list[MissingControl]
