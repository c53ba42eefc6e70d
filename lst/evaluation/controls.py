"""Controls: answers to the items by everything but content. On a fair test each is at chance.

==================  =========  ===============================================================================
control             sound      the ending that it chooses
==================  =========  ===============================================================================
``rate``            no         whose speaking rate (units a letter) is nearest to the context's
``level``           yes        whose level is nearest to the context's
``pitch``           yes        whose median pitch is nearest to the context's
``join_units``      no         whose first unit follows the context's last one most often in training
``join_repeat``     no         whose first unit is the context's last one
``join_level``      yes        whose level at the cut is nearest to the context's
``join_spectrum``   yes        whose spectrum at the cut is nearest to the context's
``usual_duration``  no         whose duration is nearest to the mean of all endings
``longest``         no         the longest
``fastest``         no         the fastest
``loudest``         yes        the loudest
``highest``         yes        the highest in pitch
==================  =========  ===============================================================================

The first seven hear the context, so they answer S→S alone. The others look at the ending alone, so they answer T→S as
well. An accuracy far below chance is a cue too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lst.evaluation.accuracy import credits_of, holm, off_chance, strata_accuracies
from lst.evaluation.cloze import ClozeItem
from lst.evaluation.items import Item, Part
from lst.evaluation.results import ControlRow, ControlScore, ItemKind
from lst.evaluation.sounds import Heard, PartSounds, Sound, UnitPairs


@dataclass(frozen=True)
class Background:
    """What controls know of the data: the mean duration of all endings in units, and pairs of units in training."""

    mean_units: float
    pairs: UnitPairs


@dataclass(frozen=True)
class Control:
    """A rule that chooses an ending without its content.

    Attributes:
        chooses: which ending, for people.
        needs_context: it compares the ending with a spoken context.
        needs_sound: units are not enough.
        score: of an ending's sound after a context's; the highest is chosen, NaN where it cannot be measured.
    """

    chooses: str
    needs_context: bool
    needs_sound: bool
    score: Callable[[Sound, Sound, Background], float]


def _ratio(first: float, second: float) -> float:
    """Minus the distance of two positive numbers on a logarithmic scale."""
    return -abs(math.log(first / second)) if first > 0 and second > 0 else float("nan")


def _of_sound(score: Callable[[Heard, Heard], float]) -> Callable[[Sound, Sound, Background], float]:
    def of(context: Sound, ending: Sound, _: Background) -> float:
        return float("nan") if context.heard is None or ending.heard is None else score(context.heard, ending.heard)

    return of


CONTROLS = {
    "rate": Control(
        "whose speaking rate is nearest to the context's",
        True,
        False,
        lambda context, ending, _: _ratio(context.units_a_letter, ending.units_a_letter),
    ),
    "level": Control(
        "whose level is nearest to the context's",
        True,
        True,
        _of_sound(lambda context, ending: -abs(context.level_db - ending.level_db)),
    ),
    "pitch": Control(
        "whose median pitch is nearest to the context's",
        True,
        True,
        _of_sound(lambda context, ending: _ratio(context.pitch_hz, ending.pitch_hz)),
    ),
    "join_units": Control(
        "whose first unit follows the context's last one most often in training",
        True,
        False,
        lambda context, ending, known: known.pairs.nats(context.last_unit, ending.first_unit),
    ),
    "join_repeat": Control(
        "whose first unit is the context's last one",
        True,
        False,
        lambda context, ending, _: float(context.last_unit == ending.first_unit) if context.num_units else math.nan,
    ),
    "join_level": Control(
        "whose level at the cut is nearest to the context's",
        True,
        True,
        _of_sound(lambda context, ending: -abs(context.last.level_db - ending.first.level_db)),
    ),
    "join_spectrum": Control(
        "whose spectrum at the cut is nearest to the context's",
        True,
        True,
        _of_sound(lambda context, ending: -float(np.linalg.norm(context.last.spectrum_db - ending.first.spectrum_db))),
    ),
    "usual_duration": Control(
        "whose duration is nearest to the mean of all endings",
        False,
        False,
        lambda _, ending, known: -abs(ending.num_units - known.mean_units),
    ),
    "longest": Control("the longest", False, False, lambda _, ending, __: float(ending.num_units)),
    "fastest": Control("the fastest", False, False, lambda _, ending, __: -ending.units_a_letter),
    "loudest": Control("the loudest", False, True, _of_sound(lambda _, ending: ending.level_db)),
    "highest": Control("the highest in pitch", False, True, _of_sound(lambda _, ending: ending.pitch_hz)),
}


def items_of_cloze(items: Sequence[ClozeItem]) -> list[Item]:
    """Cloze items as items, whose true ending is the first."""
    found = []
    for item in items:
        own, other = (
            (Part(utterance, 0, start), Part(utterance, start, len(utterance.words)))
            for utterance, start in ((item.utterance, item.ending_start), (item.other, item.other_ending_start))
        )
        found.append(Item(item.utterance.id, "", own[0], other[0], (own[1], other[1]), 0))
    return found


def control_rows(sounds: PartSounds, kind: ItemKind, items: Sequence[Item]) -> list[ControlRow]:
    """What each control gives each ending; a row for each ending, in the order of the items.

    Args:
        sounds: measures what it has not measured before.
        kind: of the items.
        items: one or more, of the data of ``sounds``.
    """
    sounds.measure(items)
    lengths = [sounds.of(ending).num_units for item in items for ending in item.endings]
    known = Background(sum(lengths) / len(lengths), sounds.pairs)
    return [
        {
            "items": kind,
            "item": item.id,
            "stratum": item.stratum,
            "ending": number,
            "is_true": number == item.label,
            "scores": {
                name: None if math.isnan(score := control.score(context, sounds.of(ending), known)) else score
                for name, control in CONTROLS.items()
            },
        }
        for item, context in ((item, sounds.of(item.context)) for item in items)
        for number, ending in enumerate(item.endings)
    ]


def control_scores(
    rows: Sequence[ControlRow], sounds: PartSounds, num_samples: int, seed: int, chance: float = 0.5
) -> dict[str, ControlScore]:
    """Accuracies of all controls. Items that a control cannot measure are left out of it, and its note says why.

    Args:
        rows: of ``control_rows``.
        sounds: that measured them; says why sound is missing.
        num_samples: resamples of the intervals.
        seed: of the resampling.
        chance: the accuracy of guessing.
    """
    found: dict[str, ControlScore] = {}
    num_items = len({row["item"] for row in rows})
    for name, control in CONTROLS.items():
        lacking = {row["item"] for row in rows if row["scores"][name] is None}
        kept = [row for row in rows if row["item"] not in lacking]
        credits = credits_of(
            [row["item"] for row in kept],
            np.array([row["scores"][name] for row in kept], float),
            [row["is_true"] for row in kept],
        )
        values = np.array(list(credits.values()))
        found[name] = {
            "chooses": control.chooses,
            "directions": ["S→S"] if control.needs_context else ["S→S", "T→S"],
            "missing": _missing(control, sounds, len(lacking), num_items),
            "p_value": off_chance(values, chance),
            "p_holm": 1.0,
            "strata": strata_accuracies(credits, {row["item"]: row["stratum"] for row in kept}, num_samples, seed),
        }
    measured = [name for name, score in found.items() if score["strata"]]
    for name, corrected in zip(measured, holm([found[name]["p_value"] for name in measured]), strict=True):
        found[name]["p_holm"] = corrected
    return found


def _missing(control: Control, sounds: PartSounds, num_lacking: int, num_items: int) -> str:
    """Why items are left out of a control; empty where none is."""
    if not num_lacking:
        return ""
    reason = "they are too short, or nothing in them is voiced"
    if control.needs_sound and sounds.silent:
        reason = sounds.silent
    elif control.needs_sound and sounds.unreadable:
        reason = (
            f"audio of {len(sounds.unreadable)} utterances cannot be read: {next(iter(sounds.unreadable.values()))}"
        )
    return f"{'all' if num_lacking == num_items else num_lacking} of {num_items} items cannot be measured: {reason}"
