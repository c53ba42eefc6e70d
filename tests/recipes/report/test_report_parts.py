"""Parts of the report that need no run: escaping, which clips and which stretch are shown, smoothing, numbers."""

from __future__ import annotations

import numpy as np
import pytest

from lst.data.utterance import Utterance, Word
from lst.recipes.report.audio import choose_clips
from lst.recipes.report.corpus import choose_window
from lst.recipes.report.page import Html, element, joined
from lst.recipes.report.plots import running_mean, smoothing_window
from lst.recipes.report.results import scientific


def test_elements_escape_all_but_html():
    assert element("p", "a<b>", Html("<i>c</i>"), title='"') == '<p title="&quot;">a&lt;b&gt;<i>c</i></p>'
    assert joined("&", Html("&amp;")) == "&amp;&amp;"


def test_clips_alternate_and_change_the_speaker():
    def made(name: str, speaker: str) -> Utterance:
        return Utterance(name, speaker, "", 1.0, np.zeros(0, np.uint16))

    train = [made("t1", "a"), made("t2", "a"), made("t3", "b")]
    valid = [made("v0", "a"), made("v1", "a"), made("v2", "c")]
    chosen = [(c.utterance.id, c.split) for c in choose_clips(train, valid, 9, lambda u: u.id != "v0")]
    assert chosen == [
        ("v1", "held out"),
        ("t3", "training"),
        ("v2", "held out"),
        ("t1", "training"),
        ("t2", "training"),
    ]
    assert choose_clips(train, valid, 0, lambda u: True) == []


def test_the_window_opens_with_a_word_and_holds_a_silence():
    words = tuple(Word("w", start, start + 20, 0.0) for start in (10, 30, 50, 70, 90, 110, 140, 160, 180, 200))
    utterance = Utterance("u", "s", "", 9.0, np.zeros(225, np.uint16), words)
    start_s, end_s = choose_window(utterance, 25, 9.0)
    # The first word from which the silence at 130 … 140 lies within four seconds, with a word after it.
    assert (start_s * 25, end_s * 25) == pytest.approx((70, 160))
    start_s, end_s = choose_window(utterance, 25, 1.0)
    assert 0 <= start_s < end_s <= 1.0


def test_running_mean_keeps_a_constant_and_its_length():
    assert running_mean(np.full(50, 2.5), 7) == pytest.approx(np.full(50, 2.5))
    assert running_mean(np.array([1.0]), 5) == pytest.approx([1.0])
    assert smoothing_window(8) == 1
    assert smoothing_window(300) % 2 == 1


def test_scientific_numbers():
    assert scientific(6.29e8) == "6.29 × 10⁸"
    assert scientific(9.999e11) == "1.00 × 10¹²"
    assert scientific(0) == "0"
