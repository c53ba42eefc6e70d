"""Text alone: from files of text to shards of tokenised documents, without holding more than a few shards in memory.

::

    files ──gather_texts (one pass: faults, counts, what is held out)──▶ source.json
    files ──training_lines──▶ the text tokenizer
    files ──make_text_shards──▶ documents, a shard a task: tokenised in worker processes, written with receipts

Which documents a shard holds follows from the files and the options alone. So its bytes depend neither on the number of
workers nor on where an earlier run stopped, and shards that are there are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lst import storage
from lst.data.corpora import ManifestProblem, apply_on_error
from lst.data.corpora.text_files import TextFiles, read_texts
from lst.data.prepare.failures import Failures
from lst.data.prepare.gathered import Gathered, earlier_source
from lst.data.prepare.options import Origin, PrepareOptions
from lst.data.prepare.seen import SEEN_FILE
from lst.data.prepare.shard_tasks import ShardWork
from lst.data.prepared import SOURCE_FILE, TEXT_FILE, UNITS_FILE, WrittenText, artefact_path
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    Receipt,
    SourceRecord,
    TextFacts,
    finished_receipt,
    shard_name,
    write_shard,
)
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.parallel import ordered_map, run_tasks
from lst.progress import Progress, say
from lst.storage import Folder, fingerprint
from lst.tokenizers.text import TextTokenizer

# Tasks that are handed to a cluster together.
TASKS_AT_ONCE = 64
# Measured: the text with its ids as JSON, and the headers of a document in a tar.
DISK_A_TEXT_BYTE, DISK_A_DOCUMENT = 3, 2_560
# Longer lines are cut for the training of the tokenizer, whose memory grows with them.
MAX_LINE_CHARACTERS = 4_096
_NO_UNITS = np.zeros(0, np.uint16)
_HELD_OUT_STREAM = "held out"


class Text(NamedTuple):
    """A document, or a part of a long one, with its split: ``text`` for training, ``valid`` where it is held out."""

    id: str
    text: str
    split: str


@dataclass(frozen=True)
class TextTask:
    """What one process needs to make a shard.

    Attributes:
        folder: of the prepared data.
        name: of the shard.
        made_from: fingerprint for its receipt.
        texts: its documents.
        tokenizer_sha256: of the tokenizer in ``folder``.
        units_sha256: of the empty codebook there.
    """

    folder: Folder
    name: str
    made_from: str
    texts: Sequence[WrittenText]
    tokenizer_sha256: str
    units_sha256: str

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class TextWork(ShardWork):
    """The result of making shards of text."""

    num_made: int = 0

    def summary(self, seconds: float) -> str:
        """One line: shards, documents, tokens, time."""
        receipts = list(self.receipts.values())
        documents = sum(receipt["num_utterances"] for receipt in receipts)
        tokens = sum(receipt.get("num_pieces", 0) for receipt in receipts)
        return (
            f"shards: {self.num_made} made, {len(receipts) - self.num_made} there before; {documents:,} documents, "
            f"{tokens:,} tokens; {seconds:,.1f} s"
        )


def gather_texts(folder: Folder, options: PrepareOptions, origin: Origin) -> Gathered:
    """Reads all files once: finds every fault, counts documents, and decides which are held out.

    Nothing is kept of the texts but the record ``source.json``, which a later run with equal files takes.

    Raises:
        UserError: nothing is there, documents are faulty, or there are fewer than two.
    """
    made_from, before = fingerprint(origin.made_from), earlier_source(folder)
    storage.write_json(folder / SEEN_FILE, {"version": 1, "files": origin.files, "outside": ""})
    is_kept = before is not None and before["made_from"] == made_from and "texts" in before
    if before is not None and is_kept and not options.data.refit:
        return Gathered(folder, before, ())
    files = named_texts(origin, options)
    scanned = _scan(files, options)
    subject = f"text {options.text}"
    num_documents = scanned.facts["num_documents"]
    apply_on_error(
        scanned.problems, num_documents + len(scanned.problems), options.on_error, options.max_skipped_share, subject
    )
    if not 0 < scanned.facts["num_held_out"] < num_documents:
        rule = "files named valid, dev or test" if files.says_what_is_held_out else "data.text.valid_share"
        raise UserError(
            f"text={options.text} has {num_documents} documents, of which {rule} holds out "
            f"{scanned.facts['num_held_out']}: one or more must be held out, and one or more stay for training. Give "
            "more text, or other documents by data.text.document"
        )
    if isinstance(folder, Path):
        needed_bytes = DISK_A_TEXT_BYTE * scanned.facts["num_bytes"] + DISK_A_DOCUMENT * num_documents
        storage.check_free_space(folder, needed_bytes, "preparing")
    if files.others:
        say(
            f"{len(files.others)} files of {options.text} are no text and are not read (the first is {files.others[0]})"
        )
    record: SourceRecord = {
        "version": 2,
        "made_from": made_from,
        "files": {},
        "description": _description(str(options.text), files),
        "is_synthesised": False,
        "left_out": [{"id": one.place, "reason": str(one)} for one in scanned.problems],
        "num_units": 0,
        "texts": scanned.facts,
    }
    # These were fitted to other texts, or are to be fitted again.
    for name in (INDEX_FILE, UNITS_FILE, TEXT_FILE):
        storage.remove(folder / name)
    storage.write_json(folder / SOURCE_FILE, record)
    return Gathered(folder, record, ())


def _description(text: str, files: TextFiles) -> str:
    count = len(files.files)
    return f"text in {storage.locate(text).name} ({count} file{'s' * (count != 1)})"


@dataclass
class _Scanned:
    problems: list[ManifestProblem] = field(default_factory=list)
    facts: TextFacts = field(
        default_factory=lambda: TextFacts(num_documents=0, num_held_out=0, num_bytes=0, held_out_below=0)
    )


def _scan(files: TextFiles, options: PrepareOptions) -> _Scanned:
    """One pass over all files. If the share would hold out no document, the one with the lowest draw is."""
    found, lowest, by_file = _Scanned(), 1 << 64, files.says_what_is_held_out
    facts = found.facts
    facts["held_out_below"] = 0 if by_file else round(options.data.text.valid_share * (1 << 64))
    with Progress(None, "looking through the text", unit="document") as progress:
        for file in files.files:
            for part in read_texts(file, options.data.text):
                if part.fault:
                    found.problems.append(ManifestProblem(part.place, "", part.fault))
                    continue
                facts["num_bytes"] += len(part.text.encode())
                if part.is_rest:
                    continue
                draw = 0 if by_file else _draw(part.text, options.seed)
                lowest = min(lowest, draw)
                facts["num_documents"] += 1
                facts["num_held_out"] += file.is_held_out if by_file else draw < facts["held_out_below"]
                progress.advance()
    if not by_file and not facts["num_held_out"] and facts["num_documents"] > 1:
        facts["num_held_out"], facts["held_out_below"] = 1, lowest + 1
    return found


def _draw(text: str, seed: int) -> int:
    """A number from 0 to 2⁶⁴ − 1 that decides whether a document is held out: equal texts have equal numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{_HELD_OUT_STREAM}:{text}".encode()).digest()[:8], "big")


