"""The third stage of preparing: audio to units and aligned words, a shard a task, on any executor."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lst.data.alignment import aligner_name, process_aligner
from lst.data.alignment.outliers import without_outliers
from lst.data.config import DataConfig
from lst.data.corpora import ManifestRow
from lst.data.corpora.on_the_fly import read_row
from lst.data.prepare.failures import Failures
from lst.data.prepare.gathered import Gathered
from lst.data.prepare.lists import AnyRow, read_rows
from lst.data.prepare.shard_plan import PlannedShard
from lst.data.prepare.utterances import make_utterances
from lst.data.prepared import MANIFEST_FILE, UNITS_FILE, WrittenText, artefact_path, load_units
from lst.data.shards import (
    SHARD_FOLDER,
    SPEECH_SPLIT,
    SPLITS,
    LeftOut,
    MadeFrom,
    Receipt,
    finished_receipt,
    write_shard,
)
from lst.data.synthesis.simulated import SimulatedRow, SimulatedSpeech
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.parallel import Done, ExecutorOptions, run_tasks
from lst.progress import Progress
from lst.storage import Folder, fingerprint
from lst.tokenizers.speech import SpeechTokenizer


@dataclass(frozen=True)
class ShardTask:
    """All that one process needs to make one shard.

    Attributes:
        folder: of the prepared data.
        name: of the shard.
        made_from: fingerprint for its receipt.
        rows: what it is made of, in order; or where in the lists it lies, from where the process reads it.
        units_sha256: hash of the codebook in ``folder``.
        frame_rate_hz: units a second.
        data: how words are aligned.
        places: where the weights of a speech model are, as ``unit_places``.
        host: where the task was made.
        simulated: speaks simulated rows.
    """

    folder: Folder
    name: str
    made_from: str
    rows: Sequence[AnyRow] | PlannedShard
    units_sha256: str
    frame_rate_hz: int
    data: DataConfig
    places: dict[str, Any]
    host: str
    simulated: SimulatedSpeech | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_recordings(self) -> bool:
        """Whether there is audio to encode and align."""
        if isinstance(self.rows, PlannedShard):
            return self.rows.rows_file == MANIFEST_FILE
        return any(isinstance(row, ManifestRow) for row in self.rows)


@dataclass
class ShardWork:
    """The result of making shards.

    Attributes:
        receipts: of the shards that are there, by name.
        num_shards: how many there are in all.
        made: how each shard of this run was made.
        failures: of all these shards; with too many of them, the work stopped before its end.
    """

    receipts: dict[str, Receipt]
    num_shards: int
    made: list[Done]
    failures: Failures

    def by_split(self) -> dict[str, list[Receipt]]:
        """The receipts of each split, in order; ``questions`` and ``speech`` are there only with shards."""
        found = {
            split: [self.receipts[name] for name in sorted(self.receipts) if name.rpartition("-")[0] == split]
            for split in SPLITS
        }
        return {
            split: receipts for split, receipts in found.items() if receipts or split not in ("questions", SPEECH_SPLIT)
        }

    def summary(self, seconds: float) -> str:
        """One line: shards, hours, what failed, time."""
        receipts = list(self.receipts.values())
        hours = sum(receipt["duration_s"] for receipt in receipts) / 3600
        busy_s, num_workers = sum(done.seconds for done in self.made), len({done.worker for done in self.made})
        return (
            f"shards: {len(self.made)} made, {len(receipts) - len(self.made)} there before, of {self.num_shards}; "
            f"{hours:,.2f} h of speech; {self.failures.note()}; {seconds:,.1f} s, "
            f"{busy_s:,.1f} s of work by {num_workers} workers"
        )


def plan_shards(
    folder: Folder,
    gathered: Gathered,
    units: SpeechTokenizer,
    made_from: MadeFrom,
    data: DataConfig,
    places: dict[str, Any],
) -> list[ShardTask]:
    """A task for every shard that has rows, done or not."""
    host, facts, units_sha256 = socket.gethostname(), gathered.record.get("simulated"), units.sha256
    simulated = None if facts is None else SimulatedSpeech.of(facts)
    # All beside its own rows that decides a shard's bytes. Other settings choose rows.
    settings = fingerprint(
        {
            "units": units_sha256,
            "tokenizer": made_from["tokenizer"],
            "align": made_from["data"]["align"],
            "align_files": made_from.get("align_files"),
            "simulated": facts,
        }
    )
    return [
        ShardTask(
            folder,
            shard.name,
            fingerprint({"settings": settings, "rows": shard.rows_sha256}),
            shard,
            units_sha256,
            units.frame_rate_hz,
            data,
            places,
            host,
            simulated,
        )
        for shard in gathered.shards
        if len(shard)
    ]


def make_shards(tasks: Sequence[ShardTask], part: tuple[int, int] | None, options: ExecutorOptions) -> ShardWork:
    """Every shard that is not there yet; with ``part`` (i, n) only those whose number leaves i when divided by n.

    Stops where so many utterances fail that the limit cannot be kept: see ``Failures.cannot_keep``.
    """
    receipts: dict[str, Receipt] = {}
    left: list[ShardTask] = []
    for number, task in enumerate(tasks):
        if part is not None and number % part[1] != part[0]:
            continue
        receipt = finished_receipt(task.folder / SHARD_FOLDER, task.name, task.made_from)
        if receipt is None:
            left.append(task)
        else:
            receipts[task.name] = receipt
    num_there = sum(len(task) for task in tasks if task.name in receipts)
    num_spoken = sum(len(task) for task in tasks if not task.name.startswith("text-"))
    max_share = tasks[0].data.max_unaligned_share if tasks else 1.0
    work = ShardWork(receipts, len(tasks), [], Failures(num_spoken, max_share))
    for there in receipts.values():
        work.failures.add_shard(there)
    if encoding := next((task for task in left if task.has_recordings), None):
        # Before any work, so that a missing speech model is reported once, not by every worker.
        _task_codec(encoding)
    total = num_there + sum(map(len, left))
    with (
        Progress(total, "units and alignment", unit="utterance", initial=num_there) as progress,
        contextlib.closing(run_tasks(make_shard, left, options)) as results,
    ):
        for done in results:
            receipts[done.value["name"]] = done.value
            work.made.append(done)
            work.failures.add_shard(done.value)
            num_done = done.value["num_utterances"] + len(done.value["skipped"])
            progress.advance(num_done, work.failures.note())
            if work.failures.cannot_keep():
                break
    return work


def make_shard(task: ShardTask) -> Receipt:
    """Encodes, aligns and writes one shard; returns its receipt. Models stay loaded in the process."""
    _check_reachable(task, [])
    rows = read_rows(task.folder, task.rows) if isinstance(task.rows, PlannedShard) else task.rows
    _check_reachable(task, rows)
    utterances: list[Utterance] = []
    skipped: list[LeftOut] = []
    for row, result in _results(task, rows):
        if isinstance(result, Utterance):
            utterances.append(result)
        else:
            skipped.append({"id": row.id, "reason": str(result)})
    return write_shard(task.folder / SHARD_FOLDER, task.name, utterances, skipped, task.made_from, task.units_sha256)


def _results(task: ShardTask, rows: Sequence[AnyRow]) -> Iterator[tuple[AnyRow, Utterance | Exception]]:
    """Each row with its utterance, or with the error that says why there is none."""
    recordings = [row for row in rows if isinstance(row, ManifestRow)]
    made = _recordings(task, recordings) if recordings else iter(())
    for row in rows:
        if isinstance(row, WrittenText):
            yield row, Utterance(row.id, "", row.text, 0.0, np.zeros(0, np.uint16))
        elif isinstance(row, ManifestRow):
            yield row, next(made)
        elif isinstance(row, SimulatedRow):
            assert task.simulated is not None
            yield row, task.simulated.say(row)
        else:
            try:
                yield row, read_row(row, task.frame_rate_hz)
            except UserError as error:
                yield row, error


def _recordings(task: ShardTask, rows: Sequence[ManifestRow]) -> Iterator[Utterance | Exception]:
    """Recordings, as many together as the aligner takes."""
    codec, aligner = _task_codec(task), process_aligner(task.data.align)
    found: list[Utterance | Exception] = []
    for start in range(0, len(rows), aligner.batch):
        # A StorageError ends the task: the fault is the network's, and the shard is not made without the utterance.
        found += make_utterances(rows[start : start + aligner.batch], codec, aligner)
    yield from without_outliers(found, aligner.scale)


def _check_reachable(task: ShardTask, rows: Sequence[AnyRow]) -> None:
    """Raises ``UserError`` where the task was planned on another machine and this one does not see its files."""
    host = socket.gethostname()
    if host == task.host:
        return
    places = [task.folder / UNITS_FILE, *(row.path for row in rows if isinstance(row, ManifestRow))]
    gone = [place for place in places if isinstance(place, Path) and not place.exists()]
    if gone:
        raise UserError(
            f"{len(gone)} files that {task.host} has are not there on node {host} (the first is {gone[0]}): the corpus "
            "and run_dir (or data_dir) must lie at the same path on every node, on a shared file system or behind a URL"
        )


def _task_codec(task: ShardTask) -> SpeechTokenizer:
    return _codec(task.folder, task.units_sha256, tuple(sorted(task.places.items())))


@lru_cache(maxsize=2)
def _codec(folder: Folder, units_sha256: str, places: tuple[tuple[str, Any], ...]) -> SpeechTokenizer:
    """The tokenizer of speech, loaded once a process. Its hash is part of the key, as a process may serve two runs.

    Raises:
        UserError: it is another, or its model cannot be loaded: no utterance is at fault, and no shard is made.
    """
    units = load_units(artefact_path(folder, UNITS_FILE), dict(places))
    if units.sha256 != units_sha256:
        found, wanted = units.sha256[:12], units_sha256[:12]
        raise UserError(f"{folder / UNITS_FILE} has hash {found}…, the shards are made with {wanted}…")
    units.prepare()
    return units


def origin_of_words(gathered: Gathered, data: DataConfig) -> str:
    """The index's ``aligner``: what placed the words."""
    if "simulated" in gathered.record:
        return "simulated"
    if "texts" in gathered.record:
        return "none (text alone)"
    return "as in the .on_the_fly files" if "num_units" in gathered.record else aligner_name(data.align)
