"""From the rows of a corpus to utterances: rows are checked, and long recordings are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lst.data.alignment import imported_faults
from lst.data.audio.content import AudioHashes, hash_audio
from lst.data.corpora import ManifestProblem, ManifestRow, apply_on_error, check_rows, num_bad_rows
from lst.data.prepare.options import PrepareOptions
from lst.data.prepare.seen import listed_urls
from lst.data.recordings.cut import cut_recordings, is_cut
from lst.data.shards import LeftOut
from lst.progress import say
from lst.storage import FileList

NO_HASHES = AudioHashes.from_table(np.zeros((0, 0), np.uint8))


@dataclass(frozen=True)
class Usable:
    """The utterances of a corpus.

    Attributes:
        rows: without those of the problems.
        problems: one for each row that cannot be used.
        left_out: parts of recordings that are no utterance.
    """

    rows: list[ManifestRow]
    problems: list[ManifestProblem]
    left_out: list[LeftOut]


def usable_rows(
    subject: str,
    rows: Sequence[ManifestRow],
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
        ProblemsError: more rows are faulty than may be left out.
    """
    config, num_workers = options.data, options.num_workers
    num_rows = len(rows) + num_bad_rows(problems)
    good, faults = check_rows(
        rows,
        config.min_duration_s,
        config.max_duration_s,
        problems,
        num_workers,
        lambda row: is_cut(row, config),
    )
    found = [*problems, *faults]
    if found and options.on_error == "raise":
        # Faults of alignments are reported together with those of rows, before work starts.
        found += [
            ManifestProblem(row.place, row.id, fault, row.path, "alignment")
            for row, own in zip(good, imported_faults(config.align, good) or [], strict=False)
            for fault in own
        ]
    apply_on_error(found, num_rows, options.on_error, options.max_skipped_share, subject)
    long = [row for row in good if is_cut(row, config)]
    if not long:
        return Usable(good, found, [])
    if is_plan:
        hours = sum(row.duration_s or 0.0 for row in long) / 3600
        say(
            f"{len(long):,} recordings of {hours:,.2f} h are longer than {config.longest_whole_s:g} s: they are cut at "
            f"pauses into utterances of at most {config.longest_piece_s:g} s"
        )
        return Usable(good, found, [])
    hashes, _ = hash_audio(long, known, listed_urls(files.values()), num_workers)
    by_ref = {row.audio_ref: own.tobytes().hex() for row, own in zip(long, hashes, strict=True)}
    cut = cut_recordings(good, config, by_ref, num_workers)
    found += cut.problems
    apply_on_error(found, num_rows, options.on_error, options.max_skipped_share, subject)
    return Usable(cut.rows, found, cut.left_out)