def named_texts(origin: Origin, options: PrepareOptions) -> TextFiles:
    """The files of ``text=``; raises ``UserError`` where there is none."""
    files = origin.text_files
    if files is None or not files.files:
        raise UserError(f"text={options.text} does not exist: name a file, a folder, names with *, or a URL")
    return files


def texts_of(files: TextFiles, options: PrepareOptions, facts: TextFacts) -> Iterator[Text]:
    """All documents in order, without those that have faults."""
    number, part_number, split = -1, 0, "text"
    for file in files.files:
        for part in read_texts(file, options.data.text):
            if part.fault:
                continue
            part_number += 1
            if not part.is_rest:
                number, part_number = number + 1, 0
                below = facts["held_out_below"]
                is_held_out = _draw(part.text, options.seed) < below if below else file.is_held_out
                split = "valid" if is_held_out else "text"
            yield Text(f"text-{number:09d}-{part_number:04d}", part.text, split)


def training_lines(origin: Origin, options: PrepareOptions, facts: TextFacts) -> Iterator[str]:
    """The lines of the training documents, for the tokenizer."""
    for text in texts_of(named_texts(origin, options), options, facts):
        if text.split == "text":
            for line in text.text.split("\n"):
                for start in range(0, len(line), MAX_LINE_CHARACTERS):
                    yield line[start : start + MAX_LINE_CHARACTERS]


