"""A page in a browser: it fits the screen, and the texts of its drawings are in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
