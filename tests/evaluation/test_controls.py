"""Controls find a cue that was planted, each its own, and are at chance without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.data.corpora import ManifestRow
from lst.data.utterance import Utterance, Word
from lst.evaluation.controls import CONTROLS, control_rows, control_scores
from lst.evaluation.items import Item, Part
from lst.evaluation.results import ControlScore
from lst.evaluation.sounds import PartSounds, UnitPairs, level_db, pitch_hz

NUM_ITEMS, NUM_UNITS, RATE_HZ = 16, 10, 16_000


@dataclass
class Spoken:
    """How a part is spoken. Its edges may sound otherwise than its middle."""

    num_units: int = 20
    num_letters: int = 8
    first_unit: int = 1
    last_unit: int = 1
    level: float = 0.1
    pitch_hz: float = 120.0
    first_level: float = 0.1
    is_first_noisy: bool = False


@dataclass
class MadeData:
    """Stands for prepared data whose items were made here."""

    folder: Path
    manifest: dict[str, ManifestRow] = field(default_factory=dict)
    train: list[Utterance] = field(default_factory=list)
    vocabulary: Any = field(
        default_factory=lambda: SimpleNamespace(num_units=NUM_UNITS, unit_rate_hz=25, units_a_frame=1)
    )
    index: Any = field(default_factory=lambda: {"description": "made by hand"})

    def part(self, name: str, spoken: Spoken, has_audio: bool = True) -> Part:
        units = np.full(spoken.num_units, 5, np.uint16)
        units[0], units[-1] = spoken.first_unit, spoken.last_unit
        word = "a" * spoken.num_letters
        utterance = Utterance(name, "ann", word, 1.0, units, (Word(word, 0, spoken.num_units, 0.0),))
        if has_audio:
            path = self.folder / f"{name}.wav"
            soundfile.write(path, sound(spoken), RATE_HZ)
            self.manifest[name] = ManifestRow(name, path, word, "ann", "questions")
        return Part.whole(utterance)


def sound(spoken: Spoken) -> np.ndarray:
    times = np.arange(spoken.num_units * RATE_HZ // 25) / RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * number * spoken.pitch_hz * times) / number for number in (1, 2, 3))
    samples = harmonics * spoken.level
    edge = slice(0, RATE_HZ // 10)
    samples[edge] *= spoken.first_level / 0.1
    if spoken.is_first_noisy:
        noise = np.random.default_rng(0).normal(size=RATE_HZ // 10)
        samples[edge] = noise * np.sqrt(np.mean(samples[edge] ** 2))
    return samples.astype(np.float32)


def scores_of(folder: Path, cue: str, has_audio: bool = True) -> dict[str, ControlScore]:
    """Controls of items whose true endings share ``cue`` with their context, or have it by themselves."""
    data, draw = MadeData(folder), np.random.default_rng(3)
    # In training, unit 2 comes after unit 1 most often.
    data.train = [Utterance("train", "ann", "", 1.0, np.array([1, 2, 1, 2, 1, 3], np.uint16), ())]
    items = []
    for number in range(NUM_ITEMS):
        own, other = planted(cue, number, draw)
        context, true, false = (
            data.part(f"{number}-{kind}", spoken, has_audio)
            for kind, spoken in (("context", own[0]), ("true", own[1]), ("false", other))
        )
        label = int(draw.integers(2))
        endings = (true, false) if label == 0 else (false, true)
        items.append(Item(f"i{number}", ("name", "topic")[number % 2], context, context, endings, label))
    sounds = PartSounds(data)
    return control_scores(control_rows(sounds, "questions", items), sounds, 200, 0)


def planted(cue: str, number: int, draw: np.random.Generator) -> tuple[tuple[Spoken, Spoken], Spoken]:
    """Context and true ending, and the false ending, of an item."""
    swap = number % 2

    def either(name: str, low: Any, high: Any) -> tuple[tuple[Spoken, Spoken], Spoken]:
        own, other = (low, high) if swap else (high, low)
        return (Spoken(**{name: own}), Spoken(**{name: own})), Spoken(**{name: other})

    def alone(**true: Any) -> tuple[tuple[Spoken, Spoken], Spoken]:
        return (Spoken(), Spoken(**true)), Spoken()

    made = {
        "rate": lambda: either("num_letters", 6, 12),
        "level": lambda: either("level", 0.05, 0.2),
        "pitch": lambda: either("pitch_hz", 100.0, 200.0),
        "join_units": lambda: ((Spoken(), Spoken(first_unit=2)), Spoken(first_unit=3)),
        "join_repeat": lambda: ((Spoken(), Spoken()), Spoken(first_unit=2)),
        "join_level": lambda: ((Spoken(), Spoken()), Spoken(first_level=0.02)),
        "join_spectrum": lambda: ((Spoken(), Spoken()), Spoken(is_first_noisy=True)),
        "usual_duration": lambda: ((Spoken(), Spoken()), Spoken(num_units=(12, 28)[swap])),
        "longest": lambda: alone(num_units=25),
        "fastest": lambda: alone(num_letters=12),
        "loudest": lambda: alone(level=0.2),
        "highest": lambda: alone(pitch_hz=200.0),
    }
    if cue:
        return made[cue]()
    rates, levels, pitches = (
        draw.permutation(values)[:3] for values in ((6, 8, 12), (0.05, 0.1, 0.2), (100, 150, 200))
    )
    context, true, false = (
        Spoken(int(draw.integers(18, 24)), int(letters), *map(int, draw.integers(1, 4, 2)), float(level), float(pitch))
        for letters, level, pitch in zip(rates, levels, pitches, strict=True)
    )
    return (context, true), false


@pytest.mark.parametrize("cue", CONTROLS)
def test_a_planted_cue_is_found_by_its_control(cue: str, tmp_path: Path) -> None:
    found = scores_of(tmp_path, cue, has_audio=CONTROLS[cue].needs_sound)[cue]
    assert found["strata"]["all"] == {"num_items": NUM_ITEMS, "accuracy": 1.0, "low": 1.0, "high": 1.0}
    assert found["p_holm"] < 0.01
    assert found["missing"] == ""
    assert {name: own["num_items"] for name, own in found["strata"].items()} == {"all": 16, "name": 8, "topic": 8}


def test_without_a_cue_every_control_is_at_chance(tmp_path: Path) -> None:
    found = scores_of(tmp_path, "")
    assert all(score["p_holm"] > 0.05 for score in found.values())
    assert all(0.1 < score["strata"]["all"]["accuracy"] < 0.9 for score in found.values())
    assert {name for name, score in found.items() if "T→S" in score["directions"]} == {
        *("usual_duration", "longest", "fastest", "loudest", "highest")
    }


def test_without_sound_the_controls_that_need_it_are_named_with_the_reason(tmp_path: Path) -> None:
    found = scores_of(tmp_path, "rate", has_audio=False)
    for name, control in CONTROLS.items():
        assert bool(found[name]["strata"]) is not control.needs_sound
        reason = "all of 16 items cannot be measured: the data (made by hand) is units without audio"
        assert found[name]["missing"] == (reason if control.needs_sound else "")


def test_items_whose_audio_is_gone_are_left_out_of_controls_that_need_it(tmp_path: Path) -> None:
    data = MadeData(tmp_path)
    items = [
        Item(f"i{n}", "", *[data.part(f"{n}-context", Spoken())] * 2, (data.part(f"{n}-true", Spoken()),) * 2, 0)
        for n in range(2)
    ]
    (tmp_path / "1-true.wav").unlink()
    sounds = PartSounds(data)
    found = control_scores(control_rows(sounds, "questions", items), sounds, 100, 0)
    assert found["level"]["strata"]["all"]["num_items"] == 1
    assert "1 of 2 items cannot be measured: audio of 1 utterances cannot be read" in found["level"]["missing"]
    assert "1-true.wav" in found["level"]["missing"]
    assert found["rate"]["strata"]["all"] == {"num_items": 2, "accuracy": 0.5, "low": 0.5, "high": 0.5}


def test_pitch_and_level_of_known_sounds() -> None:
    for wanted_hz in (80.0, 150.0, 330.0):
        assert pitch_hz(sound(Spoken(num_units=25, pitch_hz=wanted_hz))) == pytest.approx(wanted_hz, rel=0.02)
    assert np.isnan(pitch_hz(np.zeros(RATE_HZ, np.float32)))
    assert np.isnan(pitch_hz(np.random.default_rng(0).normal(size=RATE_HZ).astype(np.float32)))
    times = np.arange(RATE_HZ) / RATE_HZ
    assert level_db(np.sin(2 * np.pi * 100 * times)) == pytest.approx(-3.01, abs=0.01)


def test_pairs_of_units_are_smoothed_and_sum_to_one() -> None:
    pairs = UnitPairs.count([np.array([1, 2, 1, 2, 3], np.uint16), np.array([2], np.uint16)], 4)
    assert pairs.nats(1, 2) == pytest.approx(np.log((2 + 1 / 4) / 3))
    for first in range(4):
        assert sum(np.exp(pairs.nats(first, second)) for second in range(4)) == pytest.approx(1)
