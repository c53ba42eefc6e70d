"""Aligned utterances: segments tile the frames, and records give everything back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lst.data.utterance import Segment, Utterance, Word


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    """Words of 0 to 6 frames with pauses of 0 to 4 before, between and after them."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=8))
    words, position = [], 0
    for index, (pause, size) in enumerate(sizes):
        start = position + pause
        position = start + size
        score = draw(st.floats(-100, 0, allow_nan=False))
        words.append(Word(draw(st.text(min_size=1, max_size=4)) + str(index), start, position, score))
    num_frames = position + draw(st.integers(0, 4))
    units = np.array(draw(st.lists(st.integers(0, 65_535), min_size=num_frames, max_size=num_frames)), np.uint16)
    ending = draw(st.none() | st.integers(0, 9))
    return Utterance("utt_1", "änn", "the text", num_frames / 25, units, tuple(words), ending)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text ever drawn makes a table of all characters
@given(utterances())
def test_segments_tile_the_frames_with_every_word_in_its_place(utterance: Utterance) -> None:
    labels = [-1] * utterance.num_frames
    for index, word in enumerate(utterance.words):
        for frame in range(word.start_frame, word.end_frame):
            labels[frame] = index
    segments = utterance.segments()
    tiled = [(segment.word, frame) for segment in segments for frame in range(segment.start_frame, segment.end_frame)]
    assert tiled == [(label, frame) for frame, label in enumerate(labels)]
    assert [segment.word for segment in segments if segment.word >= 0] == list(range(len(utterance.words)))
    silences = [segment for segment in segments if segment.word < 0]
    assert all(segment.end_frame > segment.start_frame for segment in silences)
    assert not any(a.word < 0 and b.word < 0 for a, b in zip(segments, segments[1:], strict=False))  # noqa: RUF007


def test_segments_of_utterances_without_words() -> None:
    assert Utterance("a", "", "text alone", 0.0, np.zeros(0, np.uint16)).segments() == []
    assert Utterance("a", "", "", 0.2, np.zeros(5, np.uint16)).segments() == [Segment(-1, 0, 5)]


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text ever drawn makes a table of all characters
@given(utterances())
def test_record_and_units_give_the_utterance_back(utterance: Utterance) -> None:
    record = json.loads(json.dumps(utterance.to_record(), ensure_ascii=False))
    back = Utterance.from_record(record, utterance.units.copy())
    assert np.array_equal(back.units, utterance.units)
    assert back.words == utterance.words
    assert all(isinstance(word, Word) for word in back.words)
    for name in ("id", "speaker", "text", "duration_s", "ending_start_word", "num_frames"):
        assert getattr(back, name) == getattr(utterance, name)
    assert back.segments() == utterance.segments()
    assert "units" not in record


@pytest.mark.parametrize("num_units", [0, 4, 6])
def test_units_of_another_number_are_refused(num_units: int) -> None:
    utterance = Utterance("a", "b", "c", 0.2, np.zeros(5, np.uint16), (Word("c", 0, 5, -1.0),))
    with pytest.raises(ValueError, match=f"5 units are recorded, {num_units} are there"):
        Utterance.from_record(utterance.to_record(), np.zeros(num_units, np.uint16))
