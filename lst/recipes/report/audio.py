"""Utterances to listen to, inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile

from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.recipes.report.page import Section
from lst.recipes.report.record import RunRecord

SAMPLE_RATE_HZ = 16_000
MAX_CLIP_S = 20.0


class Clip(NamedTuple):
    """An utterance and its split: ``training`` or ``held out``."""

    utterance: Utterance
    split: str


class Player(NamedTuple):
    """A clip, how long it is in words, and its audio as a ``data:`` URL."""

    clip: Clip
    shown: str
    address: str


@dataclass(frozen=True, kw_only=True)
class ListenSection(Section):
    """Clips to listen to, and why others could not be read."""

    players: Sequence[Player]
    problems: Sequence[str]


def encode_audio(samples: np.ndarray, sample_rate_hz: int) -> tuple[str, bytes]:
    """Encodes mono samples, float32 [num_samples], as MP3 where this libsndfile writes it, else as 16-bit WAV.

    Returns:
        The media type and the file's content.
    """
    buffer = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(buffer, samples, sample_rate_hz, format="MP3")
        return "audio/mpeg", buffer.getvalue()
    soundfile.write(buffer, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    return "audio/wav", buffer.getvalue()


def choose_clips(
    train: Sequence[Utterance], valid: Sequence[Utterance], num_clips: int, has_audio: Callable[[Utterance], bool]
) -> list[Clip]:
    """Held-out and training utterances in turn, of new speakers where possible; those without audio are skipped."""
    waiting = {"held out": list(valid), "training": list(train)}
    chosen: list[Clip] = []
    heard: set[str] = set()
    while len(chosen) < num_clips and any(waiting.values()):
        wanted, other = ("held out", "training") if len(chosen) % 2 == 0 else ("training", "held out")
        split = wanted if waiting[wanted] else other
        utterances = waiting[split]
        new_voice = next((n for n, utterance in enumerate(utterances) if utterance.speaker not in heard), 0)
        utterance = utterances.pop(new_voice)
        if has_audio(utterance):
            chosen.append(Clip(utterance, split))
            heard.add(utterance.speaker)
    return chosen


def audio_section(run: RunRecord) -> ListenSection:
    """Players with the transcript and the speaker of each clip."""
    players, problems = [], []
    for clip in choose_clips(run.train, run.valid, run.config.report.num_audio, run.has_audio):
        try:
            players.append(make_player(clip, run.waveform_of(clip.utterance)))
        except LstError as error:
            problems.append(str(error))
    return ListenSection("listen", "Listen", run.badge, players=players, problems=problems)


def make_player(clip: Clip, samples: np.ndarray) -> Player:
    """The first seconds of a clip's audio, float32 [num_samples] at 16 kHz, ready to be played in the page."""
    duration_s = len(samples) / SAMPLE_RATE_HZ
    shown = f"{duration_s:.1f} s"
    if duration_s > MAX_CLIP_S:
        shown = f"clipped: the first {MAX_CLIP_S:.0f} s of {duration_s:.1f} s"
    return Player(clip, shown, audio_address(samples, SAMPLE_RATE_HZ))


def audio_address(samples: np.ndarray, sample_rate_hz: int) -> str:
    """The first ``MAX_CLIP_S`` seconds of mono samples, float32 [num_samples], as a ``data:`` URL."""
    media_type, content = encode_audio(samples[: int(MAX_CLIP_S * sample_rate_hz)], sample_rate_hz)
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
