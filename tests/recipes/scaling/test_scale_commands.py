"""``lst scale fit`` and ``lst scale plot`` from the command line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_laws import KnownLaw, isoflop_rows

from lst.cli import main
from lst.recipes.scaling.formats import FitFile
from lst.recipes.scaling.points import write_points
from lst.storage import read_json

KNOWN = KnownLaw(np.array([1.6, 40.0, 60.0, 0.3, 0.26]))
QUICK = "fit.bootstrap_samples=100"


def read_fit(out: Path) -> FitFile:
    return read_json(out / "fit.json", FitFile, "the fit", "")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of two arms by speech bits, and of one arm with too few points for a law."""
    folder = tmp_path_factory.mktemp("scaling")
    rows = isoflop_rows(KNOWN, "static-4", 1.3, 1) + isoflop_rows(KNOWN, "baseline", 1.0, 2)
    for seed in (3, 4):
        rows += isoflop_rows(KNOWN, "one<size>", 1.1, seed)[2::7]
    generator = np.random.default_rng(0)
    for row in rows:
        row["speech_bits"] = loss = float(row.pop("loss"))  # type: ignore[arg-type]
        row["accuracy/T→S/name"] = generator.binomial(500, 0.5 + 0.4 / (1 + np.exp((loss - 2.7) / 0.1))) / 500
        row["items/T→S/name"] = 500
        row["note"] = "not used"
    write_points(folder / "points.csv", rows)
    assert main(["scale", "fit", f"points={folder / 'points.csv'}", f"out={folder / 'out'}", QUICK]) == 0
    return folder


