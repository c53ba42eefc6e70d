"""The report and the corpus card in a browser, in both colour schemes and on a narrow screen."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_run import make_overrides, make_run

from lst.configs.compose import build_config
from lst.recipes.corpus_card.card import write_card
from lst.recipes.report.write import write_report
from lst.runs.folder import open_data

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_run(tmp_path_factory.mktemp("report") / "a run's <b>folder")
    return write_report(config, make_overrides(Path(config.run_dir)))


@pytest.fixture(scope="module")
def card(report: Path) -> Path:
    config = build_config(make_overrides(report.parent))
    return write_card(config, open_data(config))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: apt install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


# Every text of a plot that leaves its drawing, or lies on another text.
MISPLACED_TEXTS = """
  const found = [];
  for (const svg of document.querySelectorAll('.plot svg')) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    const boxes = texts.map(t => t.getBoundingClientRect());
    boxes.forEach((a, i) => {
      if (a.left < frame.left - 2 || a.right > frame.right + 2 || a.top < frame.top - 2 || a.bottom > frame.bottom + 2)
        found.push('outside: ' + texts[i].textContent.trim());
      boxes.slice(i + 1).forEach((b, j) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1.5 && high > 4)
          found.push(texts[i].textContent.trim() + ' on ' + texts[i + 1 + j].textContent.trim());
      });
    });
  }
  return found;
"""


def check_layout(browser: Any, page: Path, width: int, scheme: str, num_plots: int) -> None:
    """The page fits the screen's width, and its drawings are there with their texts in place."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.resolve().as_uri())
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    plots = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map(s => [s.getBoundingClientRect().width, "
        "s.getBoundingClientRect().height, s.querySelectorAll('path, use').length])"
    )
    assert len(plots) == num_plots
    assert all(wide > 300 and high > 100 and shapes > 5 for wide, high, shapes in plots)
    assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
    assert browser.execute_script(MISPLACED_TEXTS) == []


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
