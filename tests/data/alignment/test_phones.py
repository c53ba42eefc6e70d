"""Phones in frames: their order is the dictionary's, their words' bounds the word aligner's; units get the majority."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PHONES, SILENCE, PhoneAligner, PocketsphinxAligner, phones_of_units
from tests.data.conftest import SENTENCES, align


@pytest.fixture(scope="module")
def aligner() -> PhoneAligner:
    return PhoneAligner()


def test_phones_are_those_of_the_dictionary_in_the_words_places(
    aligner: PhoneAligner, sounds: list[np.ndarray]
) -> None:
    decoder, words_of = aligner.decoder, PocketsphinxAligner()
    for text, sound in zip(SENTENCES[:4], sounds, strict=False):
        phones = aligner.phones(sound, text)
        assert phones.dtype == np.uint8
        assert abs(len(phones) - len(sound) / 160) <= 3
        words = align(words_of, sound, text, -(-len(sound) // 160), 100)
        for word in words:
            inside = [PHONES[phone] for phone, _ in itertools.groupby(phones[word.start_frame : word.end_frame])]
            token = word.text.lower().strip(".")
            variants = [decoder.lookup_word(token)] + [decoder.lookup_word(f"{token}({n})") for n in (2, 3, 4)]
            # Two of a phone in a row, as in "bookkeeper", are one run of frames.
            spoken = [[name for name, _ in itertools.groupby(found.split())] for found in variants if found]
            assert inside in spoken, (word, inside, spoken)
        outside = np.ones(len(phones), bool)
        for word in words:
            outside[word.start_frame : word.end_frame] = False
        assert (phones[outside] == SILENCE).all()


def test_phones_depend_on_the_utterance_alone(aligner: PhoneAligner, sounds: list[np.ndarray]) -> None:
    first = aligner.phones(sounds[0], SENTENCES[0])
    aligner.phones(sounds[3], SENTENCES[3])
    assert np.array_equal(aligner.phones(sounds[0], SENTENCES[0]), first)
    assert np.array_equal(PhoneAligner().phones(sounds[0], SENTENCES[0]), first)


@pytest.mark.parametrize("text", ["", "…", "你好", "one two three " * 60])
def test_text_that_cannot_be_aligned_raises(aligner: PhoneAligner, sounds: list[np.ndarray], text: str) -> None:
    with pytest.raises(AlignmentError):
        aligner.phones(sounds[0], text)


def test_an_unknown_word_is_said_by_rule(aligner: PhoneAligner, sounds: list[np.ndarray]) -> None:
    phones = aligner.phones(sounds[0], "Annah ate the warm brehd.")
    assert len(set(phones.tolist())) > 6


@given(hnp.arrays(np.uint8, st.integers(0, 90), elements=st.integers(0, 3)), st.integers(0, 30))
def test_units_get_the_phone_of_most_of_their_frames(phones: np.ndarray, num_frames: int) -> None:
    found = phones_of_units(phones, num_frames, 25)
    padded = [*phones.tolist(), *[SILENCE] * 200]
    for frame, phone in enumerate(found.tolist()):
        inside = padded[4 * frame : 4 * frame + 4]
        counts = Counter(inside)
        most = max(counts.values())
        assert phone == next(candidate for candidate in inside if counts[candidate] == most)
    assert len(found) == num_frames


@pytest.mark.parametrize("rate_hz", [100, 75, 50, 20])
def test_other_rates_cover_the_time(rate_hz: int) -> None:
    phones = np.repeat(np.arange(1, 11, dtype=np.uint8), 10)
    found = phones_of_units(phones, rate_hz, rate_hz)
    for index in range(rate_hz):
        assert abs(int(found[index]) - (1 + 10 * (index + 0.5) / rate_hz)) <= 1
    assert set(found.tolist()) == set(range(1, 11))
