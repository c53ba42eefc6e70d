"""Formats of the files of a benchmark's folder, and of its evaluation. See ``lst.runs.formats`` for versions.

::

    OUT/index.json, shards/, units.safetensors    as of prepared data; the one split is ``questions``
    OUT/manifest.jsonl, questions.jsonl           its utterances and its items
    OUT/audio/HASH.flac                           what was spoken; equal texts share a file
    OUT/clips.jsonl                               Clip a line
    OUT/misheard.jsonl                            LeftOut a line, where a recogniser heard the clips
    OUT/left_out.jsonl                            LeftOut a line
    OUT/texts.jsonl                               Text a line: of a benchmark of text alone, which has questions, card
                                                  and left_out.jsonl beside it, and no speech
    OUT/benchmark.json                            BenchmarkCard; README.md says the same for people, and card.html,
                                                  with failures, and items to hear
    eval/NAME@BENCHMARK-FINGERPRINT.benchmark.json                BenchmarkResult, beside a run's other results
    eval/NAME@….benchmark.items.jsonl, ….benchmark.controls.jsonl    ItemRow and ControlRow a line
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from lst.data.shards import LeftOut
from lst.evaluation.results import ControlScore, DirectionScore, Share
from lst.storage import Count, Seconds

CARD_FILE, PAGE_FILE, CLIPS_FILE, AUDIO_FOLDER = "benchmark.json", "README.md", "clips.jsonl", "audio"
TEXTS_FILE, MISHEARD_FILE = "texts.jsonl", "misheard.jsonl"
VERSION: Literal[1] = 1


class Text(TypedDict):
    """One text of a benchmark.

    Keys:
        id: of the utterance: ITEM-context, ITEM-other, or ITEM-NUMBER of an ending.
        text, spoken: as the items file has it, and as it is read aloud.
    """

    id: str
    text: str
    spoken: str


class Heard(TypedDict, total=False):
    """What a recogniser heard in a clip; there where one was asked for.

    Keys:
        heard: its words.
        num_words, num_word_errors: words that were read aloud, and errors against them.
    """

    heard: str
    num_words: Count
    num_word_errors: Count


class Clip(Text, Heard):
    """One utterance of a spoken benchmark.

    Keys:
        speaker: who spoke it.
        path, sha256: of its audio in the folder.
        duration_s: of the audio.
        level_db: root mean square, in dB of full scale.
        peak: largest magnitude.
        fault: what its checks found; empty where it is sound.
    """

    speaker: str
    path: str
    sha256: str
    duration_s: Seconds
    level_db: float
    peak: float
    fault: str


class VoiceErrors(TypedDict):
    """How well a recogniser understood one voice.

    Keys:
        num_clips, num_misheard: its clips, and those of them with more word errors than allowed.
        num_words, num_word_errors: over all its clips.
    """

    num_clips: Count
    num_misheard: Count
    num_words: Count
    num_word_errors: Count


class LaterKeys(TypedDict, total=False):
    """Keys of a card that benchmarks of earlier versions lack.

    Keys:
        headlines: the headline score of each direction that it is scored in.
        num_voices: how many say each item; items of one name then count as one.
        licences: of the engines that speak.
        recogniser: what heard the clips.
        max_wer: word errors a word that a clip may have.
        voices: errors of each speaker.
    """

    headlines: dict[str, str]
    num_voices: Count
    licences: dict[str, str]
    recogniser: str
    max_wer: float
    voices: dict[str, VoiceErrors]


class BenchmarkCard(LaterKeys):
    """``benchmark.json``: what a benchmark was made of, in numbers.

    Keys:
        name: one of ``BENCHMARKS``.
        made_from: fingerprint of all that decides the folder's bytes.
        items_file, items_sha256: name and hash of the file of items.
        num_items, num_left_out: that are asked, and that are listed in ``left_out.jsonl``.
        num_endings: of items, each number once.
        chance: the accuracy of guessing.
        has_context: whether endings follow a context.
        other_contexts: what ``swap`` swaps the context with, in words.
        strata: number of items of each; empty where the file names none.
        speech: who spoke, in words; ``text alone`` where nobody did.
        speakers: their settings.
        normaliser: what turned the texts into what was read aloud.
        seed: of speakers and other contexts.
        unit_rate_hz, units_sha256: of the speech units.
        num_clips, num_faulty_clips: utterances, and those whose checks found something.
        num_files: of audio.
        speech_s: duration of all utterances.
        files: SHA-256 by name; those of audio are in ``clips.jsonl``, those of shards in ``index.json``.
    """

    version: Literal[1]
    name: str
    made_from: str
    items_file: str
    items_sha256: str
    num_items: Count
    num_left_out: Count
    num_endings: list[int]
    chance: Share
    has_context: bool
    other_contexts: str
    strata: dict[str, Count]
    speech: str
    speakers: list[dict[str, Any]]
    normaliser: str
    seed: Count
    unit_rate_hz: Count
    units_sha256: str
    num_clips: Count
    num_faulty_clips: Count
    num_files: Count
    speech_s: Seconds
    files: dict[str, str]


class LaterScores(TypedDict, total=False):
    """Keys of a result that those of earlier versions lack.

    Keys:
        voices: directions by voice, where several voices say each item.
        items: fingerprint of ids and words of all items.
        folder: where the benchmark lay, for pages that show its items.
    """

    voices: dict[str, dict[str, DirectionScore]]
    items: str
    folder: str


class BenchmarkResult(LaterScores):
    """``eval/NAME@….benchmark.json``: one model on one benchmark.

    Keys:
        made_from: fingerprint of weights, benchmark, options and seed; an equal one is not scored again.
        name: of the model in the run.
        benchmark, data: name of the benchmark, and fingerprint of its content.
        strategy: patching strategy at inference.
        options: of ``eval=``.
        chance: the accuracy of guessing.
        num_items: that were scored.
        left_out: items that the model cannot read, with the reason.
        directions: accuracies by direction; each names its headline score.
        controls: accuracies of choices without content.
    """

    made_from: str
    name: str
    benchmark: str
    data: str
    weights_sha256: str
    seed: int
    strategy: str
    options: dict[str, Any]
    num_parameters: Count
    chance: Share
    num_items: Count
    left_out: list[LeftOut]
    directions: dict[str, DirectionScore]
    controls: dict[str, ControlScore]