def make_text_shards(
    folder: Folder,
    gathered: Gathered,
    origin: Origin,
    options: PrepareOptions,
    tokenizer: TextTokenizer,
    units_sha256: str,
) -> TextWork:
    """Every shard that is not there yet; with ``part`` (i, n) only those whose number leaves i when divided by n."""
    facts, part = gathered.record["texts"], options.parsed_part()
    made_from = fingerprint({**origin.made_from, "text_model": tokenizer.sha256, "texts": facts})
    work = TextWork({}, 0, [], Failures(0, 1.0))
    total = facts["num_documents"]
    with Progress(total, "tokenising", unit="document") as progress:

        def left() -> Iterator[TextTask]:
            """The tasks that are not done; the receipts of the others are noted."""
            tasks = _tasks(texts_of(named_texts(origin, options), options, facts), options)
            for number, (name, texts) in enumerate(tasks):
                work.num_shards += 1
                if part is not None and number % part[1] != part[0]:
                    continue
                receipt = finished_receipt(folder / SHARD_FOLDER, name, made_from)
                if receipt is None:
                    yield TextTask(folder, name, made_from, texts, tokenizer.sha256, units_sha256)
                else:
                    work.receipts[name] = receipt
                    progress.advance(_num_documents(texts))

        for name, num_documents, receipt in _made(left(), options):
            work.receipts[name] = receipt
            work.num_made += 1
            progress.advance(num_documents)
    return work


def _tasks(texts: Iterator[Text], options: PrepareOptions) -> Iterator[tuple[str, list[WrittenText]]]:
    """Names and documents of the shards, in order of their last document."""
    waiting: dict[str, list[WrittenText]] = {"text": [], "valid": []}
    num_bytes, numbers = dict.fromkeys(waiting, 0), dict.fromkeys(waiting, 0)
    for text in texts:
        waiting[text.split].append(WrittenText(text.id, text.text))
        num_bytes[text.split] += len(text.text.encode())
        if num_bytes[text.split] >= options.data.text.shard_bytes:
            yield shard_name(text.split, numbers[text.split]), waiting[text.split]
            waiting[text.split], num_bytes[text.split] = [], 0
            numbers[text.split] += 1
    for split, own in waiting.items():
        if own:
            yield shard_name(split, numbers[split]), own


def _made(tasks: Iterator[TextTask], options: PrepareOptions) -> Iterator[tuple[str, int, Receipt]]:
    """Makes shards: in processes here, in order and a few at a time, or on a cluster."""
    if options.executor == "local":
        yield from ordered_map(make_text_shard, tasks, options.num_workers)
        return
    while some := list(islice(tasks, TASKS_AT_ONCE)):
        yield from (done.value for done in run_tasks(make_text_shard, some, options.executor_options()))


def make_text_shard(task: TextTask) -> tuple[str, int, Receipt]:
    """Tokenises and writes one shard; returns its name, its number of documents and its receipt."""
    tokenizer = _tokenizer(task.folder, task.tokenizer_sha256)
    utterances = [
        Utterance(one.id, "", one.text, 0.0, _NO_UNITS, pieces=np.array(tokenizer.encode(one.text), np.int32))
        for one in task.texts
    ]
    receipt = write_shard(task.folder / SHARD_FOLDER, task.name, utterances, [], task.made_from, task.units_sha256)
    return task.name, _num_documents(task.texts), receipt


def _num_documents(texts: Sequence[WrittenText]) -> int:
    """Documents that begin here; parts of long ones end in other numbers."""
    return sum(one.id.endswith("-0000") for one in texts)


@lru_cache(maxsize=2)
def _tokenizer(folder: Folder, sha256: str) -> TextTokenizer:
    """The tokenizer, loaded once a process; its hash is part of the key, as a process may serve two runs."""
    found = TextTokenizer.load(artefact_path(folder, TEXT_FILE))
    if found.sha256 != sha256:
        raise UserError(f"{folder / TEXT_FILE} has hash {found.sha256[:12]}…, the shards are made with {sha256[:12]}…")
    return found
