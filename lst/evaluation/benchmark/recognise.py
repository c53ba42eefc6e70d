"""What a recogniser hears in the clips of a benchmark, and the word errors of each.

Transcripts are kept in the cache by the hash of the audio, so a build that was stopped hears no clip twice. Synthesised
speech is not what recognisers were trained on, and non-words cannot be heard right: their errors say which clips to
listen to and compare voices; they leave no item out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from lst import storage
from lst.data.alignment.words import word_key
from lst.data.audio import read_audio
from lst.data.recordings.recognisers import RecogniserChoice, load_recogniser
from lst.data.text import normalise
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import Progress


class Transcript(TypedDict):
    """A file of the cache: what a recogniser heard."""

    recogniser: str
    heard: str


def hear(files: Mapping[str, Path], choice: RecogniserChoice, num_workers: int) -> dict[str, str]:
    """What the recogniser hears in files of audio, by the hash of each.

    Args:
        files: by SHA-256 of their content.
        choice: the recogniser.
        num_workers: processes.
    """
    name = load_recogniser(choice).name
    with Progress(len(files), f"hear clips by {choice.kind}", unit="clip") as progress:
        heard: dict[str, str] = {}
        for digest, text in ordered_map(partial(_heard, choice, name), files.items(), num_workers):
            heard[digest] = text
            progress.advance()
    return heard


def _heard(choice: RecogniserChoice, name: str, file: tuple[str, Path]) -> tuple[str, str]:
    digest, path = file
    place = storage.cache_dir().with_name("transcripts") / f"{storage.fingerprint([digest, name])}.json"
    try:
        return digest, storage.read_json(place, Transcript, "the transcript", "It is made again.")["heard"]
    except UserError:
        text = load_recogniser(choice).transcribe(read_audio(path))
        storage.write_json(place, {"recogniser": name, "heard": text})
        return digest, text


def spoken_keys(text: str) -> list[str]:
    """The words of a text as they are compared: read aloud, in lower case, without punctuation.

    >>> spoken_keys("Well-known: 2 hats!")
    ['well', 'known', 'two', 'hats']
    """
    return [key for word in normalise(text).replace("-", " ").split() if (key := word_key(word))]


def word_errors(wanted: Sequence[Any], heard: Sequence[Any]) -> int:
    """Fewest substitutions, deletions and insertions that turn one sequence into the other.

    >>> word_errors(["a", "cat", "sat"], ["the", "cat", "sat", "up"])
    2
    """
    row = list(range(len(heard) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]
