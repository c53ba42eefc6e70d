"""Word times that the speech engine reported while it spoke, kept beside the cached audio.

A file of stamps is named by a hash of the audio's samples. It is found wherever the audio is copied, and never taken
for other audio. Flite and eSpeak NG report times through their libraries; Pico does not.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from lst.data.alignment.aligner import (
    ALIGNER_SAMPLE_RATE_HZ,
    AlignItem,
    AlignmentError,
    AlignResult,
    ScoreScale,
    align_each,
)
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.words import match_words, place_words
from lst.data.audio import read_audio
from lst.data.config import AlignConfig
from lst.data.synthesis import default_cache_dir, engine_times, synthesize_many
from lst.data.synthesis.engines import engine_settings, run_program
from lst.data.synthesis.voices import (
    PseudoSpeaker,
    finished_sound,
    speak_each,
    spoken_text,
    uncached,
    write_cached,
)
from lst.data.utterance import TimedWord, time_problems
from lst.progress import say
from lst.storage import read_json, write_json

STAMPS_SUFFIX = ".words.json"


# Samples of the library's sound and of the cached one differ by rounding alone.
MAX_SAMPLE_DIFFERENCE = 2 / 32768
# Two Gaussians a frame, not four: a sixth less time. Against Flite's own times, the starts of words are off by 15 ms in
# the mean instead of 13; a unit lasts 40.
VOICE_SEARCH = {"topn": 2}


class Stamps(TypedDict):
    """A file of stamps, of which these are read: text, start and end in seconds of each word."""

    words: list[list[str | float]]


def stamps_path(waveform: np.ndarray, folder: Path) -> Path:
    """The stamps file of a waveform (float32 [num_samples], 16 kHz), named by a hash of its 16-bit samples."""
    samples = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype("<i2")
    return folder / f"{hashlib.sha256(samples.tobytes()).hexdigest()}{STAMPS_SUFFIX}"


class StampsAligner:
    """Takes the speech engine's own word times; utterances without them are aligned by pocketsphinx.

    Words with the engine's times score 0; the others have pocketsphinx's scores.

    Args:
        folder: where stamps are kept; empty means the cache of voices.

    Attributes:
        num_stamped: utterances so far with the engine's times.
        num_fallback: utterances so far that pocketsphinx aligned.
    """

    batch = 1
    # Voices score unlike people, and say what they are given.
    scale: ScoreScale | None = None

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder).expanduser() if folder else default_cache_dir()
        self.num_stamped = self.num_fallback = 0
        self._fallback: PocketsphinxAligner | None = None

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``."""
        return [result for item in items for result in self._align(item, frame_rate_hz)]

    def _align(self, item: AlignItem, frame_rate_hz: int) -> list[AlignResult]:
        """The result of one utterance."""
        timed = self._stamped(item)
        if timed is not None:
            self.num_stamped += 1
            return align_each(lambda item: place_words(timed, item.num_frames, frame_rate_hz), [item])
        if self._fallback is None:
            say(
                f"{item.utterance_id or item.text[:40]!r} has no usable time stamps in {self.folder}: it and such "
                "utterances are aligned by pocketsphinx"
            )
            self._fallback = PocketsphinxAligner(search=VOICE_SEARCH)
        self.num_fallback += 1
        return self._fallback.align_many([item], frame_rate_hz)

    def _stamped(self, item: AlignItem) -> list[TimedWord] | None:
        try:
            place = stamps_path(item.waveform, self.folder)
            rows = read_json(place, Stamps, "the time stamps", "They are written again.")["words"]
            timed = [TimedWord(str(word), float(start), float(end)) for word, start, end in rows]
        except ValueError:
            return None
        matched, problems = match_words(item.text, timed)
        return None if problems or time_problems(matched, item.duration_s) else matched


