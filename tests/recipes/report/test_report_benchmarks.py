"""The report of a run with benchmarks and with items that were seen in training."""

from __future__ import annotations

import json
from pathlib import Path

from html_page import Page, check_self_contained, check_well_formed
from made_answers import add_adapted, add_benchmark, add_contamination
from made_run import make_overrides, make_run

from lst.evaluation.adapted_results import read_adapted
from lst.recipes.report.adaptation import adaptation_of_run, adaptation_sections
from lst.recipes.report.benchmarks import benchmark_sections, contamination_sections
from lst.recipes.report.record import read_run
from lst.recipes.report.write import report_page, write_results


def test_benchmarks_and_contamination_are_on_the_page(tmp_path: Path) -> None:
    config = make_run(tmp_path)
    words = make_overrides(tmp_path)
    run = read_run(config, words)
    own = (benchmark_sections, adaptation_of_run, contamination_sections)
    assert [section for sections in own for section in sections(run)] == [], "nothing was scored or counted"
    add_benchmark(tmp_path)
    add_contamination(tmp_path, run.data.fingerprint)
    stale = tmp_path / "eval/static@blimp-0123456789ab.benchmark.json"
    result = json.loads((tmp_path / "eval/static@copa-0123456789ab.benchmark.json").read_text())
    stale.write_text(json.dumps({**result, "benchmark": "blimp", "data": "other", "weights_sha256": "0" * 64}))
    add_adapted(tmp_path)
    sections = [section for sections in own for section in sections(run)]
    page = Page(report_page(run, sections))
    check_self_contained(page)
    check_well_formed(page, ("benchmarks", "adaptation", "contamination"))
    cells = [" ".join(cell.split()) for cell in page.row("adaptation", "static")]
    assert cells[1:] == ["75.0 75.0–75.0", "50.0 75.0–75.0", "+50.0 +50.0 to +50.0", "10.00", "0.500", "75 %"]
    assert page.row("adaptation", "baseline")[3].strip() == "base"
    _, static = run.models
    answered = [(model, read_adapted(run.folder.eval_adapted_results(model.name)[0])) for model in run.models]
    (section,) = adaptation_sections(answered, 50, 0, static)
    of_baseline, of_static = section.tables[0].rows
    assert (section.tables[0].base, of_static.against) == (static, None), "lst compare base= names the base"
    assert of_baseline.against is not None
    assert of_baseline.against["difference"] == -0.5
    row = page.row("benchmarks", "static", "S→S")
    best = result["directions"]["S→S"]["strata"]["all"]["swap"]
    assert row[2].split() == [f"{100 * best[key]:.1f}" for key in ("accuracy",)] + [
        f"{100 * best['low']:.1f}–{100 * best['high']:.1f}",
        *("mean", f"{100 * result['directions']['S→S']['strata']['all']['mean']['accuracy']:.1f}"),
    ]
    assert "blimp" not in page.texts["benchmarks"], "of other weights"
    assert "q9: too <long>" in page.texts["benchmarks"]
    assert "<i> whole in s: “one <two>”" in page.texts["contamination"]
    cells = [" ".join(cell.split()) for cell in page.row("contamination", "held-out texts")]
    assert cells[2:5] == ["4", "1 25.0 %", "2 50.0 %"]
    write_results(run)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["contamination"]["kinds"]["held_out"]["num_whole"] == 1
