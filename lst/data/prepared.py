"""A prepared folder, opened: its shards, and the files that give ids their meaning: codebook, tokenizer, vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from lst import storage
from lst.data.config import SIMULATED
from lst.data.corpora import ManifestRow, UnitRow, read_manifest
from lst.data.questions import Question
from lst.data.shards import (
    INDEX_FILE,
    SPEECH_SPLIT,
    Index,
    ShardReader,
    SourceRecord,
    entries_of,
    load_index,
    verify_shards,
)
from lst.data.synthesis.simulated import SimulatedRow
from lst.errors import UserError, raise_problems
from lst.progress import say
from lst.storage import Folder, FormatError, Location, OtherVersionError, fingerprint, locate, read_json, read_jsonl
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer, load_speech_tokenizer
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

UNITS_FILE, TEXT_FILE, VOCABULARY_FILE = "units.safetensors", "text.model", "vocabulary.json"
MANIFEST_FILE, UNIT_ROWS_FILE, TEXTS_FILE = "manifest.jsonl", "unit_rows.jsonl", "texts.jsonl"
SIMULATED_ROWS_FILE, QUESTIONS_FILE = "simulated_rows.jsonl", "questions.jsonl"
LIST_FILES = (MANIFEST_FILE, UNIT_ROWS_FILE, SIMULATED_ROWS_FILE, TEXTS_FILE, QUESTIONS_FILE)
# Which rows each shard holds; made with the lists, and hashed with them.
PLAN_FILE = "plan.jsonl"
SOURCE_FILE, MADE_FROM_FILE, LEFT_OUT_FILE = "source.json", "made_from.json", "left_out.jsonl"

RECORD_FILES = (SOURCE_FILE, MADE_FROM_FILE, LEFT_OUT_FILE)
ARTEFACT_FILES = (UNITS_FILE, TEXT_FILE, VOCABULARY_FILE)
CARD_FILES = ("card.html", "card.json")

SIMULATED_SPEECH, RECORDINGS = "simulated speech", "recordings"

SpokenRow: TypeAlias = ManifestRow | UnitRow | SimulatedRow


@dataclass(frozen=True)
class WrittenText:
    """A text that is not spoken."""

    id: str
    text: str


def artefact_path(folder: Folder, name: str) -> Path:
    """A local file with the content of ``folder / name``: itself, or a copy in the cache, kept by its hash.

    Raises:
        UserError: behind a URL, there is no such file.
    """
    try:
        return storage.local_copy(folder / name)
    except FileNotFoundError:
        raise UserError(f"{folder / name} is missing: make it again with lst prepare") from None


def load_units(path: Path, places: Mapping[str, Any] | None = None) -> SpeechTokenizer:
    """The tokenizer of speech, or its stand-in where units were imported; ``places`` as ``unit_places``."""
    return ImportedUnits.load(path) or load_speech_tokenizer(path, **(places or {}))


def check_artefacts(folder: Folder, index: Index) -> None:
    """Raises one error naming each of codebook, tokenizer and vocabulary that is not what the shards were made with."""
    raise_problems(
        f"prepared data in {folder}",
        list(_artefact_problems(folder, index).values()),
        "Put the original files back, run lst prepare again with the same settings, or prepare in another run_dir.",
    )


def _artefact_problems(folder: Folder, index: Index) -> dict[str, str]:
    """What is wrong with the files of codebook, tokenizer and vocabulary, by name of the file."""
    readers = {
        UNITS_FILE: (index["units_sha256"], lambda path: load_units(path).sha256),
        TEXT_FILE: (index["text_sha256"], lambda path: TextTokenizer.load(path).sha256),
        VOCABULARY_FILE: (index["vocabulary"], lambda path: Vocabulary.load(path).fingerprint),
    }
    problems = {}
    for name, (recorded, read_hash) in readers.items():
        try:
            found = read_hash(artefact_path(folder, name))
            if found != recorded:
                problems[name] = f"{name} has hash {found[:12]}…, the shards were made with {recorded[:12]}…"
        except UserError as error:
            problems[name] = str(error)
    return problems


def file_problems(folder: Folder, index: Index, full: bool) -> dict[str, str]:
    """What is wrong with the files whose hashes the index has, by name: lists, records, card, codebook and the like.

    Args:
        folder: of the prepared data.
        index: of it; one of an earlier version has no hashes.
        full: compare hashes, not only whether files are there.
    """
    known = {*LIST_FILES, PLAN_FILE, *RECORD_FILES, *ARTEFACT_FILES, *CARD_FILES}
    problems = {}
    for name, recorded in index.get("files", {}).items():
        if name not in known:
            problems[name] = f"{INDEX_FILE} names the file {name[:60]!r}, which is no file of prepared data"
        elif not storage.exists(folder / name):
            problems[name] = f"{name} is missing"
        elif full and (found := storage.sha256(folder / name)) != recorded:
            problems[name] = f"{name} was altered: its SHA-256 is {found[:12]}…, the index records {recorded[:12]}…"
    return problems


def whole_index(folder: Folder, full: bool) -> Index | None:
    """The index of data that is whole. If it is absent or damaged: None, and what is damaged is named and removed.

    Args:
        folder: of the prepared data.
        full: compare the hashes of shards too, not only sizes.

    Raises:
        UserError: the index is of another version.
    """
    path = folder / INDEX_FILE
    if not storage.exists(path):
        return None
    try:
        index = load_index(folder)
    except OtherVersionError:
        raise
    except FormatError as error:
        say(f"{error}\nit is made again")
        storage.remove(path)
        return None
    lists = file_problems(folder, index, full)
    # A card is made anew by itself.
    damaged = {name: told for name, told in lists.items() if name in (*LIST_FILES, PLAN_FILE, *RECORD_FILES)}
    damaged |= _artefact_problems(folder, index)
    problems = list(damaged.values())
    try:
        verify_shards(folder, entries_of(index), full)
    except UserError as error:
        problems.append(str(error))
    if not problems:
        return index
    say("\n".join([f"prepared data in {folder} is damaged:", *problems, "what is damaged is made again"]))
    # Damaged shards are found by their receipts; the index goes last, so that a stop here loses nothing.
    for name in damaged:
        storage.remove(folder / name)
    storage.remove(path)
    return None


def manifest_rows(folder: Location) -> dict[str, ManifestRow]:
    """The recordings that prepared data was made of, by id; none where it was made of units."""
    try:
        rows, _ = read_lists(locate(folder))
    except (UserError, FileNotFoundError):
        return {}
    return {row.id: row for row in rows if isinstance(row, ManifestRow)}


def is_text_alone(folder: Folder) -> bool:
    """Whether a folder holds prepared data without speech; False where there is none, or where it cannot be told."""
    try:
        return Vocabulary.load(artefact_path(folder, VOCABULARY_FILE)).num_units == 0
    except UserError:
        return False


def check_has_speech(data: PreparedData, command: str) -> None:
    """Raises ``UserError`` where data is text alone, of which a command can tell nothing."""
    if data.is_text_alone:
        raise UserError(
            f"lst {command} tells about speech, and {data.folder} holds text alone: lst eval gives the perplexities of "
            "its models"
        )


def speech_name(index: Index) -> str:
    """What the speech of prepared data is called: ``simulated speech``, ``synthesised speech`` or ``recordings``."""
    if index["aligner"] == SIMULATED:
        return SIMULATED_SPEECH
    return "synthesised speech" if index["is_synthesised"] else RECORDINGS


def read_source(folder: Folder) -> SourceRecord:
    """The record of what was gathered; raises ``UserError`` where it is absent or damaged."""
    return read_json(folder / SOURCE_FILE, SourceRecord, "the source's record", f"Delete {folder / SOURCE_FILE}.")


def read_lists(folder: Folder) -> tuple[Sequence[SpokenRow], Sequence[WrittenText]]:
    """The lists of utterances and texts as they were gathered."""
    texts = read_texts(folder)
    units, simulated = (
        read_jsonl(folder / UNIT_ROWS_FILE, UnitRow),
        read_jsonl(folder / SIMULATED_ROWS_FILE, SimulatedRow),
    )
    if units or simulated:
        return units or simulated, texts
    return read_manifest(storage.local_copy(folder / MANIFEST_FILE)), texts


def read_texts(folder: Folder) -> Sequence[WrittenText]:
    """The list of written texts as they were gathered."""
    return read_jsonl(folder / TEXTS_FILE, WrittenText)


def list_hashes(folder: Folder) -> dict[str, str]:
    """Hashes of the lists of utterances, texts and shards, so that a cut list is not taken for a whole one."""
    paths = [folder / name for name in (*LIST_FILES, PLAN_FILE)]
    return {path.name: storage.sha256(path) for path in paths if storage.exists(path)}


class PreparedData:
    """A folder of ``lst prepare``, opened for reading and checked for agreement.

    Args:
        folder: of the prepared data.
        verify_hash: compare the hashes of shards as they are read.
        places: where a speech model's weights are now, as ``unit_places``; None if they were not moved.

    Raises:
        UserError: preparing has not finished, a shard is damaged, or codebook, tokenizer and vocabulary are not those
            that the shards were made with.

    Attributes:
        index: the content of ``index.json``.
        tokenizer, codec, vocabulary: of text, of speech units, and of both together.
    """

    def __init__(self, folder: Location, verify_hash: bool = True, places: Mapping[str, Any] | None = None) -> None:
        self.folder, self.verify_hash = locate(folder), verify_hash
        self.index = load_index(self.folder)
        check_artefacts(self.folder, self.index)
        self.tokenizer = TextTokenizer.load(artefact_path(self.folder, TEXT_FILE))
        self.codec = load_units(artefact_path(self.folder, UNITS_FILE), places)
        self.vocabulary = Vocabulary.load(artefact_path(self.folder, VOCABULARY_FILE))

    @cached_property
    def train(self) -> ShardReader:
        """The training utterances."""
        return self._reader("train")

    @cached_property
    def valid(self) -> ShardReader:
        """The held-out utterances."""
        return self._reader("valid")

    @cached_property
    def text(self) -> ShardReader:
        """The written texts."""
        return self._reader("text")

    @cached_property
    def speech(self) -> ShardReader:
        """Speech without a transcript, for training; none where the corpus has none, or nothing else."""
        return self._reader(SPEECH_SPLIT)

    @cached_property
    def questions(self) -> list[Question]:
        """The questions about stories; none where the corpus has none."""
        return list(read_jsonl(self.folder / QUESTIONS_FILE, Question))

    @cached_property
    def question_parts(self) -> ShardReader:
        """The contexts and endings of the questions."""
        return self._reader("questions")

    @cached_property
    def manifest(self) -> dict[str, ManifestRow]:
        """The recordings by utterance id, which say where the audio lies."""
        return manifest_rows(self.folder)

    @property
    def is_text_alone(self) -> bool:
        """Whether there is no speech, not even in the vocabulary: ``text`` is for training, ``valid`` held out."""
        return self.vocabulary.num_units == 0

    def train_of(self, source: str) -> ShardReader:
        """The training utterances of one source."""
        return self._reader("train", source)

    def speech_of(self, source: str) -> ShardReader:
        """The speech without a transcript of one source."""
        return self._reader(SPEECH_SPLIT, source)

    def _reader(self, split: str, source: str | None = None) -> ShardReader:
        return ShardReader(self.folder, split, self.verify_hash, self.index, source)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the content of all shards and of the vocabulary."""
        return fingerprint([[entry["sha256"] for entry in entries_of(self.index)], self.vocabulary.fingerprint])
