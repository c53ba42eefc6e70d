"""The first stage of preparing: which utterances and texts there are, kept in the folder for every later run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from lst import storage
from lst.data.artefacts import TEXT_FILE, UNITS_FILE
from lst.data.audio import audio_exists
from lst.data.corpora import assign_splits
from lst.data.manifest import (
    ManifestRow,
    read_manifest,
    split_of,
    write_manifest,
)
from lst.data.on_the_fly import UnitRow, check_on_the_fly, on_the_fly_files
from lst.data.prepare_options import PrepareOptions
from lst.data.row_checks import apply_on_error, num_bad_rows
from lst.data.sources import WrittenText, gather_source, texts_beside
from lst.errors import UserError
from lst.progress import say
from lst.storage import Folder, Location, fingerprint

MANIFEST_FILE, UNIT_ROWS_FILE, TEXTS_FILE = "manifest.jsonl", "unit_rows.jsonl", "texts.jsonl"
SOURCE_FILE = "source.json"

SpokenRow: TypeAlias = ManifestRow | UnitRow


@dataclass(frozen=True)
class Gathered:
    """What is prepared.

    Attributes:
        rows: utterances, as recordings or as units.
        texts: written texts.
        record: what ``source.json`` holds of them.
    """

    rows: Sequence[SpokenRow]
    texts: Sequence[WrittenText]
    record: dict[str, Any]


def gather(folder: Folder, options: PrepareOptions) -> Gathered:
    """The source, kept in the folder so that a second run uses the same list."""
    marker = folder / SOURCE_FILE
    made_from = fingerprint(options.made_from())
    fitted_with = fingerprint([asdict(options.tokenizer), options.tokenizer_files(), options.seed])
    before = storage.read_json(marker, "the source's record", f"Delete {marker}.") if storage.exists(marker) else {}
    if before.get("made_from") == made_from and before.get("files") == list_hashes(folder):
        kept = Gathered(*read_lists(folder), before)
        refs = {row.audio_ref for row in kept.rows if isinstance(row, ManifestRow) and isinstance(row.path, Path)}
        gone = sorted(ref for ref in refs if not audio_exists(ref))
        if not gone:
            return kept
        say(f"{len(gone)} audio files are gone (the first is {gone[0]}): the corpus is gathered again")
    if files := on_the_fly_files(options.corpus):
        rows, texts, about = _gather_units(files, options)
    else:
        rows, texts, about = _gather_audio(options)
    _write_lists(folder, rows, texts)
    record = {"made_from": made_from, "fitted_with": fitted_with, "files": list_hashes(folder), **about}
    if any(record[key] != before.get(key) for key in ("files", "fitted_with")):
        # Fitted with other settings, or on other utterances, perhaps on ones that are now held out.
        for name in (UNITS_FILE, TEXT_FILE):
            storage.remove(folder / name)
    storage.write_json(marker, record)
    return Gathered(rows, texts, record)


def _write_lists(folder: Folder, rows: Sequence[SpokenRow], texts: Sequence[WrittenText]) -> None:
    audio = [row for row in rows if isinstance(row, ManifestRow)]
    units = [row for row in rows if isinstance(row, UnitRow)]
    # One of the two, none of another corpus.
    storage.remove(folder / (MANIFEST_FILE if units else UNIT_ROWS_FILE))
    if units:
        storage.write_jsonl(folder / UNIT_ROWS_FILE, [row.to_json() for row in units])
    else:
        storage.save_with(folder / MANIFEST_FILE, lambda path: write_manifest(path, audio))
    storage.write_jsonl(folder / TEXTS_FILE, [asdict(text) for text in texts])


def read_lists(folder: Folder) -> tuple[Sequence[SpokenRow], Sequence[WrittenText]]:
    """The lists of utterances and texts as they were gathered."""
    texts = [WrittenText(**row) for row in storage.read_jsonl(folder / TEXTS_FILE)]
    if units := storage.read_jsonl(folder / UNIT_ROWS_FILE):
        return [UnitRow(**row) for row in units], texts
    return read_manifest(storage.local_copy(folder / MANIFEST_FILE)), texts


def list_hashes(folder: Folder) -> dict[str, str]:
    """Hashes of the lists of utterances and texts, so that a cut list is not taken for a whole one."""
    paths = [folder / name for name in (MANIFEST_FILE, UNIT_ROWS_FILE, TEXTS_FILE)]
    return {path.name: storage.sha256(path) for path in paths if storage.exists(path)}


def _gather_audio(options: PrepareOptions) -> tuple[Sequence[SpokenRow], Sequence[WrittenText], dict[str, Any]]:
    source = gather_source(
        options.corpus, options.text, options.data, options.seed, options.on_error, options.max_skipped_share,
        options.num_workers, options.layout,
    )  # fmt: skip
    about = {
        "description": source.description,
        "is_synthesised": source.is_synthesised,
        "left_out": [{"id": problem.id or problem.place, "reason": str(problem)} for problem in source.problems],
    }
    return source.rows, source.texts, about


def _gather_units(
    files: Sequence[Location], options: PrepareOptions
) -> tuple[Sequence[SpokenRow], Sequence[WrittenText], dict[str, Any]]:
    """Utterances of ``.on_the_fly`` files; one whose name begins with a split's (``train…``, ``dev…``) is of it."""
    data = options.data
    rows, problems, num_lines = check_on_the_fly(
        files, options.tokenizer.frame_rate_hz, data.min_duration_s, data.max_duration_s, data.on_the_fly_units
    )
    num_rows = num_lines if not problems else len(rows) + num_bad_rows(problems)
    apply_on_error(problems, num_rows, options.on_error, options.max_skipped_share, f"corpus {options.corpus}")
    if len(rows) < 2:
        raise UserError(
            f"corpus {options.corpus} has {len(rows)} usable utterance{'s' * (len(rows) != 1)}: two are needed, one is "
            "held out"
        )
    stems = {str(file): storage.locate(file).name.partition(".")[0] for file in files}
    named = [ManifestRow(row.id, Path(row.place), row.text, split=split_of(stems[row.place]) or "") for row in rows]
    splits = [row.split for row in assign_splits(named, data.valid_share, options.seed)]
    rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    texts, found = texts_beside(options.text, [row.text for row in rows if row.split == "valid"])
    about = {
        "description": f"speech units in {Path(str(options.corpus)).name} ({len(files)} .on_the_fly files)",
        "is_synthesised": False,
        "left_out": [{"id": p.id or p.place, "reason": str(p)} for p in [*problems, *found]],
        "num_units": data.on_the_fly_units or 1 + max(row.max_unit for row in rows),
    }
    return rows, texts, about
