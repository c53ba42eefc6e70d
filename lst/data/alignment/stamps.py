"""Times of words as the speech engine gave them while it spoke, kept beside the cached audio.

A file of stamps is named by a hash of the audio that it belongs to, so it is found wherever that audio went, and never
for any other. Flite and eSpeak NG give times, through their libraries; Pico has none.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lst.data.alignment.aligner import ALIGNER_SAMPLE_RATE_HZ, AlignmentError
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.words import match_words, place_words
from lst.data.audio import read_audio
from lst.data.synthesis import default_cache_dir, engine_times
from lst.data.synthesis.voices import (
    ESPEAK_WORDS_PER_MINUTE,
    LIMIT_S_PER_CHARACTER,
    START_LIMIT_S,
    PseudoSpeaker,
    espeak_pitch,
    spoken_text,
)
from lst.data.utterance import TimedWord, Word, time_problems
from lst.progress import Progress, say
from lst.storage import write_json

STAMPS_SUFFIX = ".words.json"
STAMPING_ENGINES = tuple(engine_times.ENGINES)
# Samples of the library's sound and of the cached one may differ by rounding alone.
MAX_SAMPLE_DIFFERENCE = 2 / 32768


def stamps_path(waveform: np.ndarray, folder: Path) -> Path:
    """Where the stamps of a waveform lie, float32 [num_samples] at 16 kHz: its 16-bit samples name the file."""
    samples = np.clip(np.round(waveform * 32768.0), -32768, 32767).astype("<i2")
    return folder / f"{hashlib.sha256(samples.tobytes()).hexdigest()}{STAMPS_SUFFIX}"


class StampsAligner:
    """Takes the engine's own times; where there are none, the words are aligned by pocketsphinx.

    Exact words score 0; those of pocketsphinx have its scores.

    Args:
        folder: where stamps lie; empty means the cache of voices.
    """

    name = "stamps"

    def __init__(self, folder: str = "") -> None:
        self.folder = Path(folder).expanduser() if folder else default_cache_dir()
        self.num_stamped = self.num_fallback = 0
        self._fallback: PocketsphinxAligner | None = None

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """See ``Aligner.align``."""
        timed = self._stamped(waveform, text)
        if timed is not None:
            self.num_stamped += 1
            return place_words(timed, num_frames, frame_rate_hz)
        if self._fallback is None:
            say(
                f"{utterance_id or text[:40]!r} has no usable time stamps in {self.folder}: it and such utterances are "
                "aligned by pocketsphinx"
            )
            self._fallback = PocketsphinxAligner()
        self.num_fallback += 1
        return self._fallback.align(waveform, text, num_frames, frame_rate_hz, utterance_id)

    def _stamped(self, waveform: np.ndarray, text: str) -> list[TimedWord] | None:
        try:
            rows = json.loads(stamps_path(waveform, self.folder).read_text(encoding="utf-8"))["words"]
            timed = [TimedWord(str(word), float(start), float(end)) for word, start, end in rows]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        matched, problems = match_words(text, timed)
        if problems or time_problems(matched, len(waveform) / ALIGNER_SAMPLE_RATE_HZ):
            return None
        return matched


def engine_word_times(text: str, speaker: PseudoSpeaker) -> tuple[np.ndarray, int, list[tuple[str, float, float]]]:
    """Speaks ``text`` through the engine's library.

    Returns:
        The engine's own sound float32 [num_samples], its rate in Hz, and each word with start and end in seconds.

    Raises:
        AlignmentError: the engine gives no times, its library is missing, or it failed.
    """
    if speaker.engine not in STAMPING_ENGINES:
        raise AlignmentError(f"the speech engine {speaker.engine} gives no times of words")
    said = spoken_text(text)
    with tempfile.TemporaryDirectory(prefix="lst-stamps-") as folder:
        text_path, wav_path, words_path = (Path(folder, name) for name in ("text.txt", "speech.wav", "words.json"))
        text_path.write_text(said + "\n", encoding="utf-8")
        job: dict[str, Any] = {
            "engine": speaker.engine,
            "voice": speaker.voice,
            "text_path": str(text_path),
            "wav_path": str(wav_path),
            "words_path": str(words_path),
            **_settings(speaker),
        }
        command = [sys.executable, engine_times.__file__, json.dumps(job)]
        limit_s = START_LIMIT_S + LIMIT_S_PER_CHARACTER * len(said)
        try:
            answer = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
            )
            if answer.returncode != 0:
                message = " ".join(answer.stderr.split())[-300:] or f"it ended with status {answer.returncode}"
                raise AlignmentError(f"{speaker.engine}'s library gave no times: {message}")
            words = [tuple(word) for word in json.loads(words_path.read_text(encoding="utf-8"))]
            audio_L, rate_hz = soundfile.read(wav_path, dtype="float32")
        except (OSError, ValueError, RuntimeError, subprocess.TimeoutExpired) as error:
            raise AlignmentError(f"{speaker.engine}'s library gave no times: {error}") from None
    return audio_L, rate_hz, words


def _settings(speaker: PseudoSpeaker) -> dict[str, float]:
    """Rate and pitch as the engine's command gets them."""
    if speaker.engine == "flite":
        return {"rate": float(f"{1 / speaker.rate:.4f}"), "pitch": speaker.pitch}
    return {"rate": round(ESPEAK_WORDS_PER_MINUTE * speaker.rate), "pitch": espeak_pitch(speaker)}


