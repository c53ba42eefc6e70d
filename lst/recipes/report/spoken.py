"""What each model says after the same spoken words, to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lst.api import SpeechTextModel, voice_of
from lst.data.documents import span_frames
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.evaluation.cloze import ending_start
from lst.recipes.report.audio import audio_address
from lst.recipes.report.page import Section
from lst.recipes.report.record import RunRecord
from lst.runs import open_whole
from lst.voice.vocoders import VOICE_FILE, Vocoder


class SpokenClip(NamedTuple):
    """Sound of units, and what it is: the model's name, or a word for the original; how it ended, in words."""

    label: str
    shown: str
    address: str


@dataclass(frozen=True, kw_only=True)
class SpokenSection(Section):
    """Continuations of one prompt.

    Attributes:
        utterance: the held-out utterance that is continued.
        words, rest: its words in the prompt, and those that really followed.
        voice: what makes sound of units, in words.
        clips: the prompt, what really followed, and the continuation of each model.
        problems: of models that could not speak.
    """

    utterance: str
    words: str
    rest: str
    voice: str
    clips: Sequence[SpokenClip]
    problems: Sequence[str]


def spoken_section(run: RunRecord) -> SpokenSection | None:
    """The same spoken prompt continued by each model that has a voice; None where none has, or nothing is asked for."""
    folders = {model.name: run.folder.final(model.name) for model in run.models}
    speaking = {name: folder for name, folder in folders.items() if (folder / VOICE_FILE).exists()}
    options = run.config.report
    utterance = next((one for one in run.valid if len(one.words) > 1 and len(one.units)), None)
    if not speaking or not options.continuation_s or utterance is None:
        return None
    clips: list[SpokenClip] = []
    problems: list[str] = []
    voice_name = ""
    start = ending_start(utterance, run.config.eval.context_share)
    cut, _ = span_frames(utterance, start, len(utterance.words))
    for name, folder in speaking.items():
        try:
            whole = open_whole(folder)
            model = SpeechTextModel(whole, voice_of(whole))
            assert model.voice is not None
            if not clips:
                clips += _original(model.voice, utterance, cut)
                voice_name = model.voice.name
            clips.append(_continuation(model, name, utterance.units[:cut], options.continuation_s, run.config.seed))
        except LstError as error:
            problems.append(f"{name}: {error}")
    words = [word.text for word in utterance.words]
    return SpokenSection(
        "spoken",
        "Spoken continuations",
        run.badge,
        utterance=utterance.id,
        words=" ".join(words[:start]),
        rest=" ".join(words[start:]),
        voice=voice_name,
        clips=clips,
        problems=problems,
    )


def _original(voice: Vocoder, utterance: Utterance, cut: int) -> list[SpokenClip]:
    parts = {"prompt": utterance.units[:cut], "what really followed": utterance.units[cut:]}
    return [
        SpokenClip(label, f"{len(units)} units", audio_address(voice.sound(units), voice.sample_rate_hz))
        for label, units in parts.items()
    ]


def _continuation(model: SpeechTextModel, name: str, units: np.ndarray, duration_s: float, seed: int) -> SpokenClip:
    rate_hz = model.whole.tokenizers.vocabulary.unit_rate_hz
    continued = model.continue_units(units, max_new_tokens=round(duration_s * rate_hz), seed=seed)
    if not len(continued.units):
        return SpokenClip(name, "it ended at once", "")
    sound = continued.sound
    ending = {"stop": "it ended there", "length": "cut here", "context": "its context is full"}[continued.ended_by]
    return SpokenClip(name, f"{sound.duration_s:.1f} s; {ending}", audio_address(sound.samples, sound.sample_rate_hz))
