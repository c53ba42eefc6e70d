"""Recordings without a transcript get one by a recogniser, with its confidence. What was heard is kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypedDict

from lst import storage
from lst.data.audio.read import read_row_audio
from lst.data.config import DataConfig
from lst.data.corpora import ManifestRow
from lst.data.corpora.row_checks import text_faults
from lst.data.corpora.row_languages import in_words
from lst.data.corpora.row_table import RowTable
from lst.data.recordings.recognisers import Hearing, RecogniserChoice, load_recogniser
from lst.data.shards import LeftOut
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import Progress, say


class Transcript(TypedDict):
    """A file of the cache: what a recogniser heard in one recording."""

    version: int
    recogniser: str
    heard: str
    confidence: float


@dataclass
class Transcribed:
    """Recordings after a recogniser has heard them.

    Attributes:
        rows: in their order, without those that are left out.
        left_out: recordings in which nothing was heard, or not with confidence.
    """

    rows: RowTable = field(default_factory=RowTable)
    left_out: list[LeftOut] = field(default_factory=list)


def transcribe(
    rows: Sequence[ManifestRow], config: DataConfig, hashes: Mapping[str, str], num_workers: int
) -> Transcribed:
    """Gives a text to those rows that have none; the others stay as they are.

    A text that was recognised is for training: where the corpus names no split for it, none of it is held out, unless
    all texts are such.

    Args:
        rows: checked, none of them too long.
        config: which recogniser, and how sure it must be.
        hashes: SHA-256 of the audio file of each row without a text, by its path and member.
        num_workers: processes that hear.

    Raises:
        UserError: the recogniser cannot be loaded.
    """
    silent = [row for row in rows if not row.text.strip()]
    names = recogniser_names(silent, config)
    choice = RecogniserChoice(str(config.transcribe), config.transcribe_weights)
    jobs = [(row, hashes[f"{row.path}\0{row.member}"]) for row in silent]
    result, num_heard = Transcribed(), 0
    with Progress(len(silent), f"transcripts by {choice.kind}", unit="recording") as progress:
        heard = ordered_map(partial(_heard, choice, names), jobs, num_workers)
        for row in rows:
            if row.text.strip():
                result.rows.append(row)
                continue
            found = next(heard)
            progress.advance()
            if fault := _fault(found, row.language, config.min_confidence):
                result.left_out.append({"id": row.id, "reason": f"{row.id}: {fault}"})
                continue
            assert isinstance(found, Hearing)
            num_heard += 1
            told = replace(row, text=found.text, transcript_confidence=round(found.confidence, 4))
            result.rows.append(in_words(replace(told, split=row.split or "train")))
    say(
        f"{len(silent):,} recordings without a transcript: {num_heard:,} are transcribed by "
        f"{'; '.join(names.values())}, {len(result.left_out):,} are left out"
    )
    return result


def recogniser_names(silent: Sequence[ManifestRow], config: DataConfig) -> dict[str, str]:
    """The name of the recogniser of each language of recordings.

    Raises:
        UserError: as ``load_recogniser``.
    """
    choices = {
        language: RecogniserChoice(str(config.transcribe), config.transcribe_weights, language)
        for language in sorted({row.language for row in silent})
    }
    return {language: load_recogniser(choice).name for language, choice in choices.items()}


def _fault(found: Hearing | str, language: str, min_confidence: float | None) -> str:
    """Why a recording stays without a text; empty if it does not."""
    if isinstance(found, str):
        return found
    if not found.text.strip():
        return "the recogniser heard no word"
    if min_confidence is not None and found.confidence < min_confidence:
        return f"the recogniser's confidence is {found.confidence:.2f}, below data.min_confidence={min_confidence:g}"
    return "; ".join(text_faults(found.text, language))


def _heard(choice: RecogniserChoice, names: Mapping[str, str], job: tuple[ManifestRow, str]) -> Hearing | str:
    """What was heard, or why the audio cannot be read."""
    row, audio_sha256 = job
    name = names[row.language]
    segment = [row.start_s, row.duration_s] if row.is_segment else []
    key = storage.fingerprint([1, name, audio_sha256, row.channel, *segment])
    place = storage.cache_dir().with_name("transcripts") / f"{key}.json"
    try:
        kept = storage.read_json(place, Transcript, "the transcript", "It is made again.")
        return Hearing(kept["heard"], kept["confidence"])
    except UserError:
        pass  # not heard yet
    try:
        waveform = read_row_audio(row)
    except UserError as error:
        return str(error)
    found = load_recogniser(replace(choice, language=row.language)).hear(waveform)
    storage.write_json(
        place, {"version": 1, "recogniser": name, "heard": found.text, "confidence": float(found.confidence)}
    )
    return Hearing(found.text, float(found.confidence))
