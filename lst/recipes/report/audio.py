"""Utterances to listen to, inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.recipes.report.page import Html, Section, bold, code, element, joined, paragraph
from lst.recipes.report.record import RunRecord

SAMPLE_RATE_HZ = 16_000
MAX_CLIP_S = 20.0


class Clip(NamedTuple):
    """An utterance and the split it is of."""

    utterance: Utterance
    split: str


def encode_audio(samples: np.ndarray, sample_rate_hz: int) -> tuple[str, bytes]:
    """Mono samples, float32 [num_samples], as MP3 where this libsndfile writes it, else as 16-bit WAV.

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
    """Held-out and training utterances in turn whose audio is still there, of speakers not heard yet where possible."""
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


def audio_section(run: RunRecord) -> Section:
    """Players with the transcript and the speaker of each clip."""
    wanted = run.config.report.num_audio
    players: list[Html] = []
    problems: list[str] = []
    for clip in choose_clips(run.train, run.valid, wanted, run.has_audio):
        try:
            players.append(player(clip, run.waveform_of(clip.utterance), run.speech))
        except LstError as error:
            problems.append(str(error))
    notes = []
    if wanted == 0:
        notes.append(paragraph("No utterance was asked for (", code("report.num_audio=0"), ")."))
    elif len(players) < wanted:
        notes.append(
            paragraph(
                f"{wanted} utterances were asked for; audio of {len(players)} could be read. ",
                " ".join(problems)
                or "The other files are no longer where the manifest says, or there are not as many.",
                class_="note",
            )
        )
    intro = paragraph(
        f"What the speech units were made from: {run.speech}, training and held-out utterances in turn, different "
        "speakers where there are any. The models never see this audio, only its units and words."
    )
    grid = element("div", *players, class_="clips") if players else Html("")
    return Section("listen", "Listen", joined(intro, *notes, grid), run.badge)


def player(clip: Clip, samples: np.ndarray, speech: str) -> Html:
    """One clip: audio (float32 [num_samples] at 16 kHz), text, speaker."""
    utterance = clip.utterance
    duration_s = len(samples) / SAMPLE_RATE_HZ
    shown = f"{duration_s:.1f} s"
    if duration_s > MAX_CLIP_S:
        samples = samples[: int(MAX_CLIP_S * SAMPLE_RATE_HZ)]
        shown = f"clipped: the first {MAX_CLIP_S:.0f} s of {duration_s:.1f} s"
    media_type, content = encode_audio(samples, SAMPLE_RATE_HZ)
    address = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return element(
        "div",
        paragraph(
            bold(utterance.speaker or "unknown speaker"), f" · {clip.split} · {shown} · {speech}", class_="tagged"
        ),
        element("audio", controls="controls", preload="metadata", src=address, aria_label=f"utterance {utterance.id}"),
        paragraph("“", utterance.text, "”"),
        paragraph(code(utterance.id), class_="tagged"),
        class_="clip",
    )
