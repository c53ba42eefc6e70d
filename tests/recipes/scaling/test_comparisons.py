"""Frontier, IsoFLOP parabolas, compute-equivalent gain and accuracy over bits, against known laws."""

from __future__ import annotations

import numpy as np
import pytest
from known_laws import KnownLaw, isoflop_rows, small_grid
from scipy.optimize import minimize_scalar

from lst.recipes.scaling.accuracy import accuracy_at, accuracy_records
from lst.recipes.scaling.formats import AccuracyRecord, GainRecord
from lst.recipes.scaling.frontier import FlopsFormula, best_losses, best_sizes, flops_formula, frontier_record
from lst.recipes.scaling.gain import Runs, compute_gain
from lst.recipes.scaling.intervals import bootstrap, efficient_fit, parameter_intervals, profile_limits
from lst.recipes.scaling.isoflop import isoflop_record, parabola_minimum
from lst.recipes.scaling.law import LawPoints, fit_law
from lst.recipes.scaling.points import NAMES, Points

KNOWN = KnownLaw(np.array([1.6, 40.0, 60.0, 0.3, 0.26]))
SYMMETRIC = KnownLaw(np.array([1.6, 40.0, 60.0, 0.3, 0.3]))


def points_of(rows: list[dict[str, object]]) -> tuple[LawPoints, np.ndarray]:
    n, d, loss, flops = (np.array([row[name] for row in rows], float) for name in ("N", "D", "loss", "C"))
    return LawPoints(n, d, loss), flops


def test_the_frontier_is_where_a_search_finds_it() -> None:
    n, d = small_grid()
    law = fit_law(KNOWN.points(n, d, 0.0, 0), 1e-3)
    flops = 9.0 * n**1.1 * d**0.95
    formula = flops_formula(n, d, flops, 6.0)
    assert (formula.source, formula.factor) == ("column C", pytest.approx(9.0))
    assert (formula.n_exponent, formula.d_exponent) == (pytest.approx(1.1), pytest.approx(0.95))
    for budget in (1e14, 3e15):

        def loss_at(log_n: float, budget: float = budget) -> float:
            size = np.exp(log_n)
            return float(KNOWN.losses(size, (budget / 9.0 / size**1.1) ** (1 / 0.95)))

        found = minimize_scalar(loss_at, bounds=(np.log(1e4), np.log(1e9)), method="bounded", options={"xatol": 1e-10})
        size, tokens = best_sizes(law, formula, law.theta[None], np.array([budget]))
        assert size[0, 0] == pytest.approx(np.exp(found.x), rel=1e-3)
        assert formula.flops(size, tokens)[0, 0] == pytest.approx(budget)
        assert best_losses(law, formula, law.theta[None], np.array([budget]))[0, 0] == pytest.approx(found.fun)


def test_exponents_of_the_frontier_have_intervals_and_sum_to_one() -> None:
    n, d = small_grid()
    law = fit_law(KNOWN.points(n, d, 0.004, 3), 1e-3)
    efficient = efficient_fit(law)
    assert efficient is not None
    ratio = parameter_intervals(law, profile_limits(law.points, efficient))["a"]
    formula = FlopsFormula("6·N·D", 6.0)
    record = frontier_record(law, formula, formula.flops(n, d), bootstrap(law, 0.004, 100, [0], lambda _: None), ratio)
    a, b = record["a"], record["b"]
    assert a["value"] + b["value"] == pytest.approx(1)
    assert a["low"] is not None
    assert a["high"] is not None
    assert a["low"] <= 0.26 / 0.56 <= a["high"]
    assert b["low"] == pytest.approx(1 - a["high"])
    assert [budget["is_extrapolated"] for budget in record["budgets"]][-3:] == [True] * 3
    inside = [budget for budget in record["budgets"] if not budget["is_extrapolated"]]
    assert len(inside) > 3
    for budget in inside:
        assert budget["loss"]["low"] is not None
        assert budget["loss"]["low"] < budget["loss"]["value"] < budget["loss"]["high"]  # type: ignore[operator]