def write_stamps(text: str, speaker: PseudoSpeaker, audio_path: Path, folder: Path) -> bool:
    """Writes the stamps of a cached audio unless they are there.

    Returns:
        Whether there are stamps now. Sounds that differ from the cached ones get none.
    """
    waveform = read_audio(audio_path)
    target = stamps_path(waveform, folder)
    if target.exists():
        return True
    try:
        audio_L, rate_hz, words = engine_word_times(text, speaker)
    except AlignmentError:
        return False
    # An engine's own rate of 22.05 kHz was resampled: then the length must agree, else every sample.
    num_samples = len(audio_L) * ALIGNER_SAMPLE_RATE_HZ / rate_hz
    same = abs(num_samples - len(waveform)) <= 1
    if same and rate_hz == ALIGNER_SAMPLE_RATE_HZ:
        scaled = audio_L * (speaker.gain / max(float(np.abs(audio_L).max(initial=0.0)), 1e-3))
        same = bool(np.abs(scaled - waveform).max() <= MAX_SAMPLE_DIFFERENCE)
    if same:
        write_json(target, {"engine": speaker.engine, "voice": speaker.voice, "text": text, "words": words})
    return same


def write_stamps_many(
    jobs: Sequence[tuple[str, PseudoSpeaker]], audio_paths: Sequence[Path], folder: Path, num_workers: int
) -> int:
    """Stamps of what ``synthesize_many`` spoke; says how many there are and what becomes of the others.

    Args:
        jobs: pairs of text and speaker.
        audio_paths: the cached audio of each.
        folder: where stamps are kept.
        num_workers: engines at a time.

    Returns:
        How many of ``jobs`` have stamps.
    """
    # By path, since two workers must not write one file.
    distinct = dict(zip(audio_paths, jobs, strict=True))
    with ThreadPoolExecutor(num_workers) as executor, Progress(len(distinct), "time stamps", "text") as progress:

        def work(path: Path) -> bool:
            done = write_stamps(*distinct[path], path, folder)
            progress.advance()
            return done

        stamped = dict(zip(distinct, executor.map(work, distinct), strict=True))
    count = sum(stamped[path] for path in audio_paths)
    if count < len(jobs):
        say(
            f"{len(jobs) - count} of {len(jobs)} texts have no time stamps from {jobs[0][1].engine} (its library is "
            "missing, or it gives none): pocketsphinx aligns them"
        )
    return count
