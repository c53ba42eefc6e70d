"""``fit.json``: what ``lst scale fit`` writes. Numbers are not rounded.

::

    {"version": 1, "E": {"value": 1.82, "low": 1.71, "high": 1.90}, "A": …, "B": …, "alpha": …, "beta": …,
     "arm": "", "loss": "loss", "fits": [FitRecord, …], "gains": [GainRecord, …], "accuracy": [AccuracyRecord, …]}

The law at the top is that of the first fit: the base arm's, of the first loss column. ``low`` and ``high`` bound 95 %
intervals; null where the points do not bound the parameter.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from lst.storage import Between

# What logarithms are taken of; squares and products of such numbers stay finite.
Positive = Annotated[float, Between(1e-100, 1e100)]


class Interval(TypedDict):
    """A value and its 95 % interval; null where the points do not bound it."""

    value: float
    low: float | None
    high: float | None


class OptimumRecord(TypedDict):
    """A local optimum of the search: its law, the summed Huber loss, and how many starts led there."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float
    num_starts: int
    is_converged: bool


class VariableProjectionRecord(TypedDict):
    """Least squares on the losses: E, A and B of linear least squares (≥ 0) for each pair of exponents.

    Attributes:
        rms_error: root of the mean squared error, in the unit of the loss.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    rms_error: float


class ExtrapolationRecord(TypedDict):
    """How well a law fitted without some points predicts them; errors are predicted over measured loss, less one."""

    left_out: str
    num_points: int
    mean_relative_error: float
    largest_relative_error: float


class NoiseRecord(TypedDict):
    """Noise of log losses.

    Attributes:
        residual_sd: robust standard deviation of the residuals.
        replicate_sd, replicate_degrees: of runs of one N and D around their mean; null and 0 without such runs.
        lack_of_fit_p: probability of residuals as large as these if the law held and replicates told the noise.
        used_sd: what the bootstrap drew with.
    """

    residual_sd: float
    replicate_sd: float | None
    replicate_degrees: int
    lack_of_fit_p: float | None
    used_sd: float


class ResidualRecord(TypedDict):
    """A point and what the law says of it; ``log_residual`` is log loss − log of the law."""

    row: int
    N: Positive
    D: Positive
    C: Positive
    loss: Positive
    fitted: Positive
    log_residual: float


class BudgetRecord(TypedDict):
    """The best size and number of tokens for a budget, by the law."""

    flops: Positive
    N: Interval
    D: Interval
    loss: Interval
    is_extrapolated: bool


class FlopsRecord(TypedDict):
    """FLOPs as ``factor`` · N^``n_exponent`` · D^``d_exponent``.

    Attributes:
        source: ``6·N·D`` or whatever was stated, or ``column C``.
        largest_error: of the formula against the column, relative; 0 where FLOPs were stated.
    """

    source: str
    factor: Positive
    n_exponent: float
    d_exponent: float
    largest_error: float


class FrontierRecord(TypedDict):
    """N* ∝ C^a and D* ∝ C^b, and budgets over the range of the points."""

    flops: FlopsRecord
    a: Interval
    b: Interval
    budgets: list[BudgetRecord]


class ParabolaRecord(TypedDict):
    """Points of one budget, and the parabola of loss over log N through them.

    Attributes:
        flops: geometric mean of the points'.
        N, losses: of the points.
        coefficients: of 1, x and x², with x = log N − ``centre``.
        N_best, loss_best: at the minimum; null where fewer than two points lie on one side of it, or it has none.
        N_law: what the law says.
        N_of_law: minimum of the parabola through the law's own losses at the same N; beside ``N_law``, the bias.
        why_not: why there is no minimum; empty where there is.
    """

    flops: Positive
    N: list[Positive]
    losses: list[Positive]
    centre: float
    coefficients: list[float]
    N_best: Positive | None
    loss_best: Positive | None
    N_law: Positive
    N_of_law: Positive | None
    why_not: str


class IsoFlopRecord(TypedDict):
    """All budgets, and N* ∝ C^a through their minima; ``a_of_law`` through those of the law's own losses."""

    budgets: list[ParabolaRecord]
    a: float | None
    a_of_law: float | None