def test_minima_of_a_known_law_lie_where_they_should_on_narrow_centred_symmetric_grids() -> None:
    formula = FlopsFormula("6·N·D", 6.0)
    rows = []
    exact = fit_law(SYMMETRIC.points(*small_grid(), 0.0, 0), 1e-3)
    for flops in np.geomspace(1e14, 1e16, 4):
        best = best_sizes(exact, formula, exact.theta[None], np.array([flops]))
        for share in np.geomspace(0.7, 1 / 0.7, 7):
            size = float(best[0][0, 0]) * share
            rows.append({"N": size, "D": flops / 6 / size, "C": flops})
    n, d, c = (np.array([row[name] for row in rows]) for name in ("N", "D", "C"))
    law = fit_law(SYMMETRIC.points(n, d, 0.0, 0), 1e-3)
    record = isoflop_record(law, formula, c)
    assert record is not None
    assert len(record["budgets"]) == 4
    for found in record["budgets"]:
        assert found["N_best"] == pytest.approx(found["N_law"], rel=5e-3)
        assert found["why_not"] == ""
    assert record["a"] == pytest.approx(0.5, abs=1e-3)


def test_the_bias_of_wide_grids_is_shown() -> None:
    known = KnownLaw(np.array([1.6, 400.0, 30.0, 0.5, 0.2]))
    points, flops = points_of(isoflop_rows(known, "", 1.0, 0, sd=0.0))
    record = isoflop_record(fit_law(points, 1e-3), FlopsFormula("6·N·D", 6.0), flops)
    assert record is not None
    biases = [found["N_of_law"] / found["N_law"] - 1 for found in record["budgets"] if found["N_of_law"]]
    assert biases
    assert max(map(abs, biases)) > 0.03


@pytest.mark.parametrize(
    ("x", "losses", "why_not"),
    [
        ([-2, -1, 0, 1, 2], [4.5, 1.6, 0.5, 1.4, 4.5], ""),
        ([-2, -1, 0, 1, 2], [5, 4, 3, 2.5, 2.2], "5 sizes are smaller than the minimum and 0 larger"),
        ([-2, -1, 0, 1], [9.5, 4, 1, 0.5], "the minimum and 1 larger|the minimum and 0 larger"),
        ([-2, -1, 0, 1, 2], [1, 2, 3, 2, 1], "has no minimum"),
        ([-2, -1, 0, 1, 2], [5, 4, 3, 2, 1], "has no minimum"),
        ([-1, -1, -1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1], "1 sizes are smaller than the minimum and 1 larger"),
    ],
)
def test_no_minimum_without_two_sizes_on_each_side(x: list[float], losses: list[float], why_not: str) -> None:
    _, best, reason = parabola_minimum(np.array(x, float), np.array(losses, float))
    assert (best is None) == bool(why_not)
    assert any(part in reason for part in why_not.split("|"))


def runs_of(arm: str, gain: float, seeds: list[int], with_law: bool = True) -> Runs:
    rows = [row for seed in seeds for row in isoflop_rows(KNOWN, arm, gain, seed)]
    # Without a law: one size for each budget, the middle one.
    rows = rows if with_law else rows[2::5]
    points, flops = points_of(rows)
    cells = np.unique(np.stack([points.num_parameters, points.num_tokens], 1), axis=0, return_inverse=True)[1]
    if not with_law:
        return Runs(arm, flops, points.losses, cells.reshape(-1), None, None, None)
    law = fit_law(points, 1e-3)
    efficient = efficient_fit(law)
    assert efficient is not None
    samples = bootstrap(law, efficient.sd, 100, [seeds[0]], lambda _: None)
    return Runs(arm, flops, points.losses, cells.reshape(-1), law, FlopsFormula("6·N·D", 6.0), samples)


