"""Sentences whose sound stays the same or changes in the middle: speaker, gender or gain. After SALMon.

The first half of a sentence is the context, its second half both endings: by the same voice, or changed. Their texts
are equal, so that only the sound tells them apart. The other context is the first half as the changed voice says it;
``swap`` then cancels what each voice costs by itself. (Maimon, Roth, Adi: A Suite for Acoustic Language Model
Evaluation, 2024.)
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

from lst.configs.schema import Config
from lst.data.corpora.records import text_lines
from lst.data.synthesis import choose_engine, generate_stories
from lst.data.synthesis.engines import engine_of
from lst.data.synthesis.voices import PseudoSpeaker, named_speaker, named_speakers
from lst.errors import UserError
from lst.evaluation.benchmark.text_items import TextItem

MIN_WORDS, MAX_WORDS = 6, 40
# A gain that changes does so by this factor, 12 dB.
QUIETER = 0.25


def consistency_items(config: Config, path: Path | None, count: int) -> tuple[list[TextItem], dict[str, PseudoSpeaker]]:
    """Items of sentences, and the speaker of each utterance.

    Kinds take turns; within a kind, the pairs of voices do. Each voice is the changed one as often as the other.

    Args:
        config: ``benchmark.voices``, or else all voices of ``data.voice``.
        path: a text file, a sentence a line; None takes stories.
        count: sentences at most.

    Raises:
        UserError: no engine is installed, or no sentence has 6 to 40 words.
    """
    kinds = _changes(_voices(config))
    sentences = [words for words in map(str.split, _sentences(path, config)) if MIN_WORDS <= len(words) <= MAX_WORDS]
    if len(sentences) < 2:
        raise UserError(f"{path or 'stories'}: {len(sentences)} sentences of {MIN_WORDS} to {MAX_WORDS} words: use two")
    items: list[TextItem] = []
    speakers: dict[str, PseudoSpeaker] = {}
    for number, words in enumerate(sentences[:count]):
        turn, place = divmod(number, len(kinds))
        kind, pairs = list(kinds.items())[place]
        same, changed = pairs[turn % len(pairs)]
        first, second = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
        name, label = f"{kind}-{number:05d}", (turn // len(pairs)) % 2
        items.append(TextItem(name, kind, first, (second, second), label, f"sentence {number + 1}", first))
        speakers |= {f"{name}-context": same, f"{name}-other": changed}
        speakers |= {f"{name}-{label}": same, f"{name}-{1 - label}": changed}
    return items, speakers


def _voices(config: Config) -> list[PseudoSpeaker]:
    if config.benchmark.voices:
        return named_speakers(config.benchmark.voices, "benchmark.voices")
    engine = choose_engine(config.data.voice)
    return [named_speaker(f"{engine}:{voice}") for voice in engine_of(engine).traits.voices]


def _changes(voices: list[PseudoSpeaker]) -> dict[str, list[tuple[PseudoSpeaker, PseudoSpeaker]]]:
    """By kind: who speaks, and who speaks after the change. A kind for which the voices do not suffice is absent."""
    genders = {voice.name: engine_of(voice.engine).traits.voices.get(voice.voice, "") for voice in voices}
    quiet = [replace(voice, name=f"{voice.name}-quiet", gain=voice.gain * QUIETER) for voice in voices]
    found: dict[str, list[tuple[PseudoSpeaker, PseudoSpeaker]]] = {"gain": [], "speaker": [], "gender": []}
    for loud, soft in zip(voices, quiet, strict=True):
        found["gain"] += [(loud, soft), (soft, loud)]
    for one, other in permutations(voices, 2):
        own, others = genders[one.name], genders[other.name]
        if own and others:
            found["speaker" if own == others else "gender"].append((one, other))
    return {kind: pairs for kind, pairs in found.items() if pairs}


def _sentences(path: Path | None, config: Config) -> list[str]:
    if path is not None:
        return [line for _, line in text_lines(path)]
    count = config.benchmark.max_items or 500
    stories = generate_stories(min(count, 1000), config.seed)
    return list(dict.fromkeys(sentence for story in stories for sentence in story.sentences))
