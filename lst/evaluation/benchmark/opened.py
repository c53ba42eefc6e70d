"""A benchmark's folder, opened for scoring and checked for agreement."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from lst import storage
from lst.data.corpora import ManifestRow, read_manifest
from lst.data.prepared import MANIFEST_FILE, QUESTIONS_FILE, PreparedData
from lst.data.questions import Question
from lst.data.shards import INDEX_FILE, ShardReader, entries_of, load_index, verify_shards
from lst.errors import UserError, raise_problems
from lst.evaluation.benchmark.formats import CARD_FILE, CLIPS_FILE, BenchmarkCard, Clip
from lst.evaluation.items import Item, question_items
from lst.storage import fingerprint, read_json, read_jsonl

REMEDY = "Build it again with lst benchmark build."


class Benchmark:
    """A whole benchmark; ``open_benchmark`` opens it.

    Attributes:
        folder: where it lies.
        card: the content of ``benchmark.json``.
    """

    def __init__(self, folder: Path, verify_hash: bool = True) -> None:
        self.folder, self._verify_hash = folder, verify_hash
        self._index = load_index(folder)
        self.card = read_card(folder)

    @cached_property
    def items(self) -> list[Item]:
        """What is asked."""
        questions = list(read_jsonl(self.folder / QUESTIONS_FILE, Question))
        utterances = ShardReader(self.folder, "questions", self._verify_hash, self._index)
        return question_items(questions, {utterance.id: utterance for utterance in utterances})

    @cached_property
    def manifest(self) -> dict[str, ManifestRow]:
        """Its clips by utterance, which say where the audio lies."""
        return {row.id: row for row in read_manifest(self.folder / MANIFEST_FILE)}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its utterances and of its questions."""
        return fingerprint([[entry["sha256"] for entry in entries_of(self._index)], self.card["files"][QUESTIONS_FILE]])

    def check_units(self, data: PreparedData) -> None:
        """Raises ``UserError`` unless its units are those of prepared data."""
        own, wanted = self.card["units_sha256"], data.index["units_sha256"]
        if own != wanted:
            raise UserError(
                f"the benchmark in {self.folder} has units of another tokenizer (hash {own[:12]}…) than the data in "
                f"{data.folder} that the models read ({wanted[:12]}…): build it again with run_dir= or data_dir= of "
                "these models"
            )


def open_benchmark(place: str, verify_hash: bool = True) -> Benchmark:
    """Opens a benchmark.

    Args:
        place: its folder.
        verify_hash: compare the hashes of all its files.

    Raises:
        UserError: it is absent, was not built to the end, or is damaged; all damaged files are named.
    """
    folder = Path(storage.expanded(place))
    if not (folder / INDEX_FILE).exists() or not (folder / CARD_FILE).exists():
        raise UserError(f"eval.benchmark={place} holds no whole benchmark ({INDEX_FILE}, {CARD_FILE}). {REMEDY}")
    benchmark = Benchmark(folder, verify_hash)
    raise_problems(f"the benchmark in {folder}", _damage(folder, benchmark.card) if verify_hash else [], REMEDY)
    return benchmark


def read_card(folder: Path) -> BenchmarkCard:
    """Reads ``benchmark.json``; raises ``UserError`` where it is absent or damaged."""
    return read_json(folder / CARD_FILE, BenchmarkCard, "the benchmark's card", REMEDY)


def is_whole(folder: Path, made_from: str) -> bool:
    """Whether a folder with an index holds a whole benchmark.

    Raises:
        UserError: it was made from other things.
    """
    try:
        card = read_card(folder)
        index = load_index(folder)
        verify_shards(folder, entries_of(index), full=True)
    except UserError:
        return False
    if card["made_from"] != made_from:
        raise UserError(
            f"{folder} holds the benchmark {card['name']} of {card['items_file']}, made from other items, voices, "
            "units or settings: choose another out=FOLDER, or delete it"
        )
    return not _damage(folder, card)


def _damage(folder: Path, card: BenchmarkCard) -> list[str]:
    """A line for each file that is missing or altered, audio included."""
    wanted = dict(card["files"])
    try:
        wanted |= {clip["path"]: clip["sha256"] for clip in read_jsonl(folder / CLIPS_FILE, Clip)}
    except (UserError, FileNotFoundError):
        return [f"{CLIPS_FILE} is missing or damaged"]
    problems = []
    for name, digest in wanted.items():
        path = folder / name
        if not path.exists():
            problems.append(f"{name} is missing")
        elif storage.sha256(path) != digest:
            problems.append(f"{name} was altered")
    return problems
