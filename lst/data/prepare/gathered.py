"""The first stage of preparing: the lists of a corpus, kept in the folder, and brought up to it when it has changed.

::

    corpus ──gather──▶ rows, texts ──lists──▶ plan.jsonl, manifest.jsonl, texts.jsonl … ──▶ source.json, written last
       └── touched since?  no: the lists stay     yes: read again, compared row by row, written where they differ
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from lst import storage
from lst.data.alignment import given_times
from lst.data.audio import audio_exists
from lst.data.audio.content import AudioHashes
from lst.data.corpora import ManifestRow, UnitRow
from lst.data.corpora.row_table import RowTable
from lst.data.prepare.corpus_list import change_since, earlier_record, with_earlier_list
from lst.data.prepare.gather import gather_source, gather_units
from lst.data.prepare.hashing import HashedRows, hash_audio
from lst.data.prepare.leaks import leaks_text
from lst.data.prepare.lists import Lists, MoreOfRow, arrange, differences, read_plan
from lst.data.prepare.options import Origin, PrepareOptions
from lst.data.prepare.read_corpora import held_out_before, unit_files
from lst.data.prepare.seen import (
    SEEN_FILE,
    listed_files,
    listed_urls,
    outside_audio,
    read_audio_hashes,
    read_seen,
    write_audio_hashes,
)
from lst.data.prepare.shard_plan import PlannedShard
from lst.data.prepare.utterances import check_aligner
from lst.data.prepared import (
    MANIFEST_FILE,
    SOURCE_FILE,
    TEXT_FILE,
    UNITS_FILE,
    SpokenRow,
    WrittenText,
    list_hashes,
    read_lists,
    read_source,
    read_texts,
)
from lst.data.questions import Question
from lst.data.shards import INDEX_FILE, SourceRecord, UnitFacts
from lst.data.shards.formats import Seen
from lst.progress import say
from lst.storage import Folder, fingerprint


@dataclass(frozen=True)
class Gathered:
    """The lists that shards are made of, as they lie in the folder of prepared data.

    Attributes:
        folder: of the prepared data.
        record: the content of ``source.json``.
        shards: which rows each shard holds.
        found: the utterances, where they were just read; else they are read from the lists.
    """

    folder: Folder
    record: SourceRecord
    shards: Sequence[PlannedShard]
    found: Sequence[SpokenRow] | None = None

    @classmethod
    def of(cls, folder: Folder) -> Gathered:
        """Opens the lists of an earlier run; they are read only when they are asked for."""
        return cls(folder, read_source(folder), read_plan(folder))

    @cached_property
    def rows(self) -> Sequence[SpokenRow]:
        """Utterances, as recordings or as units."""
        return read_lists(self.folder)[0] if self.found is None else self.found

    @cached_property
    def texts(self) -> Sequence[WrittenText]:
        """Written texts."""
        return read_texts(self.folder)

    @property
    def num_spoken(self) -> int:
        """Number of utterances."""
        return sum(len(shard) for shard in self.shards if shard.split != "text")

    @property
    def has_recordings(self) -> bool:
        """Whether there is audio to encode and align."""
        return any(len(shard) and shard.rows_file == MANIFEST_FILE for shard in self.shards)


@dataclass(frozen=True)
class Found:
    """A corpus as it is now, arranged into shards, before anything is written.

    Attributes:
        lists: of it.
        record: the content of ``source.json``.
        audio: hashes of its audio, for the next run; None without any.
        seen: the state of its files.
    """

    lists: Lists
    record: SourceRecord
    audio: AudioHashes | None
    seen: Seen


def has_changed(folder: Folder, origin: Origin) -> bool:
    """Whether a file of the corpus, of its texts or of given word times was touched since the lists were made.

    What is gone is no change: data that was made of it stays good. Of data of version 1 nothing was recorded; where its
    files changed, it is refused before.
    """
    seen, source = read_seen(folder), earlier_source(folder)
    if seen is None or source is None:
        return any(origin.files.values()) and source is not None and source.get("version", 1) > 1
    if any(key.startswith("corpus_files.") and key not in origin.files for key in seen["files"]):
        return True  # a corpus that is taken out
    if any(state is not None and seen["files"].get(key) != state for key, state in origin.files.items()):
        return True
    if not seen["outside"]:
        return False
    rows, _ = read_lists(folder)
    there = listed_files(origin.corpus_files.values())
    return not _gone_files(rows, origin) and outside_audio(rows, there) != seen["outside"]


def gather(folder: Folder, options: PrepareOptions, origin: Origin) -> Gathered:
    """Utterances and texts of the corpus; kept in the folder, so that a later run uses the same lists.

    Where a file was touched since, the corpus is read again. What changed of it is said, and what must be made again.

    Args:
        folder: of the prepared data.
        options: what is prepared.
        origin: of these options.
    """
    before = earlier_source(folder)
    is_kept = _is_of_settings(folder, before, origin) and not options.data.refit
    if before is not None and is_kept and before["files"] == list_hashes(folder) and not has_changed(folder, origin):
        kept = Gathered(folder, before, read_plan(folder))
        gone = _gone_files(kept.rows, origin) if _may_be_gone(kept, origin) else []
        if not gone:
            return kept
        say(f"{len(gone)} audio files are gone (the first is {gone[0]}): the corpus is gathered again")
    found = find(folder, options, origin)
    if before is not None and before["files"] != found.lists.hashes and is_kept:
        say("\n".join([*change_since(folder, origin.made_from).lines, *differences(folder, found.lists)]))
    if before != found.record or options.data.refit:
        # It names shards that are made again, and hashes of lists that are written now.
        storage.remove(folder / INDEX_FILE)
    if before is not None and not is_kept:
        # These were fitted with other settings or on other utterances, some of which may now be held out.
        for name in (UNITS_FILE, TEXT_FILE):
            storage.remove(folder / name)
    if before is None or before["files"] != found.lists.hashes or list_hashes(folder) != found.lists.hashes:
        found.lists.write(folder)
    if before != found.record:
        storage.write_json(folder / SOURCE_FILE, found.record)
    if found.audio is not None:
        write_audio_hashes(folder, found.audio)
    storage.write_json(folder / SEEN_FILE, found.seen)
    return Gathered(folder, found.record, found.lists.shards, found.lists.rows)


def planned_changes(folder: Folder, options: PrepareOptions, origin: Origin) -> list[str]:
    """What ``gather`` would say of prepared data whose corpus has changed; empty where nothing would be made again."""
    if not has_changed(folder, origin):
        return []
    found, before = find(folder, options, origin), earlier_source(folder)
    lines = change_since(folder, origin.made_from).lines
    return [] if before == found.record else [*lines, *differences(folder, found.lists)]


def earlier_source(folder: Folder) -> SourceRecord | None:
    """The record of what was gathered before; None where nothing was."""
    return read_source(folder) if storage.exists(folder / SOURCE_FILE) else None


def _is_of_settings(folder: Folder, before: SourceRecord | None, origin: Origin) -> bool:
    """Whether lists were made with these settings, of these corpora or of those that they may follow."""
    if before is None:
        return False
    same = origin.made_from, with_earlier_list(earlier_record(folder), origin.made_from)
    return before["made_from"] in map(fingerprint, same)


def _may_be_gone(kept: Gathered, origin: Origin) -> bool:
    """Whether audio may be gone although no file of the corpus's listing was touched."""
    seen = read_seen(kept.folder)
    corpora = [state for key, state in origin.files.items() if key.startswith("corpus_files.")]
    is_outside = seen is None or bool(seen["outside"]) or None in (corpora or [origin.files.get("corpus_files")])
    return kept.has_recordings and is_outside


