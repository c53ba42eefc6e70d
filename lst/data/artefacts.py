"""The files beside the shards that give ids their meaning: codebook, text tokenizer, vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lst import storage
from lst.data.shards import INDEX_FILE, load_index, verify_shards
from lst.errors import UserError, raise_problems
from lst.progress import say
from lst.storage import Folder
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer, load_speech_tokenizer
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

UNITS_FILE, TEXT_FILE, VOCABULARY_FILE = "units.safetensors", "text.model", "vocabulary.json"


def artefact_path(folder: Folder, name: str) -> Path:
    """A local file with the content of one of these: itself, or a copy in the cache, kept by its hash.

    Raises:
        UserError: behind a URL, there is no such file.
    """
    try:
        return storage.local_copy(folder / name)
    except FileNotFoundError:
        raise UserError(f"{folder / name} is missing: make it again with lst prepare") from None


def load_units(path: Path, places: Mapping[str, Any] | None = None) -> SpeechTokenizer:
    """The tokenizer of speech, or what stands for one where units were imported; ``places`` as ``unit_places``."""
    return ImportedUnits.load(path) or load_speech_tokenizer(path, **(places or {}))


def check_artefacts(folder: Folder, index: dict[str, Any]) -> None:
    """Raises one error naming each of codebook, tokenizer and vocabulary that is not what the shards were made with."""
    raise_problems(
        f"prepared data in {folder}",
        [problem for problem in _artefact_problems(folder, index).values() if problem],
        "Put the original files back, run lst prepare again with the same settings, or prepare in another run_dir.",
    )


def _artefact_problems(folder: Folder, index: dict[str, Any]) -> dict[str, str]:
    """What is wrong with each artefact's file; an empty text where nothing is."""
    path_of = partial(artefact_path, folder)
    readers: dict[str, tuple[str, Any]] = {
        UNITS_FILE: (index["units_sha256"], lambda: load_units(path_of(UNITS_FILE)).sha256),
        TEXT_FILE: (index["text_sha256"], lambda: TextTokenizer.load(path_of(TEXT_FILE)).sha256),
        VOCABULARY_FILE: (
            index["vocabulary"],
            lambda: Vocabulary.load(path_of(VOCABULARY_FILE)).fingerprint,
        ),
    }
    problems = {}
    for name, (recorded, read_hash) in readers.items():
        try:
            found = read_hash()
            same = found == recorded
            problems[name] = (
                "" if same else f"{name} has hash {found[:12]}…, the shards were made with {recorded[:12]}…"
            )
        except UserError as error:
            problems[name] = str(error)
    return problems


def whole_index(folder: Folder, full: bool) -> dict[str, Any] | None:
    """The index of data that is whole; None where it is not there or damaged, which is said and cleared away.

    Args:
        folder: of the prepared data.
        full: compare the hashes of shards too, not only sizes.

    Raises:
        UserError: the index is of another version.
    """
    path = folder / INDEX_FILE
    if not storage.exists(path):
        return None
    problems: list[str] = []
    try:
        json.loads(storage.read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        say(f"{path} is not JSON ({error}): it is made again")
        storage.remove(path)
        return None
    index = load_index(folder)
    for check in (lambda: check_artefacts(folder, index), lambda: verify_shards(folder, index, full)):
        try:
            check()
        except UserError as error:
            problems.append(str(error))
    if not problems:
        return index
    say("\n".join([*problems, "what is damaged is made again"]))
    # Damaged shards are found by their receipts; the index goes last, so that a stop here loses nothing.
    for name, problem in _artefact_problems(folder, index).items():
        if problem:
            storage.remove(folder / name)
    storage.remove(path)
    return None
