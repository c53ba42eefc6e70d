"""Synthesised speech of many voices: engines read sentences, and playing them faster or slower makes other bodies.

::

    FOLDER/made_from.json    MadeFrom; written first
    FOLDER/audio/SPEAKER-NUMBER.flac    a sentence
    FOLDER/manifest.jsonl               transcripts and speakers; word times are spread evenly; written last

A sound that is played at 1.1 times its speed has all its frequencies 1.1 times as high, resonances of the mouth
included, as if a smaller body had made it. The engine speaks as much slower and lower, so that pace and pitch stay.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import soundfile

from lst import storage
from lst.data.audio import read_audio, resample
from lst.data.corpora.manifest import write_manifest
from lst.data.corpora.rows import ManifestRow
from lst.data.synthesis.stories import generate_stories, split_sentences
from lst.data.synthesis.voices import (
    R3_ROOT,
    PseudoSpeaker,
    default_cache_dir,
    named_speakers,
    speak_each,
    synthesize_cached,
)
from lst.data.utterance import TimedWord
from lst.errors import UserError
from lst.storage import fingerprint, read_json, write_json
from lst.tokenizers.units import SAMPLE_RATE_HZ

MANIFEST_FILE, MADE_FROM_FILE = "manifest.jsonl", "made_from.json"
RATE_RANGE, PITCH_RANGE, BODY_RANGE = (0.9, 1.12), (0.8, 1.25), (0.87, 1.16)
_MIN_WORDS = 5
# Rates of resampling are multiples of this, so that its filters stay small.
_RATE_STEP_HZ = 50


@dataclass(frozen=True)
class BodySpeaker:
    """A pseudo-speaker of another body.

    Attributes:
        speaker: what the engine is asked for.
        body: multiple of all frequencies, 1.0 for the engine's own voice.
    """

    speaker: PseudoSpeaker
    body: float


def many_speakers(voices: Sequence[str], num_speakers: int, seed: int) -> list[BodySpeaker]:
    """Speakers that differ in voice, pace, pitch and body; with more speakers the first ones stay the same.

    Engines take turns, and so do the voices of each; the rest follows Roberts' R3 sequence from a point that the seed
    draws.

    Args:
        voices: ``ENGINE:VOICE`` each.
        num_speakers: at least 1.
        seed: of the starting point.

    Raises:
        UserError: there is no such engine or voice here.
    """
    named = named_speakers(voices, "many.voices")
    engines = list(dict.fromkeys(speaker.engine for speaker in named))
    own = {engine: [speaker for speaker in named if speaker.engine == engine] for engine in engines}
    generator = random.Random(seed)
    starts = [generator.random() for _ in range(3)]
    found = []
    for number in range(num_speakers):
        turn, place = divmod(number, len(engines))
        base = own[engines[place]][turn % len(own[engines[place]])]
        rate, pitch, body = (
            low + (high - low) * ((start + number / R3_ROOT**power) % 1.0)
            for power, start, (low, high) in zip((1, 2, 3), starts, (RATE_RANGE, PITCH_RANGE, BODY_RANGE), strict=True)
        )
        body = round(SAMPLE_RATE_HZ * body / _RATE_STEP_HZ) * _RATE_STEP_HZ / SAMPLE_RATE_HZ
        asked = replace(
            base, name=f"{base.engine}-{number:03d}", rate=round(rate / body, 2), pitch=round(pitch / body, 2)
        )
        found.append(BodySpeaker(asked, body))
    return found


def speech_of(text: str, speaker: BodySpeaker, cache: Path) -> np.ndarray:
    """A text as a speaker says it, float32 [num_samples] at 16 kHz.

    Args:
        text: see ``synthesize``.
        speaker: who speaks.
        cache: folder of what engines have spoken.
    """
    plain = read_audio(synthesize_cached(text, speaker.speaker, cache))
    return resample(speaker.speaker.name, plain, round(SAMPLE_RATE_HZ * speaker.body), SAMPLE_RATE_HZ)


class MadeFrom(TypedDict):
    """``made_from.json``: fingerprint of speakers, sentences and seed."""

    version: Literal[1]
    made_from: str


def check_corpus(folder: Path, speakers: Sequence[BodySpeaker], num_sentences: int, seed: int) -> str:
    """Raises ``UserError`` where a folder holds other speech than ``make_corpus`` would make; returns a fingerprint."""
    now = fingerprint([num_sentences, seed, [(str(one.speaker), one.body) for one in speakers]])
    place = folder / MADE_FROM_FILE
    if (
        place.exists()
        and read_json(place, MadeFrom, "the record of the speech", f"Delete {folder}.")["made_from"] != now
    ):
        raise UserError(
            f"{folder} holds speech of other speakers, sentences or another seed: give the options that it was made "
            "with, or another run_dir=FOLDER"
        )
    return now


def make_corpus(folder: Path, speakers: Sequence[BodySpeaker], num_sentences: int, seed: int, num_workers: int) -> Path:
    """Writes a corpus in which each speaker says sentences of their own; nothing is done where it is there.

    Args:
        folder: of the corpus.
        speakers: who speaks.
        num_sentences: of each speaker.
        seed: of the sentences.
        num_workers: engines that run at a time.

    Returns:
        Its manifest.

    Raises:
        UserError: the folder holds other speech.
    """
    made_from = check_corpus(folder, speakers, num_sentences, seed)
    manifest = folder / MANIFEST_FILE
    if manifest.exists():
        return manifest
    write_json(folder / MADE_FROM_FILE, {**MadeFrom(version=1, made_from=made_from)})
    wanted = num_sentences * len(speakers)
    stories = generate_stories(wanted, seed, "wide")
    sentences = [one for story in stories for one in split_sentences(story.text) if len(one.split()) >= _MIN_WORDS]
    random.Random(seed).shuffle(sentences)
    jobs = {
        folder / "audio" / f"{speaker.speaker.name}-{number}.flac": (sentences[index * num_sentences + number], speaker)
        for index, speaker in enumerate(speakers)
        for number in range(num_sentences)
    }

    def write(path: Path) -> None:
        with storage.staged(path) as temporary:
            samples = speech_of(*jobs[path], default_cache_dir())
            soundfile.write(temporary, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")

    speak_each(write, [path for path in jobs if not path.exists()], num_workers, "synthesize speech")
    rows = [
        ManifestRow(path.stem, path, text, speaker.speaker.name, words=_spread(text, soundfile.info(path).duration))
        for path, (text, speaker) in jobs.items()
    ]
    write_manifest(manifest, rows)
    return manifest


def _spread(text: str, duration_s: float) -> tuple[TimedWord, ...]:
    """Words of equal length: a voice needs no times of words, but prepared data has them."""
    words = text.split()
    bounds = np.linspace(0, duration_s, len(words) + 1).round(3).tolist()
    return tuple(TimedWord(word, *times) for word, *times in zip(words, bounds, bounds[1:], strict=False))
