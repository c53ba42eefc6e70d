"""``law.json``, ``lst.json``, ``h3.json``, ``h3_text.json``: unrounded numbers of the pages of ``lst reproduce``."""

from __future__ import annotations

from typing import Literal, TypedDict

from lst.evaluation.results import Direction
from lst.recipes.reproduce.contrasts import Verdict
from lst.recipes.scaling.formats import GainRecord, Interval
from lst.storage import Count


class Ran(TypedDict):
    """What of a grid was trained; ``missing`` names the models that were not."""

    grid: str
    num_models: Count
    num_finished: Count
    missing: list[str]


class KnownEntropy(TypedDict):
    """What the best listener pays for the held-out stories: the grammar and the speech are known, the story is not.

    Keys:
        data: fingerprint of the prepared data.
        num_utterances, num_units, num_bytes: that are counted, the same as those of the models' bits.
        speech_at_least, speech_at_most: bits a unit, with what it costs to say of each unit that the speech goes on, as
            models pay it; equal where the sum over all stories is exact.
        text: bits a byte: log₂ of the number of stories.
    """

    data: str
    num_utterances: Count
    num_units: Count
    num_bytes: Count
    speech_at_least: float
    speech_at_most: float
    text: float


class FloorCheck(TypedDict):
    """The floor E of a law beside the known entropy.

    Keys:
        known_low, known_high: bounds of the known one.
        least_loss: the lowest loss of a model.
        verdict: whether the 95 % interval of E holds the known entropy, where the points determine E at all.
        note: what to think of it.
    """

    arm: str
    loss: str
    E: Interval
    known_low: float
    known_high: float
    least_loss: float
    verdict: Literal["holds", "lies above", "lies below", "not determined"]
    note: str


class LawRecord(TypedDict):
    """A law: its parameters with 95 % intervals, exponents of N* ∝ C^a and D* ∝ C^b, and the fit's warnings."""

    arm: str
    loss: str
    num_points: int
    E: Interval
    A: Interval
    B: Interval
    alpha: Interval
    beta: Interval
    a: Interval
    b: Interval
    flags: list[str]


class RepeatedRecord(TypedDict):
    """A model that heard its stories again and again, beside models of equal size that never did.

    Keys:
        D, passes: data that was read, and how many times its speech was heard on average.
        loss, fresh_loss: bits a unit of this model, and of those of equal budget without repetition.
        effective: D of fresh data that gives the same loss; None outside of what was trained.
    """

    arm: str
    size: str
    D: float
    passes: float
    loss: float
    fresh_loss: float | None
    effective: Interval | None


class RepetitionRecord(TypedDict):
    """What repetition does to the data of an arm.

    Keys:
        decay: R* of D′ = U + U·R*·(1 − exp(−R/R*)), with U different data and R repetitions; None where it cannot be
            fitted.
    """

    arm: str
    decay: Interval | None
    models: list[RepeatedRecord]


class LawFile(TypedDict):
    """``law.json``.

    Keys:
        ran: what was trained.
        why_no_law: why there is no law at all; empty where there is one.
        points: rows of the table that laws were fitted to, as in ``points.csv``.
    """

    version: Literal[1]
    ran: list[Ran]
    known: KnownEntropy
    why_no_law: str
    floors: list[FloorCheck]
    laws: list[LawRecord]
    gains: list[GainRecord]
    repetition: list[RepetitionRecord]
    points: list[dict[str, str | float]]


class GroupRecord(TypedDict):
    """Models that differ in their seed alone.

    Keys:
        N, D, flops, speech_bits, text_bits: means over seeds.
        accuracy: by direction and stratum, with the headline score. The 95 % interval has seeds and items as random;
            with one seed its sides are open.
        by_seed: accuracy of each seed likewise, in the order of ``seeds``.
    """

    grid: str
    arm: str
    size: str
    num_seeds: Count
    seeds: list[int]
    N: float
    D: float
    flops: float
    speech_bits: float
    text_bits: float
    accuracy: dict[Direction, dict[str, Interval]]
    by_seed: dict[Direction, dict[str, list[float]]]


class Answer(TypedDict):
    """A difference in credits, its interval, corrected for the number of claims, and what follows."""

    value: float
    low: float
    high: float
    p_holm: float
    num_seeds: Count
    num_items: Count
    verdict: Verdict


class ClaimRecord(TypedDict):
    """A published claim.

    Keys:
        claim: in words.
        direction, stratum: of the questions that decide it.
        answer: as the paper compares; None where not enough was trained.
        at_flops: the same with the baseline at equal FLOPs; None where the claim has no baseline, or too little was
            trained.
        verdict: of ``answer``.
    """

    claim: str
    direction: Direction
    stratum: str
    answer: Answer | None
    at_flops: Answer | None
    verdict: Verdict


class DifferenceRecord(TypedDict):
    """An arm less the baseline of its grid and size; not corrected for their number: for exploration."""

    grid: str
    arm: str
    base: str
    size: str
    direction: Direction
    stratum: str
    difference: Interval


class LstFile(TypedDict):
    """``lst.json``."""

    version: Literal[1]
    ran: list[Ran]
    num_items: dict[str, Count]
    groups: list[GroupRecord]
    claims: list[ClaimRecord]
    differences: list[DifferenceRecord]


class H3Record(TypedDict):
    """One model on one task.

    Keys:
        accuracies: of the test sequences in %, by seed.
        published: in %; None where none is.
        step_s: median time of a training step.
    """

    training: str
    task: str
    model: str
    num_tokens: Count
    steps: Count
    parameters: Count
    accuracies: dict[str, float]
    published: float | None
    chance: float
    step_s: float


class H3File(TypedDict):
    """``h3.json``; ``missing`` names the trainings that are not finished."""

    version: Literal[1]
    missing: list[str]
    trained: list[H3Record]


class TextModelRecord(TypedDict):
    """The seeds of one model on text alone.

    Keys:
        perplexity: a token, over seeds and texts, with a 95 % interval; its sides are open with one seed or text.
        bits_per_byte: mean over seeds.
        by_seed: perplexity of each seed.
        rate: learning rate that the sweep chose; None where the seeds differ in it.
        tokens, training_flops: of each training.
        published: perplexity in the paper, of a larger model on other text; None where there is none.
    """

    model: str
    perplexity: Interval
    bits_per_byte: float
    by_seed: dict[str, float]
    rate: float | None
    parameters: Count
    tokens: Count
    training_flops: float
    published: float | None


class TextPairRecord(TypedDict):
    """Two models on the same texts.

    Keys:
        ratio: perplexity of ``first`` over that of ``second``; its interval has seeds and texts as random, and is
            corrected for the number of pairs.
        better: the one with less perplexity; empty where the interval holds 1.
        published_better: likewise in the paper; empty where it has not both.
    """

    first: str
    second: str
    ratio: Interval
    p_holm: float
    better: str
    published_better: str


class SweepRecord(TypedDict):
    """Perplexity of a short training, on the held-out texts that choose the rate."""

    model: str
    rate: float
    steps: Count
    perplexity: float


class H3TextFile(TypedDict):
    """``h3_text.json``.

    Keys:
        corpus: description of the text.
        num_choosing, num_texts: held-out texts that choose the rates, and those that all else is measured on.
        num_tokens, num_bytes: of the latter.
        missing: trainings that are not finished.
    """

    version: Literal[1]
    corpus: str
    num_choosing: Count
    num_texts: Count
    num_tokens: Count
    num_bytes: Count
    missing: list[str]
    models: list[TextModelRecord]
    pairs: list[TextPairRecord]
    sweep: list[SweepRecord]