def find(folder: Folder, options: PrepareOptions, origin: Origin) -> Found:
    """Reads the corpus as it is now, and checks what the aligner needs of it; writes nothing.

    Held-out utterances and ranges of shards are those of the folder's data, if it is of the same settings. The listing
    of the corpus is let go of, as it is as large as all that is found.
    """
    before, made_from = earlier_source(folder), fingerprint(origin.made_from)
    keeps = _is_of_settings(folder, before, origin) and not options.data.refit
    files = unit_files(options, origin.corpus_files)
    questions: Sequence[Question] = ()
    held_out = held_out_before(before) if before is not None and keeps else {}
    names = dict(change_since(folder, origin.made_from).renamed)
    held_out = {names.get(name, name): rule for name, rule in held_out.items()}
    facts: UnitFacts
    audio = read_audio_hashes(folder)
    if files:
        rows, texts, facts = gather_units(files, options, held_out.get(""))
    else:
        # Lists that were damaged since tell nothing.
        is_whole = before is not None and keeps and before["files"] == list_hashes(folder)
        earlier = read_lists(folder)[0] if is_whole and options.corpus is not None else ()
        known = earlier if isinstance(earlier, RowTable) else ()
        source = gather_source(options, origin.corpus_files, held_out, known, audio)
        audio = audio.joined(source.audio)
        rows, texts, questions, facts = source.rows, source.texts, source.questions, source.facts
    check_aligner(options.data, rows if isinstance(rows, RowTable) else ())
    there, urls = listed_files(origin.corpus_files.values()), listed_urls(origin.corpus_files.values())
    origin.corpus_files.clear()
    hashed = _hashed(rows, options, audio, urls)
    outside = ""
    if options.corpus is not None:
        outside = outside_audio(rows, there, None if hashed is None else hashed.places)
    if hashed is not None and (told := leaks_text(cast(RowTable, rows), hashed)):
        say(told)
    more = _more_of_rows(rows, options, hashed)
    shards = read_plan(folder) if keeps else ()
    lists = arrange(rows, texts, questions, shards, options.data.shard_utterances, more, options.num_workers)
    record: SourceRecord = {"version": 2, "made_from": made_from, "files": lists.hashes, **facts}
    if before is not None and keeps and before.get("was_whole"):
        record["was_whole"] = True
    hashes = None if hashed is None else hashed.table
    return Found(lists, record, hashes, {"version": 1, "files": origin.files, "outside": outside})


