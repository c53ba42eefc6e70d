"""From the rows of a corpus to utterances: rows are checked, long recordings cut, and those without a text heard.

::

    rows ──check_rows──▶ good ones ──cut_recordings──▶ utterances ──transcribe──▶ with a text, where one is wanted
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lst.data.alignment import imported_faults
from lst.data.alignment.known_languages import language_problems
from lst.data.audio.content import AudioHashes
from lst.data.config import DataConfig
from lst.data.corpora import ManifestProblem, ManifestRow, apply_on_error, check_rows, num_bad_rows
from lst.data.corpora.row_table import RowTable
from lst.data.prepare.hashing import hash_audio
from lst.data.prepare.options import PrepareOptions
from lst.data.prepare.seen import listed_urls
from lst.data.prepare.utterances import check_ctc
from lst.data.recordings.cut import cut_recordings, fate_of_long, whole_notes
from lst.data.recordings.transcribe import recogniser_names, transcribe
from lst.data.shards import SPEECH_SPLIT, LeftOut
from lst.errors import raise_problems
from lst.progress import say
from lst.storage import FileList

_WITHOUT_TEXT = (
    "Recordings without a transcript become speech alone with data.transcribe=none, and get a text by a recogniser "
    "with data.transcribe=pocketsphinx (or faster-whisper)."
)
NO_HASHES = AudioHashes.from_table(np.zeros((0, 0), np.uint8))


@dataclass(frozen=True)
class Usable:
    """The utterances of a corpus.

    Attributes:
        problems: one for each row that cannot be used.
        rows: without those of the problems.
        left_out: parts of recordings that are no utterance.
        audio: hashes of the recordings that were listened to.
    """

    problems: list[ManifestProblem]
    rows: RowTable
    left_out: list[LeftOut]
    audio: AudioHashes = NO_HASHES


def usable_rows(
    subject: str,
    rows: RowTable,
    problems: Sequence[ManifestProblem],
    options: PrepareOptions,
    files: Mapping[str, FileList],
    known: AudioHashes,
    is_plan: bool,
) -> Usable:
    """Checks rows, and cuts those that are too long for an utterance.

    Args:
        subject: the corpus, for messages.
        rows: as they were read.
        problems: of rows that could not be read.
        options: of preparing.
        files: of each corpus by its name.
        known: hashes of its audio, from an earlier run.
        is_plan: nothing is listened to: long recordings stay whole, and it is said that they would be cut.

    Raises:
        ProblemsError: more rows are faulty than may be left out, or the aligner does not know a language.
    """
    config = options.data
    good, found = _checked(rows, problems, options)
    allowed = (len(rows) + num_bad_rows(problems), options.on_error, options.max_skipped_share, subject)
    needs_text = config.transcribe is None
    apply_on_error(found, *allowed, hint=_WITHOUT_TEXT if needs_text and any(map(_lacks_text, found)) else "")
    if good.facts.languages - {""}:
        languages = Counter(row.language for row in good if row.language and row.text.strip())
        unknown = language_problems(config.align, languages, len(good))
        raise_problems(f"data.align.method={config.align.method}", unknown)
    long, heard = _to_listen_to(good, config)
    if is_plan and long:
        hours = sum(row.duration_s or 0.0 for row in long) / 3600
        say(
            f"{len(long):,} recordings of {hours:,.2f} h are longer than {config.longest_whole_s:g} s: they are cut at "
            f"pauses into utterances of at most {config.longest_piece_s:g} s"
        )
    if is_plan or not (long or heard):
        return Usable(found, *_apart(good, ()))
    # Before anything is listened to: these tell what is missing.
    if config.align.method == "ctc" and (with_text := [row for row in long if row.text.strip()]):
        check_ctc(config.align, with_text)
    if heard:
        recogniser_names(heard, config)
    listened = RowTable({_file_of(row): row for row in [*long, *heard]}.values())
    hashes = hash_audio(listened, known, listed_urls(files.values()), options.num_workers)
    by_file = {_file_of(row): hashes.of(number).hex() for number, row in enumerate(listened)}
    left_out: list[LeftOut] = []
    if long:
        cut = cut_recordings(good, config, by_file, options.num_workers)
        good, left_out = cut.rows, cut.left_out
        found += cut.problems
        apply_on_error(found, *allowed)
    if heard:
        transcribed = transcribe(good, config, by_file, options.num_workers)
        good = transcribed.rows
        left_out += transcribed.left_out
    return Usable(found, *_apart(good, left_out), hashes.table)


def _to_listen_to(good: RowTable, config: DataConfig) -> tuple[list[ManifestRow], list[ManifestRow]]:
    """Recordings that are cut, and those that are transcribed; says why others as long as the first stay whole."""
    whole: Counter[str] = Counter()
    long, heard = list[ManifestRow](), list[ManifestRow]()
    if good.facts.longest_s <= config.longest_whole_s and not (config.is_heard and False in good.facts.have_text):
        return long, heard
    for row in good:
        fate = fate_of_long(row, config)
        whole.update([fate.why_whole] * bool(fate.why_whole))
        if fate.is_cut:
            long.append(row)
        if config.is_heard and not row.text.strip():
            heard.append(row)
    for note in whole_notes(whole):
        say(note)
    return long, heard


def _checked(
    rows: RowTable, problems: Sequence[ManifestProblem], options: PrepareOptions
) -> tuple[RowTable, list[ManifestProblem]]:
    """The good rows, and all problems."""
    config = options.data
    good, faults = check_rows(
        rows,
        config.min_duration_s,
        config.max_duration_s,
        problems,
        options.num_workers,
        partial(fate_of_long, config=config),
        config.transcribe is None,
    )
    found = [*problems, *faults]
    if found and good and options.on_error == "raise":
        # Faults of alignments are reported together with those of rows, before work starts.
        found += [
            ManifestProblem(row.place, row.id, fault, row.path, "alignment")
            for row, own in zip(good, imported_faults(config.align, good) or [], strict=False)
            for fault in own
        ]
    return good, found


def _file_of(row: ManifestRow) -> str:
    return f"{row.path}\0{row.member}"


def _lacks_text(problem: ManifestProblem) -> bool:
    return problem.kind == "missing transcript" or "transcript is empty" in problem.message


def _apart(rows: RowTable, left_out: Sequence[LeftOut]) -> tuple[RowTable, list[LeftOut]]:
    """Speech without a text is a split of its own, for training, beside utterances with one. Alone, it stays as it is.

    Recordings without a text that the corpus holds out are left out then: they can be neither trained on nor evaluated.
    """
    if rows.facts.have_text != {True, False}:
        return rows, list(left_out)
    held_out = [row for row in rows if not row.text.strip() and row.split == "valid"]
    kept = RowTable(
        row if row.text.strip() else replace(row, split=SPEECH_SPLIT)
        for row in rows
        if row.text.strip() or row.split != "valid"
    )
    lost: list[LeftOut] = [
        {"id": row.id, "reason": f"{row.id}: is held out by the corpus and has no transcript"} for row in held_out
    ]
    return kept, [*left_out, *lost]
