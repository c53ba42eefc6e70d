"""A benchmark's folder, opened for scoring and checked for agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lst import storage
from lst.configs.benchmark_schema import BENCHMARKS
from lst.data.alignment.words import written_words
from lst.data.corpora import ManifestRow, read_manifest
from lst.data.prepared import MANIFEST_FILE, QUESTIONS_FILE, PreparedData
from lst.data.questions import Question
from lst.data.shards import INDEX_FILE, Index, ShardReader, entries_of, load_index, verify_shards
from lst.data.utterance import Utterance, Word
from lst.errors import UserError, raise_problems
from lst.evaluation.accuracy import HEADLINE, HEADLINE_ALONE, NORMALISATIONS
from lst.evaluation.benchmark.formats import CARD_FILE, CLIPS_FILE, TEXTS_FILE, BenchmarkCard, Clip, Text
from lst.evaluation.items import Item, question_items
from lst.evaluation.results import DIRECTIONS
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
        self.card = read_card(folder)

    @property
    def is_written(self) -> bool:
        """Whether it is text alone."""
        return is_written(self.card)

    @cached_property
    def _index(self) -> Index:
        return load_index(self.folder)

    @cached_property
    def questions(self) -> list[Question]:
        """What is asked, by ids of texts."""
        return list(read_jsonl(self.folder / QUESTIONS_FILE, Question))

    @cached_property
    def texts(self) -> Mapping[str, Text]:
        """Its texts by id."""
        if not self.is_written:
            return self.clips
        return {text["id"]: text for text in read_jsonl(self.folder / TEXTS_FILE, Text)}

    @cached_property
    def clips(self) -> dict[str, Clip]:
        """Its clips by id, faulty ones too; none of a written benchmark."""
        return {} if self.is_written else {clip["id"]: clip for clip in read_jsonl(self.folder / CLIPS_FILE, Clip)}

    @cached_property
    def items(self) -> list[Item]:
        """What is asked, with the units of its speech; raises ``UserError`` where parts of it are missing."""
        parts = {name: _written(text) for name, text in self.texts.items()} if self.is_written else self._spoken()
        if missing := sorted({name for question in self.questions for name in question.utterances} - set(parts)):
            told = f"{len(missing)} utterances of its questions are missing, the first is {missing[0]!r}"
            raise UserError(f"the benchmark in {self.folder} is damaged: {told}. {REMEDY}")
        return question_items(self.questions, parts)

    def _spoken(self) -> dict[str, Utterance]:
        utterances = ShardReader(self.folder, "questions", self._verify_hash, self._index)
        return {utterance.id: utterance for utterance in utterances}

    def question_of(self, item_id: str) -> str:
        """What an item asks, whoever says it: items that differ in the voice alone are one question."""
        return item_id.rpartition("--")[0] if self.card.get("num_voices", 1) > 1 else item_id

    @cached_property
    def manifest(self) -> dict[str, ManifestRow]:
        """Its clips by utterance, which say where the audio lies; none of a written benchmark."""
        return {} if self.is_written else {row.id: row for row in read_manifest(self.folder / MANIFEST_FILE)}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its utterances and of its questions."""
        if self.is_written:
            return fingerprint([self.card["files"][TEXTS_FILE], self.card["files"][QUESTIONS_FILE]])
        return fingerprint([[entry["sha256"] for entry in entries_of(self._index)], self.card["files"][QUESTIONS_FILE]])

    def check_units(self, data: PreparedData) -> None:
        """Raises ``UserError`` unless its units are those of prepared data; text alone has none."""
        if self.is_written:
            return
        own, wanted = self.card["units_sha256"], data.index["units_sha256"]
        if own != wanted:
            raise UserError(
                f"the benchmark in {self.folder} has units of another tokenizer (hash {own[:12]}…) than the data in "
                f"{data.folder} that the models read ({wanted[:12]}…): build it again with run_dir= or data_dir= of "
                "these models"
            )


