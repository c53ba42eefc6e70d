"""LJSpeech: ``metadata.csv``, "ID|text|normalized text" a line without quoting, and ``wavs/ID.wav``.

One speaker, no splits. The normalized text is used if there is one.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem
from lst.data.corpora.manifest import ManifestRow
from lst.data.corpora.records import first_line, text_lines
from lst.errors import UserError

TABLE, AUDIO_FOLDER, SPEAKER = "metadata.csv", "wavs", "lj"


def is_ljspeech(table: Path) -> bool:
    """Whether a file is LJSpeech's metadata.csv, which is not CSV: its first line has pipes between the cells."""
    return table.name.lower() == TABLE and "|" in first_line(table)


def _find(listing: Listing) -> list[Path]:
    """The table, also if it is absent: the error then names the path."""
    named = (file for file in listing.top if file.name.lower() == TABLE)
    return [listing.file or next(named, listing.root / TABLE)]


def _read(listing: Listing, tables: list[Path], found: Found) -> None:
    table = tables[0]
    folder, audio_folder = table.parent, table.parent / AUDIO_FOLDER
    if not audio_folder.is_dir():
        raise UserError(f"corpus {folder}: {table.name} is LJSpeech's, but there is no folder {audio_folder}.")
    files = listing.below(audio_folder).files
    audio = audio_by_stem(files)
    for line, content in text_lines(table):
        cells = [cell.strip() for cell in content.split("|")]
        place, stem = f"{table.name} line {line}", audio_folder / cells[0]
        if not 2 <= len(cells) <= 3:
            message = f"has {len(cells)} cells between pipes; allowed are id|text and id|text|normalized text"
            found.fail(place, message, cells[0], audio.get(stem))
        else:
            row = ManifestRow(cells[0], stem, cells[-1] or cells[1], SPEAKER, place=place)
            found.pair(row, audio, f"{AUDIO_FOLDER}/{cells[0]}")
    found.add_unused(folder, files, f"{table.name} has no line for it")


LAYOUT = Layout(
    "ljspeech",
    looked_for=f"LJSpeech ({TABLE} with id|text|normalized text, audio in {AUDIO_FOLDER}/)",
    absent=f"LJSpeech has {TABLE} and {AUDIO_FOLDER}/.",
    find=_find,
    read=_read,
    is_sure=lambda listing, _: any(map(is_ljspeech, listing.top)),
)
