"""Simulated speech: alignments, statistics, exact likelihoods, and what it depends on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lst.data.config import SimulatedConfig
from lst.data.synthesis.simulated import SimulatedSpeech, mean_phones
from lst.data.synthesis.stories import generate_stories
from lst.errors import UserError

TEXTS = [story.text for story in generate_stories(1500, 0, "mini")]
CONFIG = SimulatedConfig()


@pytest.fixture(scope="module")
def speech() -> SimulatedSpeech:
    return SimulatedSpeech(CONFIG, 0, mean_phones(TEXTS))


@pytest.fixture(scope="module")
def utterances(speech):
    return [speech.utterance(f"utt-{number}", text) for number, text in enumerate(TEXTS)]


def test_words_and_silences_tile_the_units(utterances):
    for utterance in utterances[:200]:
        segments = utterance.segments()
        assert [segment.start_frame for segment in segments[1:]] == [segment.end_frame for segment in segments[:-1]]
        assert (segments[0].start_frame, segments[-1].end_frame) == (0, utterance.num_frames)
        assert segments[0].word == segments[-1].word == -1, "silence at both ends"
        assert [word.text for word in utterance.words] == utterance.text.split()
        assert utterance.units.dtype == np.uint16
        assert int(utterance.units.max()) < CONFIG.num_units


def test_durations_are_those_that_were_asked_for(utterances):
    segments = [segment for utterance in utterances for segment in utterance.segments()]
    lengths = {
        is_word: [s.end_frame - s.start_frame for s in segments if (s.word >= 0) == is_word]
        for is_word in (True, False)
    }
    assert np.mean(lengths[True]) == pytest.approx(CONFIG.word_units, rel=0.02)
    assert np.mean(lengths[False]) == pytest.approx(CONFIG.silence_units, rel=0.02)


def test_noise_and_silences_are_as_frequent_as_asked_for(speech, utterances):
    clean = SimulatedSpeech(SimulatedConfig(noise=0.0), 0, mean_phones(TEXTS))
    # The same durations are drawn, so the units differ by the noise alone; a random unit is sometimes the same.
    changed = np.concatenate([clean.utterance(u.id, u.text).units != u.units for u in utterances])
    assert np.mean(changed) == pytest.approx(CONFIG.noise * (1 - 1 / CONFIG.num_units), rel=0.02)
    gaps = [
        (after.start_frame > before.end_frame)
        for utterance in utterances
        for before, after in itertools.pairwise(utterance.words)
        if not before.text.endswith(".")
    ]
    assert np.mean(gaps) == pytest.approx(CONFIG.silence_share, rel=0.02)


def test_the_same_arguments_give_the_same_speech(speech, utterances):
    again = SimulatedSpeech(CONFIG, 0, mean_phones(TEXTS)).utterance("utt-7", TEXTS[7])
    assert np.array_equal(again.units, utterances[7].units)
    assert again.words == utterances[7].words
    assert not np.array_equal(speech.utterance("utt-8", TEXTS[7]).units[:20], again.units[:20]), "depends on the id"


def test_speakers_say_a_share_of_phones_differently():
    speech = SimulatedSpeech(SimulatedConfig(num_speakers=2, speaker_share=0.3, noise=0.0), 0, mean_phones(TEXTS))
    first, second = (speech.utterance("a", TEXTS[0], speaker) for speaker in (0, 1))
    assert first.words == second.words
    assert 0.05 < np.mean(first.units != second.units) < 0.6


def likelihood_by_enumeration(speech: SimulatedSpeech, units: list[int], phones_by_word: list[list[int]]) -> float:
    """The slow sum over silences, durations and speakers, for words of one sentence."""
    config, total = speech.config, 0.0
    gaps = len(phones_by_word) - 1
    for speaker in range(config.num_speakers):
        for pauses in itertools.product((False, True), repeat=gaps):
            phones, weight = [0], 1.0 / config.num_speakers
            for number, word in enumerate(phones_by_word):
                phones += word
                if number < gaps:
                    weight *= config.silence_share if pauses[number] else 1 - config.silence_share
                    phones += [0] * pauses[number]
            phones.append(0)
            for cuts in itertools.combinations(range(1, len(units)), len(phones) - 1):
                bounds = [0, *cuts, len(units)]
                probability = weight
                for place, phone in enumerate(phones):
                    length = bounds[place + 1] - bounds[place]
                    probability *= (1 - speech.stay[phone]) * speech.stay[phone] ** (length - 1)
                    before = phones[place - 1] if place else 0
                    for frame in range(length):
                        own = speech.onset[speaker, before, phone] if frame == 0 else speech.steady[speaker, phone]
                        is_own = units[bounds[place] + frame] == own
                        probability *= config.noise / config.num_units + (1 - config.noise) * is_own
                total += probability
    return math.log(total)


def test_the_likelihood_is_the_sum_over_everything_that_is_not_known():
    config = SimulatedConfig(num_units=41, num_speakers=2, noise=0.3)
    speech = SimulatedSpeech(config, 3, 2.0)
    units = speech.utterance("x", "to a").units[:9]
    # T UW, AH in the dictionary.
    numbers = [[31, 34], [3]]
    expected = likelihood_by_enumeration(speech, units.tolist(), numbers)
    assert speech.log_likelihood(units, "to a") == pytest.approx(expected, abs=1e-9)


def test_likelihoods_of_all_strings_of_a_length_sum_to_its_probability():
    speech = SimulatedSpeech(SimulatedConfig(num_units=41, word_units=1.2, silence_units=1.1, noise=0.5), 0, 1.0)
    # "a" is silence, AH, silence. Units that it never emits are all alike: one of them stands for the others.
    own = sorted({*speech.onset[0, [0, 3], :][:, [0, 3]].ravel().tolist(), *speech.steady[0, [0, 3]].tolist()})
    other = next(unit for unit in range(41) if unit not in own)
    ah, silence = speech.stay[3], speech.stay[0]
    shortest = (1 - ah) * (1 - silence) ** 2
    for length, expected in ((3, shortest), (4, shortest * (ah + 2 * silence))):
        total = 0.0
        for units in itertools.product([*own, other], repeat=length):
            weight = (41 - len(own)) ** units.count(other)
            total += weight * math.exp(speech.log_likelihood(np.array(units), "a"))
        assert total == pytest.approx(expected, rel=1e-9)


def test_the_true_words_are_likelier_than_others(speech, utterances):
    wins = [
        speech.log_likelihood(utterance.units, utterance.text) > speech.log_likelihood(utterance.units, other.text)
        for utterance, other in zip(utterances[:30], utterances[30:60], strict=True)
    ]
    assert all(wins)


def test_words_too_short_for_their_phones_are_refused():
    with pytest.raises(UserError, match=r"word_units=2.0.*3\.\d\d phones.*set 3\.\d"):
        SimulatedSpeech(SimulatedConfig(word_units=2.0), 0, mean_phones(TEXTS))
    with pytest.raises(UserError, match="at least one word"):
        mean_phones([])
