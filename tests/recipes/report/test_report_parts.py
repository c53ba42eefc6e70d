"""Parts of the report that need no run: escaping, which clips and which stretch are shown, smoothing, numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from repository import ROOT

from lst.data.utterance import Utterance, Word
from lst.recipes.report.audio import choose_clips
from lst.recipes.report.corpus import choose_window
from lst.recipes.report.page import Section, environment, hours_text, number_text, page, scientific
from lst.recipes.report.plots import length_plot, running_mean, smoothing_window

ROOMS = ("report", "corpus_card", "synthetic")
NASTY = """<b title='x'>"&amp;</b>"""
ESCAPED = "&lt;b title=&#39;x&#39;&gt;&#34;&amp;amp;&lt;/b&gt;"


@pytest.mark.parametrize("room", ROOMS)
def test_templates_escape_all_but_markup(room):
    template = environment(f"lst.recipes.{room}").from_string('<p title="{{ title }}">{{ text }}{{ plot }}</p>')
    written = template.render(text="a<b>", plot=Markup("<i>&amp;</i>"), title='"&')
    assert written == '<p title="&#34;&amp;">a&lt;b&gt;<i>&amp;</i></p>'


@pytest.mark.parametrize("room", ROOMS)
def test_a_template_that_names_what_is_not_there_raises(room):
    with pytest.raises(UndefinedError, match="nobody"):
        environment(f"lst.recipes.{room}").from_string("{{ nobody }}").render()


def test_shared_parts_escape_what_they_are_given():
    calls = {
        "cell": "cell(text, small=text)",
        "head": "head(text, text)",
        "model_head": "model_head({'colour': 1, 'name': text}, text)",
        "figure": "figure(text)",
        "statistics_table": "statistics_table({'train': n, 'valid': n, 'text': n}, [('words', text, ',')])",
    }
    for name, call in calls.items():
        caller = f"{{% call {call} %}}{{{{ text }}}}{{% endcall %}}" if name == "figure" else f"{{{{ {call} }}}}"
        source = f'{{% from "macros.html" import {name} %}}{caller}'
        written = environment("lst.recipes.report").from_string(source).render(text=NASTY, n={"words": 3})
        assert "<b" not in written, name
        assert ESCAPED in written, name


def test_titles_and_badges_of_sections_are_escaped():
    written = page("lst.recipes.report", "page.html", [Section(NASTY, NASTY, NASTY, template="macros.html")])
    assert "<b" not in written.replace("<body", "")
    # The link and its text, the section's id, its title and its badge.
    assert written.count(ESCAPED) == 5


def test_only_drawings_are_taken_for_markup_and_only_in_one_place():
    folder = ROOT / "lst" / "recipes"
    made = [path for path in folder.rglob("*.py") for _ in re.findall(r"\bMarkup\(", path.read_text())]
    assert made == [folder / "report" / "plots.py"]
    templates = [path.read_text() for path in folder.rglob("templates/*")]
    assert len(templates) > 20
    assert not re.search(r"\bsafe\b|autoescape", "".join(templates))


def test_names_in_a_drawing_and_its_description_stay_text():
    drawn = length_plot({NASTY: [0, 2, 3]}, 25, "name", NASTY, NASTY, NASTY)
    assert isinstance(drawn, Markup)
    assert "<b" not in drawn
    assert f'aria-label="{ESCAPED}"' in drawn


def test_numbers_in_words():
    assert number_text(None, ",") == "–"
    assert number_text(-1234.5, ",.2f") == "−1,234.50"
    assert number_text(0.5, "hours") == hours_text(0.5) == "30.0 min"
    assert hours_text(1.5) == "1.50 h"
    assert hours_text(1 / 3600) == "1.0 s"


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
