"""What each model says after the same spoken words, to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lst.api import Continued, SpeechTextModel, voice_of
from lst.data.audio import resample
from lst.data.documents import span_frames
from lst.data.recordings.recognisers import Pocketsphinx, Recogniser
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.evaluation.cloze import ending_start
from lst.evaluation.lexicon import LexiconRecogniser, lexicon_of
from lst.recipes.report.audio import audio_address
from lst.recipes.report.page import Section
from lst.recipes.report.record import RunRecord
from lst.runs import open_whole
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.vocoders import VOICE_FILE, Vocoder, figures_of

# A larger lexicon than this tells the recogniser too little.
_MOST_WORDS = 300


class SpokenClip(NamedTuple):
    """Sound of units, and what it is.

    Attributes:
        label: the model's name, or a word for the original.
        shown: how it ended, in words.
        address: of the sound; empty for none.
        figures: its level, peak and clicks, in words.
        heard: the words that the recogniser hears in it.
    """

    label: str
    shown: str
    address: str
    figures: str = ""
    heard: str = ""


@dataclass(frozen=True, kw_only=True)
class SpokenSection(Section):
    """Continuations of one prompt.

    Attributes:
        utterance: the held-out utterance that is continued.
        words, rest: its words in the prompt, and those that really followed.
        voice: what makes sound of units, in words.
        recogniser: that hears the clips; empty for none.
        clips: the prompt, what really followed, and the continuation of each model.
        problems: of models that could not speak.
    """

    utterance: str
    words: str
    rest: str
    voice: str
    recogniser: str
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
    recogniser = _recogniser(run, utterance)
    start = ending_start(utterance, run.config.eval.context_share)
    cut, _ = span_frames(utterance, start, len(utterance.words))
    for name, folder in speaking.items():
        try:
            whole = open_whole(folder)
            model = SpeechTextModel(whole, voice_of(whole))
            assert model.voice is not None
            if not clips:
                clips += _original(model.voice, utterance, cut, recogniser)
                voice_name = model.voice.name
            continued = model.continue_units(
                utterance.units[:cut],
                max_new_tokens=round(options.continuation_s * whole.tokenizers.vocabulary.unit_rate_hz),
                seed=run.config.seed,
            )
            clips.append(_continuation(name, continued, recogniser))
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
        recogniser="" if recogniser is None else recogniser.name,
        clips=clips,
        problems=problems,
    )


def _recogniser(run: RunRecord, utterance: Utterance) -> Recogniser | None:
    """One that knows the words of the held-out texts alone, where they are few; else pocketsphinx as it is.

    None of an utterance in another language: both hear English alone.
    """
    row = run.data.manifest.get(utterance.id)
    if row is not None and row.language:
        return None
    words = lexicon_of(utterance.text for utterance in run.valid)
    return LexiconRecogniser(words) if 0 < len(words) <= _MOST_WORDS else Pocketsphinx()


def _original(voice: Vocoder, utterance: Utterance, cut: int, recogniser: Recogniser | None) -> list[SpokenClip]:
    parts = {"prompt": utterance.units[:cut], "what really followed": utterance.units[cut:]}
    return [
        _clip(label, f"{len(units)} units", voice.sound(units), voice.sample_rate_hz, recogniser)
        for label, units in parts.items()
    ]


def _continuation(name: str, continued: Continued, recogniser: Recogniser | None) -> SpokenClip:
    if not len(continued.units):
        return SpokenClip(name, "it ended at once", "")
    sound = continued.sound
    ending = {"stop": "it ended there", "length": "cut here", "context": "its context is full"}[continued.ended_by]
    shown = f"{sound.duration_s:.1f} s; {ending}"
    return _clip(name, shown, sound.samples, sound.sample_rate_hz, recogniser)


def _clip(
    label: str, shown: str, samples: np.ndarray, sample_rate_hz: int, recogniser: Recogniser | None
) -> SpokenClip:
    if not len(samples):
        return SpokenClip(label, shown, "")
    figures, heard = str(figures_of(samples)), ""
    if recogniser is not None:
        heard = recogniser.transcribe(resample(label, samples, sample_rate_hz, SAMPLE_RATE_HZ))
    return SpokenClip(label, shown, audio_address(samples, sample_rate_hz), figures, heard)
