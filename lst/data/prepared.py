"""The files beside the shards that give ids their meaning: codebook, text tokenizer, vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

from lst import storage
from lst.data.corpora import ManifestRow, UnitRow, read_manifest
from lst.data.shards import INDEX_FILE, ShardReader, load_index, verify_shards
from lst.errors import UserError, raise_problems
from lst.progress import say
from lst.storage import (
    Folder,
    Location,
    fingerprint,
    locate,
)
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


LEFT_OUT_FILE, MADE_FROM_FILE = "left_out.jsonl", "made_from.json"


def manifest_rows(folder: Location) -> dict[str, ManifestRow]:
    """The recordings that prepared data was made of, by id; none where it was made of units."""
    try:
        rows, _ = read_lists(storage.locate(folder))
    except (UserError, FileNotFoundError):
        return {}
    return {row.id: row for row in rows if isinstance(row, ManifestRow)}


MANIFEST_FILE, UNIT_ROWS_FILE, TEXTS_FILE = "manifest.jsonl", "unit_rows.jsonl", "texts.jsonl"
SOURCE_FILE = "source.json"

SpokenRow: TypeAlias = ManifestRow | UnitRow


def read_lists(folder: Folder) -> tuple[Sequence[SpokenRow], Sequence[WrittenText]]:
    """The lists of utterances and texts as they were gathered."""
    texts = [WrittenText(**row) for row in storage.read_jsonl(folder / TEXTS_FILE, dict[str, Any])]
    if units := storage.read_jsonl(folder / UNIT_ROWS_FILE, dict[str, Any]):
        return [UnitRow(**row) for row in units], texts
    return read_manifest(storage.local_copy(folder / MANIFEST_FILE)), texts


def list_hashes(folder: Folder) -> dict[str, str]:
    """Hashes of the lists of utterances and texts, so that a cut list is not taken for a whole one."""
    paths = [folder / name for name in (MANIFEST_FILE, UNIT_ROWS_FILE, TEXTS_FILE)]
    return {path.name: storage.sha256(path) for path in paths if storage.exists(path)}


@dataclass(frozen=True)
class WrittenText:
    """A text that is not spoken."""

    id: str
    text: str


class PreparedData:
    """What ``lst prepare`` left, opened for reading and checked for agreement.

    Args:
        folder: of the prepared data.
        verify_hash: compare the hashes of shards as they are read.
        places: where a speech model's weights are now, as ``unit_places``; else where they were.

    Raises:
        UserError: preparing has not finished, a shard is damaged, or codebook, tokenizer and vocabulary are not those
            that the shards were made with.
    """

    def __init__(self, folder: Location, verify_hash: bool = True, places: Mapping[str, Any] | None = None) -> None:
        self.folder, self.verify_hash = locate(folder), verify_hash
        self.index: dict[str, Any] = load_index(self.folder)
        check_artefacts(self.folder, self.index)
        self.tokenizer = TextTokenizer.load(artefact_path(self.folder, TEXT_FILE))
        self.codec = load_units(artefact_path(self.folder, UNITS_FILE), places)
        self.vocabulary = Vocabulary.load(artefact_path(self.folder, VOCABULARY_FILE))

    @cached_property
    def train(self) -> ShardReader:
        return self._reader("train")

    @cached_property
    def valid(self) -> ShardReader:
        return self._reader("valid")

    @cached_property
    def text(self) -> ShardReader:
        return self._reader("text")

    @cached_property
    def manifest(self) -> dict[str, ManifestRow]:
        """The recordings by utterance id: where the audio lies, which shards do not know."""
        return manifest_rows(self.folder)

    def _reader(self, split: str) -> ShardReader:
        return ShardReader(self.folder, split, self.verify_hash, self.index)

    @property
    def fingerprint(self) -> str:
        """Names the content of all shards and what made them."""
        hashes = [receipt["sha256"] for group in self.index["splits"].values() for receipt in group]
        return fingerprint([hashes, self.vocabulary.fingerprint])
