"""The benchmark of voices runs, and each part of a conversion has a figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_voices import TINY

from lst.recipes.benchmarks.figures import Figures
from lst.recipes.benchmarks.voice import measure, measure_vocoders, random_voice


def test_every_part_is_timed(tmp_path: Path) -> None:
    pytest.importorskip("pyworld", reason="the extra voice is not installed")
    figures = Figures("voice", tmp_path)
    measure(figures, "small", random_voice(TINY), 0.6, 1)
    assert len(figures.rows) == 5
    assert all(row.value > 0 for row in figures.rows)
    assert [row.target for row in figures.rows] == [1.0, None, None, None, None]


def test_every_vocoder_of_mels_is_timed(tmp_path: Path) -> None:
    figures = Figures("voice", tmp_path)
    measure_vocoders(figures, 0.6, 1)
    assert {row.target for row in figures.rows} == {1.0}
    assert ["Griffin" in figures.rows[0].name, "trained here" in figures.rows[1].name] == [True, True]
