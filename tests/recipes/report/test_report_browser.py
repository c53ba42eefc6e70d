"""The report and the corpus card in a browser, in both colour schemes and on a narrow screen."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from browser_page import check_layout
from made_run import make_overrides, make_run

from lst.configs.compose import build_config
from lst.recipes.corpus_card.card import write_card
from lst.recipes.report.write import write_report
from lst.runs.folder import open_data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_run(tmp_path_factory.mktemp("report") / "a run's <b>folder")
    return write_report(config, make_overrides(Path(config.run_dir)))


@pytest.fixture(scope="module")
def card(report: Path) -> Path:
    config = build_config(make_overrides(report.parent))
    return write_card(config, open_data(config))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_it_whole(browser, report, width, scheme):
    check_layout(browser, report, width, scheme, 5)
    ready = "return [...document.querySelectorAll('audio')].map(a => [a.readyState, a.duration, a.error?.message])"
    deadline_s = time.monotonic() + 20
    while any(state < 1 for state, *_ in browser.execute_script(ready)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    players = browser.execute_script(ready)
    assert len(players) == 4
    assert all(state >= 1 and 4 < duration_s < 20.5 for state, duration_s, _ in players), players
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_the_corpus_card_whole(browser, card, width, scheme):
    check_layout(browser, card, width, scheme, 6)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_ink_and_paper_differ_in_both_schemes(browser, report):
    def lightness(colour: str) -> float:
        return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3

    browser.get(report.resolve().as_uri())
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        inks = browser.execute_script(
            "return [...document.querySelectorAll('.plot text')].map(text => getComputedStyle(text).fill)"
        )
        assert (lightness(paper) > 128) == (scheme == "light")
        assert min(abs(lightness(ink) - lightness(paper)) for ink in inks) > 90