def _written(text: Text) -> Utterance:
    words = tuple(Word(word, 0, 0, 0.0) for word in written_words(text["spoken"]))
    return Utterance(text["id"], "", text["spoken"], 0.0, np.zeros(0, np.uint16), words)


def is_written(card: BenchmarkCard) -> bool:
    """Whether a benchmark is text alone."""
    return not card["units_sha256"]


def headlines_of(card: BenchmarkCard) -> Mapping[str, str]:
    """The headline score of each direction that a benchmark is scored in."""
    return card.get("headlines", HEADLINE if card["has_context"] else HEADLINE_ALONE)


def open_benchmark(place: str, verify_hash: bool = True) -> Benchmark:
    """Opens a benchmark.

    Args:
        place: its folder.
        verify_hash: compare the hashes of all its files.

    Raises:
        UserError: it is absent, was not built to the end, or is damaged; all damaged files are named.
    """
    folder = Path(storage.expanded(place))
    missing = f"eval.benchmark={place} holds no whole benchmark ({INDEX_FILE}, {CARD_FILE}). {REMEDY}"
    if not (folder / CARD_FILE).exists():
        raise UserError(missing)
    benchmark = Benchmark(folder, verify_hash)
    if not benchmark.is_written and not (folder / INDEX_FILE).exists():
        raise UserError(missing)
    raise_problems(f"the benchmark in {folder}", _damage(folder, benchmark.card) if verify_hash else [], REMEDY)
    if not benchmark.is_written:
        verify_shards(folder, entries_of(load_index(folder)), full=verify_hash)
    return benchmark


def read_card(folder: Path) -> BenchmarkCard:
    """Reads ``benchmark.json``; raises ``UserError`` where it is absent or damaged."""
    card = read_json(folder / CARD_FILE, BenchmarkCard, "the benchmark's card", REMEDY)
    if problems := _card_problems(card):
        raise UserError(f"the benchmark's card is damaged: {folder / CARD_FILE}: {'; '.join(problems)}. {REMEDY}")
    return card


def _card_problems(card: BenchmarkCard) -> list[str]:
    """What no benchmark says of itself: results are named by it, and files of its folder are read by these names."""
    headlines = headlines_of(card)
    named: list[tuple[str, Iterable[str], Sequence[str]]] = [
        ("name", [card["name"]], BENCHMARKS),
        ("headlines", headlines, DIRECTIONS),
        ("their scores", headlines.values(), NORMALISATIONS),
    ]
    found = [] if headlines else ["headlines is empty"]
    found += [
        f"{what} must be of {', '.join(allowed)}, not {value!r:.60}"
        for what, values, allowed in named
        for value in values
        if value not in allowed
    ]
    needed = {QUESTIONS_FILE, TEXTS_FILE} if is_written(card) else {QUESTIONS_FILE, CLIPS_FILE}
    found += [f"files does not name {name}" for name in sorted(needed - set(card["files"]))]
    return found + [
        f"files: {name!r:.200} is no name of a file in it" for name in card["files"] if not _is_inside(name)
    ]


def _is_inside(name: str) -> bool:
    """Whether a name is one of a file in the folder."""
    return bool(name) and "\0" not in name and not storage.leads_out(name)


def is_whole(folder: Path, made_from: str) -> bool:
    """Whether a folder with an index, or with the card of a written benchmark, holds a whole benchmark.

    Raises:
        UserError: it was made from other things.
    """
    try:
        card = read_card(folder)
        if not is_written(card):
            verify_shards(folder, entries_of(load_index(folder)), full=True)
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
        if not is_written(card):
            wanted |= {clip["path"]: clip["sha256"] for clip in read_jsonl(folder / CLIPS_FILE, Clip)}
    except (UserError, FileNotFoundError):
        return [f"{CLIPS_FILE} is missing or damaged"]
    problems = [f"{name!r:.200} is no name of a file in it" for name in wanted if not _is_inside(name)]
    for name, digest in {} if problems else wanted.items():
        path = folder / name
        if not path.exists():
            problems.append(f"{name} is missing")
        elif storage.sha256(path) != digest:
            problems.append(f"{name} was altered")
    return problems
