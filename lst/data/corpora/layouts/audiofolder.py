"""Hugging Face AudioFolder: ``metadata.jsonl`` or ``metadata.csv`` with ``file_name`` and a text, at the top or in
folders.

::

    train/metadata.jsonl    {"file_name": "u01.flac", "transcription": "…"}
    train/u01.flac
    test/metadata.csv       file_name,transcription

Paths start from the folder of the table. The first folder named train…, dev…, validation… or test… is the split,
unless the table has a column for it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import parse_manifest
from lst.data.corpora.records import first_json_object, first_line

TABLES = ("metadata.jsonl", "metadata.csv")
COLUMN = "file_name"


def _find(listing: Listing) -> list[Path]:
    files = [listing.file] if listing.file is not None else listing.files
    return [file for file in files if file.name.lower() in TABLES and _names_files(file)]


def _names_files(table: Path) -> bool:
    if table.suffix.lower() == ".jsonl":
        return COLUMN in first_json_object(table)
    return COLUMN in [cell.strip().strip('"').lower() for cell in first_line(table).split(",")]


def _read(listing: Listing, tables: list[Path], found: Found) -> None:
    for table in tables:
        rows, problems = parse_manifest(table)
        split, folder = split_in_path(listing.root, table), listing.relative(table)
        for row in rows:
            found.rows.append(replace(row, split=row.split or split, place=f"{folder} {row.place}"))
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
    # A table at the top alone is a manifest.
    is_sure=lambda listing, tables: any(table.parent != listing.root for table in tables),
)
