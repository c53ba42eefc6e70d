"""Hugging Face AudioFolder: ``metadata.jsonl`` or ``metadata.csv`` with ``file_name`` and a text, at the top or in
folders.

::

    train/metadata.jsonl    {"file_name": "u01.flac", "transcription": "…"}
    train/u01.flac
    test/metadata.csv       file_name,transcription

Paths start from the folder of the table. The first folder of the audio named train…, dev…, validation… or test… is the
split, else the last such folder of the table, unless the table has a column for it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import parse_manifest, split_of
from lst.data.corpora.records import first_json_object, first_line, separator_of
from lst.data.corpora.rows import ManifestRow

TABLES = ("metadata.jsonl", "metadata.csv")
COLUMN = "file_name"


def _find(listing: Listing) -> list[Path]:
    files = [listing.file] if listing.file is not None else listing.files
    return [file for file in files if file.name.lower() in TABLES and _names_files(file)]


def _names_files(table: Path) -> bool:
    if table.suffix.lower() == ".jsonl":
        return COLUMN in first_json_object(table)
    return COLUMN in [cell.strip().strip('"').lower() for cell in first_line(table).split(separator_of(table))]


def _split_of_audio(root: Path, row: ManifestRow) -> str:
    folders = Path(os.path.relpath(Path(row.path).parent, root.absolute())).parts
    return next(filter(None, map(split_of, folders)), "")


def _has_split_folders(listing: Listing) -> bool:
    return any(
        split_of(file.relative_to(listing.root).parts[0]) for file in listing.files if file.parent != listing.root
    )


def _read(listing: Listing, tables: list[Path], found: Found) -> None:
    for table in tables:
        rows, problems = parse_manifest(table, needs_text=listing.needs_text, num_workers=listing.num_workers)
        split, folder = split_in_path(listing.root, table), listing.relative(table)
        for row in rows:
            own = row.split or _split_of_audio(listing.root, row) or split
            found.rows.append(replace(row, split=own, place=f"{folder} {row.place}"))
        found.problems += [
            replace(
                problem,
                place=f"{folder} {problem.place}",
                row=problem.row and replace(problem.row, place=f"{folder} {problem.row.place}"),
            )
            for problem in problems
        ]
    if listing.file is None:
        found.add_unused(listing.root, listing.files, f"no {' or '.join(TABLES)} names it")


LAYOUT = Layout(
    "audiofolder",
    looked_for=f"Hugging Face AudioFolder ({' or '.join(TABLES)} with {COLUMN}, in any folder)",
    absent=f"no {' or '.join(TABLES)} has a column {COLUMN}.",
    find=_find,
    read=_read,
    # A table at the top alone is a manifest, unless the audio lies in folders of splits.
    is_sure=lambda listing, tables: (
        any(table.parent != listing.root for table in tables) or _has_split_folders(listing)
    ),
)