def overall(record: GainRecord) -> tuple[float, float]:
    found = record["overall"]
    assert found is not None
    assert found["low"] is not None
    assert found["high"] is not None
    assert found["low"] <= found["value"] <= found["high"]
    return found["low"], found["high"]


@pytest.mark.parametrize("with_law", [True, False])
def test_a_strategy_of_1_3_times_the_compute_comes_out_so_and_a_null_one_at_1(with_law: bool) -> None:
    base = runs_of("baseline", 1.0, [1, 2, 3, 4], with_law)
    better = compute_gain(base, runs_of("static-4", 1.3, [5, 6, 7, 8], with_law), "loss", 100, 0)
    null = compute_gain(base, runs_of("static-1", 1.0, [9, 10, 11, 12], with_law), "loss", 100, 0)
    assert better["frontier"] == ("law" if with_law else "envelope")
    low, high = overall(better)
    assert low <= 1.3 <= high
    assert low > 1.05
    assert high - low < 0.6
    low, high = overall(null)
    assert low <= 1.0 <= high
    assert high < 1.3
    flops = [point["base_flops"] for point in better["points"]]
    assert flops == sorted(flops)
    if with_law:
        # The arm reaches at its least compute what the base reaches only at more: below is extrapolation.
        assert better["points"][0]["is_extrapolated"]
        assert not better["points"][4]["is_extrapolated"]


def test_arms_that_share_no_loss_have_no_overall_gain() -> None:
    base, arm = runs_of("baseline", 1.0, [1, 2], False), runs_of("static-4", 1e4, [3, 4], False)
    record = compute_gain(base, arm, "loss", 100, 0)
    assert record["overall"] is None
    assert record["points"] == []


def accuracy_record(bits: np.ndarray, accuracy: np.ndarray, items: int | None = 800) -> AccuracyRecord:
    numbers = {"N": bits, "D": bits, "speech_bits": bits, "accuracy/T→S/name": accuracy}
    if items is not None:
        numbers["items/T→S/name"] = np.full(len(bits), float(items))
    names = {name: [""] * len(bits) for name in NAMES}
    (record,) = accuracy_records(Points(list(range(len(bits))), numbers, names, []), bits, 60, 0)
    return record


@pytest.mark.parametrize("items", [800, None])
def test_the_onset_of_a_known_curve_is_found(items: int | None) -> None:
    bits = np.linspace(2.0, 4.0, 24)
    true = 0.5 + 0.4 / (1 + np.exp((bits - 2.8) / 0.12))
    accuracy = np.random.default_rng(0).binomial(800, true) / 800
    record = accuracy_record(bits, accuracy, items)
    onset, middle, ceiling = record["onset"], record["middle"], record["ceiling"]
    assert onset is not None
    assert middle is not None
    assert ceiling is not None
    assert onset["low"] is not None
    assert onset["high"] is not None
    assert onset["low"] <= 2.8 + np.log(9) * 0.12 <= onset["high"]
    assert middle["value"] == pytest.approx(2.8, abs=0.06)
    assert ceiling["value"] == pytest.approx(0.9, abs=0.03)
    assert record["flags"] == []
    assert (record["bits"], record["direction"], record["stratum"]) == ("speech_bits", "T→S", "name")
    curve = accuracy_at(record, bits)
    assert curve is not None
    assert np.abs(curve - true).max() < 0.03


def test_models_at_chance_have_no_onset() -> None:
    bits = np.linspace(2.0, 4.0, 24)
    record = accuracy_record(bits, np.random.default_rng(1).binomial(800, 0.5, 24) / 800)
    assert record["onset"] is None
    assert record["flags"] == ["no onset: the models do not lie above chance by more than noise"]
    assert accuracy_record(bits[:4], np.full(4, 0.9))["flags"] == ["4 models are too few for a curve: 5 are needed"]
    early = accuracy_record(bits, np.clip(0.5 + 0.3 * (4.0 - bits), 0, 1))
    assert early["onset"] is not None
