"""Formats of an evaluation's files. See ``lst.runs.formats`` for versions.

::

    eval/NAME.json, eval/NAME.items.jsonl                  on the data that the model was trained on
    eval/NAME.questions.jsonl                              ItemRow a line, where the data holds questions
    eval/NAME.bits.jsonl                                   BitsRow a line
    eval/ceilings.json, ceilings.utterances.jsonl          Ceilings, and EntropyRow a line: what the best listener could
                                                           do, where the data is stories
    eval/NAME@FINGERPRINT.json, NAME@….items.jsonl         on other data (``lst eval data_dir=…``), a pair for each;
                                                           FINGERPRINT is the start of the data's; ceilings
                                                           likewise
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