def engine_word_times(text: str, speaker: PseudoSpeaker) -> tuple[np.ndarray, int, list[tuple[str, float, float]]]:
    """Speaks ``text`` through the engine's library.

    Returns:
        The engine's own sound float32 [num_samples], its rate in Hz, and each word with start and end in seconds.

    Raises:
        AlignmentError: the engine gives no times, its library is missing, or it failed.
    """
    if speaker.engine not in engine_times.ENGINES:
        raise AlignmentError(f"the speech engine {speaker.engine} gives no times of words")
    settings = engine_settings(speaker.engine, speaker.rate, speaker.pitch)
    arguments = [speaker.engine, speaker.voice, *settings]
    with tempfile.TemporaryDirectory(prefix="lst-stamps-") as folder:
        try:
            audio_L, rate_hz = run_program(engine_times.__file__, arguments, spoken_text(text), Path(folder))
            words = json.loads(Path(folder, engine_times.WORDS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AlignmentError(f"{speaker.engine}'s library gave no times: {error}") from None
    return audio_L, rate_hz, [tuple(word) for word in words]


def speak_with_stamps(jobs: Sequence[tuple[str, PseudoSpeaker]], cache: Path, folder: Path, num_workers: int) -> None:
    """Speaks what is not in the cache of voices through the engine's library, which gives sound and times in one go.

    A text that the library cannot speak is left to the engine's command.

    Args:
        jobs: pairs of text and speaker.
        cache: where the sound goes.
        folder: where the stamps go.
        num_workers: engines that run at a time.
    """

    def speak(path: Path) -> None:
        text, speaker = missing[path]
        try:
            audio_L, rate_hz, words = engine_word_times(text, speaker)
        except AlignmentError:
            return
        write_cached(path, finished_sound(audio_L, rate_hz, text, speaker))
        _write_times(stamps_path(read_audio(path), folder), text, speaker, words)

    missing = {path: job for path, job in uncached(jobs, cache).items() if job[1].engine in engine_times.ENGINES}
    speak_each(speak, list(missing), num_workers, "synthesize speech and its word times")


def _write_times(target: Path, text: str, speaker: PseudoSpeaker, words: Sequence[tuple[str, float, float]]) -> None:
    write_json(target, {"engine": speaker.engine, "voice": speaker.voice, "text": text, "words": words})


def spoken_files(jobs: Sequence[tuple[str, PseudoSpeaker]], align: AlignConfig, num_workers: int) -> list[Path]:
    """Speaks many texts in parallel into the cache of voices, with the engine's word times where they are asked for.

    Args:
        jobs: pairs of text and speaker; repeated pairs are spoken once.
        align: how words are aligned: ``stamps`` asks for times.
        num_workers: engines that run at a time.

    Returns:
        One file a job, in the order of ``jobs``.
    """
    cache, has_stamps = default_cache_dir(), align.method == "stamps"
    stamps = Path(align.source).expanduser() if align.source else cache
    if has_stamps:
        speak_with_stamps(jobs, cache, stamps, num_workers)
    paths = synthesize_many(jobs, cache, num_workers)
    if has_stamps:
        write_stamps_many(jobs, paths, stamps, num_workers)
    return paths


def write_stamps(text: str, speaker: PseudoSpeaker, audio_path: Path, folder: Path) -> bool:
    """Writes the stamps of a cached audio file unless they are there.

    Returns:
        Whether there are stamps now. There are none if the library's sound differs from the cached one.
    """
    waveform = read_audio(audio_path)
    target = stamps_path(waveform, folder)
    if target.exists():
        return True
    try:
        audio_L, rate_hz, words = engine_word_times(text, speaker)
    except AlignmentError:
        return False
    # Audio of 22.05 kHz was resampled: compare its length only. At 16 kHz compare every sample.
    num_samples = len(audio_L) * ALIGNER_SAMPLE_RATE_HZ / rate_hz
    same = abs(num_samples - len(waveform)) <= 1
    if same and rate_hz == ALIGNER_SAMPLE_RATE_HZ:
        scaled = audio_L * (speaker.gain / max(float(np.abs(audio_L).max(initial=0.0)), 1e-3))
        same = bool(np.abs(scaled - waveform).max() <= MAX_SAMPLE_DIFFERENCE)
    if same:
        _write_times(target, text, speaker, words)
    return same


def write_stamps_many(
    jobs: Sequence[tuple[str, PseudoSpeaker]], audio_paths: Sequence[Path], folder: Path, num_workers: int
) -> int:
    """Writes the stamps of the texts that ``synthesize_many`` spoke; reports how many have none.

    Args:
        jobs: pairs of text and speaker.
        audio_paths: the cached audio of each.
        folder: where stamps are kept.
        num_workers: engines that run at a time.

    Returns:
        How many of ``jobs`` have stamps.
    """
    # Keyed by path: two workers must not write the same file.
    distinct = {path: job for path, job in zip(audio_paths, jobs, strict=True) if job[1].engine in engine_times.ENGINES}
    done = speak_each(
        lambda path: write_stamps(*distinct[path], path, folder), list(distinct), num_workers, "time stamps"
    )
    stamped = dict(zip(distinct, done, strict=True))
    count = sum(stamped.get(path, False) for path in audio_paths)
    if count < len(jobs):
        say(
            f"{len(jobs) - count} of {len(jobs)} texts have no time stamps from {jobs[0][1].engine} (its library is "
            "missing, or it gives none): pocketsphinx aligns them"
        )
    return count
