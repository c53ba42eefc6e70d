"""Listens to long recordings part by part: pauses, and what is heard of the transcript. Each part is kept in the cache.

::

    recording ──parts_of──▶ parts of about ten minutes, cut at a pause ──listen──▶ pauses and heard words of each
                            a part is read by itself, so memory does not grow with the recording
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from lst import storage
from lst.data.alignment import align_files, aligner_name
from lst.data.audio.places import AudioRef
from lst.data.audio.read import read_row_audio
from lst.data.config import AlignConfig
from lst.data.corpora import ManifestRow
from lst.data.recordings.activity import find_pauses, stretches
from lst.data.recordings.hearing import (
    HeardToken,
    Listener,
    PocketsphinxListener,
    TranscriptTokens,
    english_tokens,
)
from lst.errors import UserError

if TYPE_CHECKING:
    from lst.data.recordings.hearing_ctc import CtcListener

PART_S = 600.0
# Where the border of a part may lie, around its even place.
BORDER_S = 10.0
# Heard at a time.
STRETCH_S = 25.0
# Changes with whatever changes what is heard.
_VERSION = 1


class HeardPart(TypedDict):
    """A file of the cache: what was found in one part of a recording, in seconds from the recording's start."""

    version: int
    pauses: list[list[float]]
    tokens: list[str]
    starts_s: list[float]
    ends_s: list[float]


@dataclass(frozen=True)
class PartJob:
    """One part of a recording to listen to.

    Attributes:
        row: the recording, with its transcript (empty: pauses alone are looked for) and its duration.
        audio_sha256: of its file.
        part, num_parts: which one.
        align: whose words are heard.
        detector: of pauses.
    """

    row: ManifestRow
    audio_sha256: str
    part: int
    num_parts: int
    align: AlignConfig
    detector: str

    @property
    def key(self) -> str:
        """Names all that decides the result."""
        row, align = self.row, self.align
        named = [aligner_name(align), align_files(align), align.unsaid] if row.text else []
        place = [row.channel, row.start_s, row.duration_s, self.part, self.num_parts]
        return storage.fingerprint([_VERSION, self.audio_sha256, *place, row.text, self.detector, *named])


def parts_of(row: ManifestRow, audio_sha256: str, align: AlignConfig, detector: str) -> list[PartJob]:
    """The parts of a recording, in order."""
    num_parts = max(1, math.ceil((row.duration_s or 0.0) / PART_S))
    return [PartJob(row, audio_sha256, part, num_parts, align, detector) for part in range(num_parts)]


def listen(job: PartJob) -> HeardPart:
    """Pauses and heard words of one part.

    Raises:
        UserError: the audio cannot be read, or the model cannot be loaded.
    """
    place = storage.cache_dir().with_name("heard") / f"{job.key}.json"
    try:
        return storage.read_json(place, HeardPart, "what was heard", "It is made again.")
    except UserError:
        heard = _heard(job)
        storage.write_json(place, heard)
        return heard


def read_stretch(row: ManifestRow, start_s: float, end_s: float) -> np.ndarray:
    """The audio of a recording from one time to another, float32 [num_samples] at 16 kHz."""
    return read_row_audio(AudioRef(row.path, row.start_s + start_s, end_s - start_s, True, row.channel, row.member))


def _heard(job: PartJob) -> HeardPart:
    start_s, end_s = _border(job, job.part), _border(job, job.part + 1)
    waveform = read_stretch(job.row, start_s, end_s)
    pauses = find_pauses(waveform, job.detector)
    tokens: list[HeardToken] = []
    if job.row.text:
        listener = _listener(job.row.text, job.align)
        for first_s, last_s in stretches(pauses, end_s - start_s, STRETCH_S):
            heard = listener.hear(waveform[round(first_s * 16_000) : round(last_s * 16_000)])
            tokens += [HeardToken(one.token, first_s + one.start_s, first_s + one.end_s) for one in heard]
    return {
        "version": _VERSION,
        "pauses": [[round(start_s + first_s, 3), round(start_s + last_s, 3)] for first_s, last_s in pauses],
        "tokens": [one.token for one in tokens],
        "starts_s": [round(start_s + one.start_s, 3) for one in tokens],
        "ends_s": [round(start_s + one.end_s, 3) for one in tokens],
    }


def _border(job: PartJob, number: int) -> float:
    """Where part ``number`` begins: in the longest pause near its even place, found in that stretch alone."""
    duration_s = job.row.duration_s or 0.0
    if number in (0, job.num_parts):
        return duration_s * (number > 0)
    first_s = duration_s * number / job.num_parts - BORDER_S
    pauses = find_pauses(read_stretch(job.row, first_s, first_s + 2 * BORDER_S), "energy")
    longest = max(pauses, key=lambda pause: (pause[1] - pause[0], -pause[0]), default=(BORDER_S, BORDER_S))
    return round(first_s + sum(longest) / 2, 3)


def tokens_of(text: str, align: AlignConfig, language: str) -> TranscriptTokens:
    """What is listened for in a transcript; raises ``ValueError`` where nothing of it can be said."""
    if align.method == "ctc":
        return _ctc_listener(align).tokens(text, language)
    return english_tokens(text, align.brackets())


def _listener(text: str, align: AlignConfig) -> Listener:
    return _ctc_listener(align) if align.method == "ctc" else _pocketsphinx_listener(text, align.brackets())


@lru_cache(maxsize=1)
def _pocketsphinx_listener(text: str, brackets: tuple[str, ...]) -> Listener:
    """Kept, as the parts of a recording follow one another."""
    return PocketsphinxListener(text, brackets)


def _ctc_listener(align: AlignConfig) -> CtcListener:
    return _kept_ctc_listener(align_files(align), *astuple(align))


@lru_cache(maxsize=1)
def _kept_ctc_listener(files: str | None, *options: Any) -> CtcListener:
    # Imported here because torch takes seconds to import.
    from lst.data.recordings.hearing_ctc import CtcListener

    return CtcListener(AlignConfig(*options))
