"""Scores of units against scikit-learn's and against loops over frames."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from lst.errors import UserError
from lst.evaluation.unit_scores import ScoredUtterance, score_units


def made(seed: int, num_units: int = 12, units_a_frame: int = 1) -> list[ScoredUtterance]:
    """Six utterances of three speakers; units follow the phone half of the time. The last has no phones."""
    random = np.random.default_rng(seed)
    utterances = []
    for index in range(6):
        phones = np.repeat(random.integers(0, 7, 30), random.integers(1, 5, 30))
        units = np.where(random.random(len(phones)) < 0.5, phones, random.integers(0, num_units, len(phones)))
        rows = [units, *(random.integers(0, num_units, len(phones)) for _ in range(units_a_frame - 1))]
        flat = np.stack(rows).T.reshape(-1).astype(np.uint16)
        utterances.append(ScoredUtterance(flat, None if index == 5 else phones.astype(np.uint8), f"s{index % 3}"))
    return utterances


def bits(values: list[Any]) -> float:
    return -sum(n / len(values) * math.log2(n / len(values)) for n in Counter(values).values())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_scores_are_those_of_loops_over_frames(seed: int) -> None:
    utterances = made(seed)
    scores = score_units(utterances, 12, 25)
    pairs = [
        (int(phone), int(unit))
        for item in utterances
        if item.phones is not None
        for phone, unit in zip(item.phones, item.units, strict=True)
    ]
    said = [pair for pair in pairs if pair[0] != 0]
    for key, chosen in (("phone_normalised_mi", said), ("phone_normalised_mi_with_silence", pairs)):
        phones, units = zip(*chosen, strict=True)
        expected = mutual_info_score(phones, units) / (bits(list(phones)) * math.log(2))
        assert scores[key] == pytest.approx(expected, abs=1e-9)
    phone_purity = sum(max(Counter(p for p, v in said if v == u).values()) for u in {u for _, u in said}) / len(said)
    unit_purity = sum(max(Counter(u for q, u in said if q == p).values()) for p in {p for p, _ in said}) / len(said)
    assert scores["phone_purity"] == pytest.approx(phone_purity)
    assert scores["unit_purity"] == pytest.approx(unit_purity)
    speakers = [(item.speaker, int(unit)) for item in utterances for unit in item.units]
    names, units = zip(*speakers, strict=True)
    assert scores["speaker_nmi"] == pytest.approx(mutual_info_score(names, units) / (bits(list(names)) * math.log(2)))
    assert scores["bits_a_second"] == pytest.approx(25 * bits(list(units)))
    runs = [
        int(unit)
        for item in utterances
        for index, unit in enumerate(item.units)
        if index == 0 or unit != item.units[index - 1]
    ]
    seconds = len(speakers) / 25
    assert scores["units_a_second_deduplicated"] == pytest.approx(len(runs) / seconds)
    assert scores["bits_a_second_deduplicated"] == pytest.approx(bits(runs) * len(runs) / seconds)
    assert scores["units_used"] == len(set(units))
    assert (scores["num_frames"], scores["num_phone_frames"], scores["num_speakers"]) == (len(units), len(said), 3)


def test_the_correction_takes_the_bias_of_few_frames_away() -> None:
    """Units that say nothing: the plain value is far above 0, the corrected one is not."""
    plain, corrected = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        phones, units = random.integers(1, 21, 12_000), random.integers(0, 50, 12_000)
        scores = score_units([ScoredUtterance(units, phones, "a")], 50, 25)
        plain.append(scores["phone_normalised_mi"])
        corrected.append(scores["phone_normalised_mi_corrected"])
    print(f"plain {np.mean(plain):.4f}, corrected {np.mean(corrected):.4f}")
    assert np.mean(plain) > 0.01
    assert abs(np.mean(corrected)) < 0.001


def test_units_that_are_the_phones_and_units_that_are_one() -> None:
    phones = np.random.default_rng(0).integers(1, 9, 500)
    perfect = score_units([ScoredUtterance(phones, phones, "a")], 9, 25)
    assert perfect["phone_normalised_mi"] == pytest.approx(1)
    assert perfect["phone_purity"] == perfect["unit_purity"] == 1
    same = score_units([ScoredUtterance(np.zeros(500, int), phones, "a")], 9, 25)
    assert same["phone_normalised_mi"] == pytest.approx(0)
    assert (same["bits_a_second"], same["unit_purity"], same["speaker_nmi"]) == (0, 1, None)


def test_of_several_codebooks_the_first_is_compared_and_all_cost_bits() -> None:
    first = [ScoredUtterance(item.units[::2], item.phones, item.speaker) for item in made(3, units_a_frame=2)]
    both, one = score_units(made(3, units_a_frame=2), 12, 25, 2), score_units(first, 12, 25)
    for key in ("phone_normalised_mi", "phone_purity", "speaker_nmi", "num_frames"):
        assert both[key] == one[key]
    second = [int(unit) for item in made(3, units_a_frame=2) for unit in item.units[1::2]]
    assert both["bits_a_second"] == pytest.approx(one["bits_a_second"] + 25 * bits(second))
    assert both["units_a_second"] == 50
    assert "bits_a_second_deduplicated" not in both


def test_speech_without_a_phone_is_refused() -> None:
    with pytest.raises(UserError, match="no frame of speech"):
        score_units([ScoredUtterance(np.zeros(9, int), np.zeros(9, int), "a")], 2, 25)
