"""Floors of laws beside a known entropy: which intervals say something, and what."""

from __future__ import annotations

from typing import Any

import pytest

from lst.recipes.reproduce.floor import floor_checks
from lst.recipes.reproduce.formats import KnownEntropy

KNOWN = KnownEntropy(
    data="", num_utterances=1, num_units=1, num_bytes=1, speech_at_least=1.4, speech_at_most=1.41, text=0.12
)


def fit(low: float | None, high: float | None, least: float, loss: str = "speech_bits", p: float | None = None) -> Any:
    """The parts of a fit that decide."""
    interval = {"value": 1.0, "low": low, "high": high}
    noise = {"lack_of_fit_p": p}
    return {
        "arm": "baseline",
        "loss": loss,
        "E": interval,
        "residuals": [{"loss": least}, {"loss": 9.0}],
        "noise": noise,
    }


@pytest.mark.parametrize(
    ("found", "verdict", "note"),
    [
        (fit(1.3, 1.5, 1.5), "holds", ""),
        (fit(1.405, 1.5, 1.5), "holds", ""),
        (fit(1.45, 1.5, 1.52, p=0.001), "lies above", "does not fit within the noise"),
        (fit(1.2, 1.3, 1.6), "lies below", "the best model lies 14% above"),
        (fit(0.0, 1.5, 1.5), "not determined", "do not exclude a floor of zero"),
        (fit(None, 1.5, 1.5), "not determined", "do not exclude a floor of zero"),
        (fit(1.3, None, 1.5), "not determined", ""),
        (fit(0.1, 1.6, 1.65), "not determined", ""),
        (fit(1.3, 1.5, 2.8), "not determined", "the best model lies 100% above the known entropy"),
        (fit(0.1, 0.13, 0.14, "text_bits"), "holds", ""),
    ],
)
def test_an_interval_is_a_verdict_only_where_it_says_something(found: Any, verdict: str, note: str) -> None:
    (check,) = floor_checks([found], KNOWN)
    assert check["verdict"] == verdict
    assert note in check["note"]
    assert check["least_loss"] == found["residuals"][0]["loss"]