class FitRecord(TypedDict):
    """The law of one arm and one loss column.

    Attributes:
        arm: its name; empty where the table names none.
        loss: the column.
        size: the column that N was taken from.
        E, A, B, alpha, beta: with profile-likelihood intervals.
        bootstrap: percentile intervals of the same from the parametric bootstrap.
        delta: threshold of the Huber loss on log loss, summed over the points.
        objective: the sum reached.
        gradient_tolerance: of each scaled parameter, as a share of δ√P.
        flags: in words, where the points cannot determine a parameter.
    """

    arm: str
    loss: str
    size: str
    num_points: int
    num_cells: int
    E: Interval
    A: Interval
    B: Interval
    alpha: Interval
    beta: Interval
    bootstrap: dict[str, Interval]
    delta: float
    objective: float
    num_starts: int
    gradient_tolerance: float
    optima: list[OptimumRecord]
    variable_projection: VariableProjectionRecord
    noise: NoiseRecord
    extrapolation: list[ExtrapolationRecord]
    frontier: FrontierRecord
    isoflop: IsoFlopRecord | None
    flags: list[str]
    residuals: list[ResidualRecord]


class GainPoint(TypedDict):
    """The gain where the base arm's frontier has spent ``base_flops``."""

    base_flops: Positive
    loss: Positive
    gain: Interval
    is_extrapolated: bool


class GainRecord(TypedDict):
    """Compute-equivalent gain C_base(L) / C_arm(L) of an arm.

    Attributes:
        frontier: ``law``, or ``envelope`` where an arm has no law: the runs that no other run beats for less compute.
        overall: geometric mean over the interpolated budgets; null where the arms share no loss.
    """

    arm: str
    base: str
    loss: str
    frontier: Literal["law", "envelope"]
    overall: Interval | None
    points: list[GainPoint]


class AccuracyPoint(TypedDict):
    """A model's accuracy and bits."""

    arm: str
    bits: float
    accuracy: float
    flops: Positive


class AccuracyRecord(TypedDict):
    """Accuracy as a function of bits: chance + (ceiling − chance) / (1 + exp((bits − middle) / width)).

    Attributes:
        direction, stratum: of the column.
        bits: the loss column that it is a function of.
        chance: accuracy of a guess.
        ceiling, middle, width: of the curve; null where it cannot be fitted.
        onset: bits at which the curve has left chance by a tenth of the way to the ceiling.
        flags: in words.
        points: in order of bits.
    """

    direction: str
    stratum: str
    bits: str
    chance: float
    ceiling: Interval | None
    middle: Interval | None
    width: Interval | None
    onset: Interval | None
    flags: list[str]
    points: list[AccuracyPoint]


class RunRecord(TypedDict):
    """A row of the table: its line, names, sizes, FLOPs and losses by column."""

    row: int
    arm: str
    size: str
    seed: str
    N: Positive
    D: Positive
    C: Positive
    losses: dict[str, Positive]


class FitFile(TypedDict):
    """``fit.json``.

    Attributes:
        points: place of the table; ``points_sha256`` names its content.
        loss_unit: of all losses.
        without_law: arms and losses with too few points for a law, and why.
    """

    version: Literal[1]
    points: str
    points_sha256: str
    loss_unit: str
    seed: int
    bootstrap_samples: int
    arm: str
    loss: str
    E: Interval
    A: Interval
    B: Interval
    alpha: Interval
    beta: Interval
    fits: list[FitRecord]
    without_law: list[str]
    runs: list[RunRecord]
    gains: list[GainRecord]
    accuracy: list[AccuracyRecord]
