"""The known entropy of held-out stories, and whether the floor of a law is it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.evaluation.ceilings import StoryData
from lst.evaluation.entropy import UnitEntropy
from lst.progress import Progress
from lst.recipes.reproduce.formats import FloorCheck, KnownEntropy
from lst.recipes.scaling.formats import FitRecord, Interval
from lst.storage import read_json, write_json

# A law whose lowest loss lies this far above the known entropy, relative, has to guess the rest; and beyond the second,
# its floor says nothing.
FAR, TOO_FAR = 0.1, 0.5
Verdict = Literal["holds", "lies above", "lies below", "not determined"]


def known_entropy(data: PreparedData, place: Path) -> KnownEntropy:
    """Measures it over all held-out stories, on which models are scored; what ``place`` holds is not measured again.

    Raises:
        UserError: the data is no simulated stories.
    """
    if place.exists():
        before = read_json(place, KnownEntropy, "the known entropy", f"Delete {place}.")
        if before["data"] == data.fingerprint:
            return before
    stories = StoryData.of(data)
    if stories is None or stories.speech is None:
        raise UserError("law.prepare: the entropy of simulated stories alone is known: write corpus=simulated there")
    entropy = UnitEntropy(stories.speech, stories.grammar, 0)
    bounds, num_units, num_bytes = [], 0, 0
    with Progress(len(data.valid), "measure the known entropy", unit="item") as progress:
        for utterance in data.valid:
            bounds.append(entropy.said_bits(utterance))
            num_units += utterance.num_frames
            num_bytes += len(utterance.text.encode())
            progress.advance(1)
    at_least, at_most = np.sum(bounds, axis=0) / num_units
    found = KnownEntropy(
        data=data.fingerprint,
        num_utterances=len(data.valid),
        num_units=num_units,
        num_bytes=num_bytes,
        speech_at_least=float(at_least),
        speech_at_most=float(at_most),
        text=len(data.valid) * math.log2(stories.grammar.num_stories) / num_bytes,
    )
    write_json(place, found)
    return found


def floor_checks(fits: Sequence[FitRecord], known: KnownEntropy) -> list[FloorCheck]:
    """The floor of each law beside the known entropy of its modality."""
    found = []
    for fit in fits:
        is_speech = fit["loss"] == "speech_bits"
        low, high = (known["speech_at_least"], known["speech_at_most"]) if is_speech else (known["text"],) * 2
        least = min(row["loss"] for row in fit["residuals"])
        verdict = _verdict(fit["E"], low, high, least)
        found.append(
            FloorCheck(
                arm=fit["arm"],
                loss=fit["loss"],
                E=fit["E"],
                known_low=low,
                known_high=high,
                least_loss=least,
                verdict=verdict,
                note=_note(fit, verdict, low, least),
            )
        )
    return found


def _verdict(interval: Interval, known_low: float, known_high: float, least: float) -> Verdict:
    """Whether the interval holds the known entropy; one that is open, or wider than the entropy, says nothing."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None or low <= 0 or high - low > known_low or least > (1 + TOO_FAR) * known_high:
        return "not determined"
    return "lies above" if low > known_high else "lies below" if high < known_low else "holds"


def _note(fit: FitRecord, verdict: Verdict, known: float, least: float) -> str:
    """What to think of a verdict, from what is known about the fit."""
    notes = []
    above = least / known - 1
    if above > FAR:
        notes.append(f"the best model lies {above:.0%} above the known entropy, so that E is guessed from afar")
    if verdict == "lies above":
        notes.append("these sizes and steps approach a higher floor than more of both would")
    if verdict == "lies below":
        notes.append("losses still fall faster than a power law with this floor")
    p = fit["noise"]["lack_of_fit_p"]
    if verdict in ("lies above", "lies below") and p is not None and p < 0.01:
        notes.append("one power law each in N and D does not fit within the noise of replicates")
    if fit["E"]["low"] in (None, 0.0):
        notes.append("the points do not exclude a floor of zero")
    return "; ".join(notes)