def _hashed(
    rows: Sequence[SpokenRow], options: PrepareOptions, known: AudioHashes, listed: Mapping[str, str]
) -> HashedRows | None:
    """The hashes of the audio of recordings; None of speech that is made here, which follows from the settings."""
    if options.corpus is None or not isinstance(rows, RowTable) or not rows:
        return None
    return hash_audio(rows, known, listed, options.num_workers)


def _more_of_rows(rows: Sequence[SpokenRow], options: PrepareOptions, hashed: HashedRows | None) -> MoreOfRow:
    """What beside its own fields decides a row's content: audio, units, and word times that are taken over."""
    if hashed is None:
        is_of_units = options.corpus is not None and len(rows) and isinstance(rows[0], UnitRow)
        return lambda number: {"units_sha256": _sha256_of_line(rows[number])} if is_of_units else {}
    times_of = given_times(options.data.align)

    def more(number: int) -> dict[str, str]:
        found = {"audio_sha256": hashed.of(number).hex()}
        return found if times_of is None else {**found, "given_times": times_of(cast(ManifestRow, rows[number]))}

    return more


def _sha256_of_line(row: SpokenRow) -> str:
    assert isinstance(row, UnitRow)
    return hashlib.sha256(storage.read_range(row.place, row.offset, row.num_bytes)).hexdigest()


def _gone_files(rows: Sequence[SpokenRow], origin: Origin) -> list[str]:
    """Audio files that are no longer there. Those that were listed just now are not looked for again."""
    listed = listed_files(origin.corpus_files.values())
    return sorted(
        {
            row.audio_ref
            for row in rows
            if isinstance(row, ManifestRow)
            and isinstance(row.path, Path)
            and not listed.has(row.path)
            and not audio_exists(row.audio_ref)
        }
    )
