"""Corpus statistics and patch-length histograms, against small corpora whose numbers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.utterance import Utterance, Word
from lst.model.config import PatchingConfig
from lst.recipes.report.statistics import (
    HISTOGRAM_PATCHINGS,
    PATCHINGS,
    corpus_statistics,
    patch_length_histograms,
    speech_patch_lengths,
    unit_perplexity,
)

FRAME_RATE_HZ = 25


def spoken(name: str, spans: list[tuple[int, int]], num_frames: int, units=None, speaker: str = "a") -> Utterance:
    """An utterance with a word on each span of frames."""
    words = tuple(Word(f"w{index}", start, end, -1.0) for index, (start, end) in enumerate(spans))
    found = np.zeros(num_frames, np.uint16) if units is None else np.array(units, np.uint16)
    text = " ".join(word.text for word in words)
    return Utterance(name, speaker, text, num_frames / FRAME_RATE_HZ, found, words)


def written(text: str) -> Utterance:
    return Utterance("t", "", text, 0.0, np.zeros(0, np.uint16))


def test_numbers_of_a_corpus_that_can_be_counted_by_hand():
    # 2 + 3 frames of silence, words of 4, 6 and 5 frames: 20 frames, 0.8 s.
    first = spoken("u1", [(2, 6), (6, 12), (15, 20)], 20, [0] * 10 + [2] * 5 + [3] * 5)
    second = spoken("u2", [(0, 5)], 5, [2] * 5, speaker="b")
    found = corpus_statistics([first, second], [second], [written("three written words")], FRAME_RATE_HZ)

    train = found["train"]
    assert train["num_utterances"] == 2
    assert train["hours"] == pytest.approx(1.0 / 3600)
    assert train["num_speakers"] == 2
    assert train["num_words"] == 4
    assert train["num_units"] == 25
    assert train["units_per_second"] == pytest.approx(25)
    assert train["words_per_second"] == pytest.approx(4.0)
    assert train["silence_share"] == pytest.approx(5 / 25)
    assert train["mean_word_units"] == pytest.approx((4 + 6 + 5 + 5) / 4)
    assert train["mean_silence_units"] == pytest.approx(2.5)
    assert train["mean_word_s"] == pytest.approx(0.2)
    assert train["mean_silence_s"] == pytest.approx(0.1)
    assert train["unit_counts"] == [10, 0, 10, 5]
    assert train["num_distinct_units"] == 3
    assert train["unit_perplexity"] == pytest.approx(2 ** (-2 * 0.4 * math.log2(0.4) - 0.2 * math.log2(0.2)))
    assert found["valid"]["mean_silence_units"] is None  # no silence at all
    assert found["valid"]["silence_share"] == 0
    assert found["text"]["num_utterances"] == 1
    assert found["text"]["num_words"] == 3
    assert found["text"]["units_per_second"] is None


def test_statistics_are_json_and_survive_empty_splits():
    found = corpus_statistics([], [], [], FRAME_RATE_HZ)
    assert json.loads(json.dumps(found)) == found
    assert found["train"]["unit_counts"] == []
    assert found["train"]["silence_share"] is None
    assert found["train"]["unit_perplexity"] is None


def test_perplexity_of_equal_frequencies_is_their_number():
    assert unit_perplexity([7] * 13) == pytest.approx(13)
    assert unit_perplexity([0, 5, 0]) == pytest.approx(1)


def test_patch_lengths_of_each_strategy():
    utterance = spoken("u", [(2, 6), (6, 12), (15, 20)], 21)
    patching = PatchingConfig(static_size=4)
    lengths = {name: speech_patch_lengths(utterance, name, patching).tolist() for name in PATCHINGS}
    assert lengths == {
        "none": [1] * 21,
        "static": [4, 4, 4, 4, 4, 1],
        "aligned": [2, 4, 6, 3, 5, 1],
        "aligned merged": [6, 9, 6],  # the silence that opens joins the word after it
    }


def test_histograms_count_patches_by_their_length_and_ignore_the_configured_silence():
    utterances = [spoken("u1", [(2, 6), (6, 12)], 12), spoken("u2", [(0, 4)], 4)]
    for silence in ("separate", "merged"):
        found = patch_length_histograms(utterances, PatchingConfig(static_size=5, silence=silence))
        assert list(found) == list(HISTOGRAM_PATCHINGS)
        assert found["static"] == [0, 0, 1, 0, 1, 2]
        assert found["aligned"] == [0, 0, 1, 0, 2, 0, 1]
        assert found["aligned merged"] == [0, 0, 0, 0, 1, 0, 2]
    assert json.loads(json.dumps(found)) == found


def test_the_longest_patch_is_respected():
    found = patch_length_histograms([spoken("u", [(0, 23)], 23)], PatchingConfig(max_patch=10))
    assert found["aligned"] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=12),
    st.integers(0, 9),
    st.integers(1, 9),
)
def test_every_strategy_tiles_the_speech(pairs, trailing_silence, static_size):
    spans, position = [], 0
    for silence, word in pairs:
        spans.append((position + silence, position + silence + word))
        position += silence + word
    utterance = spoken("u", spans, position + trailing_silence)
    found = patch_length_histograms([utterance, utterance], PatchingConfig(static_size=static_size))
    for counts in found.values():
        assert sum(length * count for length, count in enumerate(counts)) == 2 * utterance.num_frames
        assert counts[0] == 0
    assert sum(found["aligned"]) == 2 * len(utterance.segments())
    assert sum(found["aligned merged"]) == 2 * len(utterance.words)
    assert len(found["static"]) <= static_size + 1