def bare_rows() -> list[dict[str, object]]:
    return [{name: row[name] for name in ("N", "D", "loss")} for row in isoflop_rows(KNOWN, "", 1.0, 5)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of the three columns that are needed."""
    folder = tmp_path_factory.mktemp("bare")
    write_points(folder / "points.csv", bare_rows())
    assert main(["scale", "fit", f"points={folder / 'points.csv'}", f"out={folder / 'out'}", QUICK]) == 0
    return folder


def test_everything_is_written(fitted: Path) -> None:
    out, found = fitted / "out", read_fit(fitted / "out")
    assert (found["arm"], found["loss"]) == ("baseline", "speech_bits"), "the base arm is on top"
    assert [fit["arm"] for fit in found["fits"]] == ["baseline", "static-4"]
    assert found["fits"][0]["alpha"] == found["alpha"]
    assert found["without_law"] == [
        "one<size>, speech_bits: 4 different pairs of N and D are too few for a law of 5 parameters"
    ]
    assert [(gain["arm"], gain["frontier"]) for gain in found["gains"]] == [
        ("static-4", "law"),
        ("one<size>", "envelope"),
    ]
    assert [(record["direction"], record["stratum"]) for record in found["accuracy"]] == [("T→S", "name")]
    assert len(found["runs"]) == 58
    for name in ("residuals", "budgets", "isoflop", "gains", "accuracy"):
        rows = list(csv.DictReader((out / f"{name}.csv").read_text(encoding="utf-8").splitlines()))
        assert rows, name
    assert len(list(csv.DictReader((out / "residuals.csv").open(encoding="utf-8")))) == 50


def test_the_page_stands_alone_and_its_plots_are_files_too(fitted: Path) -> None:
    out = fitted / "out"
    page = (out / "scaling.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="(\w+)">', page)
    assert sections == ["laws", "losses", "isoflop", "gains", "accuracy", "residuals"]
    assert "one&lt;size&gt;" in page
    assert "one<size>" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "mathdefault" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    drawn = {path.stem for path in out.glob("*.svg")}
    assert {
        "law-0",
        "runs-speech_bits",
        "isoflop-1",
        "gains",
        "accuracy-bits",
        "accuracy-flops",
        "residuals-0",
    } <= drawn
    assert all("var(--" not in path.read_text(encoding="utf-8") for path in out.glob("*.svg"))


def test_plot_draws_the_page_again(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fit.json").write_bytes((bare / "out" / "fit.json").read_bytes())
    assert main(["scale", "plot", f"out={tmp_path}", "--dry-run"]) == 0
    assert not (tmp_path / "scaling.html").exists()
    assert main(["scale", "plot", f"out={tmp_path}", "fit.loss_unit=nats"]) == 0
    assert "loss, nats" in (tmp_path / "scaling.html").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.glob("*.svg")} == {path.name for path in (bare / "out").glob("*.svg")}
    (tmp_path / "fit.json").write_text('{"version": 1}')
    assert main(["scale", "plot", f"out={tmp_path}"]) == 2
    assert "the fit is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda fit: fit["fits"][0]["residuals"][0].update(N=0), r"residuals\[0\]\.N must be a number from 1e-100"),
        (lambda fit: fit["fits"][0]["isoflop"]["budgets"][0].update(losses=[]), "holds what no page can show"),
    ],
)
def test_a_fit_that_no_page_can_show_is_refused(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[FitFile], None], said: str
) -> None:
    fit = json.loads((bare / "out" / "fit.json").read_text())
    damage(fit)
    (tmp_path / "fit.json").write_text(json.dumps(fit))
    assert main(["scale", "plot", f"out={tmp_path}"]) == 2
    assert re.search(f"fit.json .*{said}", capsys.readouterr().err)


def test_a_plan_counts_the_points_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_points(tmp_path / "points.csv", bare_rows())
    words = ["scale", "fit", f"points={tmp_path / 'points.csv'}", f"out={tmp_path / 'out'}", "--dry-run"]
    assert main(words) == 0
    assert not (tmp_path / "out").exists()
    printed = capsys.readouterr().out
    assert "loss: 25 points, 25 different N and D" in printed
    assert "FLOPs are 6·N·D" in printed


def test_a_bare_table_gives_unrounded_parameters(bare: Path) -> None:
    found = json.loads((bare / "out" / "fit.json").read_text())
    for name, known in zip(("E", "A", "B", "alpha", "beta"), KNOWN.values, strict=True):
        interval = found[name]
        assert set(interval) == {"value", "low", "high"}
        assert interval["low"] <= interval["value"] <= interval["high"]
        assert interval["low"] <= known <= interval["high"]
        assert len(repr(interval["value"])) > 12
    (fit,) = found["fits"]
    assert fit["delta"] == 1e-3
    assert fit["num_starts"] == 36
    assert fit["optima"][0]["objective"] == fit["objective"]
    assert fit["frontier"]["flops"]["source"] == "6·N·D"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scale", "fit"], "give a table of trained models: points=FILE.csv"),
        (["scale", "fit", "points=/no/such.csv"], "points=/no/such.csv is missing"),
        (["scale", "fit", "points=FEW"], "no law can be fitted: loss: 2 different pairs of N and D are too few"),
        (["scale", "fit", "points=FEW", "fit.base_arm=x"], "fit.base_arm=x: arms of FEW are none"),
        (
            ["scale", "fit", "points=FEW", "fit.size=N_non_embedding"],
            "fit.size=N_non_embedding: FEW has no such column",
        ),
        (["scale", "fit", "points=FEW", "fit.delta=0"], "fit.delta=0.0: must be above 0"),
        (["scale", "plot", "out=/no/such"], "the fit is missing: /no/such/fit.json"),
        (["scale", "plot", "points=FEW"], "does not read points; it draws what lst scale fit has found"),
        (["scale"], "say what to do: lst scale plan | run | fit | plot. See lst scale plan --help"),
        (["train", "points=FEW"], "unknown option 'points'"),
    ],
)
def test_mistakes_are_named(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("N,D,loss\n1e6,1e7,3\n1e6,2e7,2.9\n1e6,1e7,3.01\n")
    assert main([word.replace("FEW", str(few)) for word in words]) == 2
    assert expected.replace("FEW", str(few)) in capsys.readouterr().err
