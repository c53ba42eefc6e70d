"""LJSpeech: ``metadata.csv``, "ID|text|normalized text" a line without quoting, and ``wavs/ID.wav``.

One speaker, no splits. The normalized text is used if there is one. Two kinds of tables with speakers are told by their
content: "ID|speaker|text", which Piper reads, and "ID|text|speaker".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, audio_by_stem
from lst.data.corpora.records import first_line, text_lines
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.errors import UserError
from lst.progress import say

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
    lines = [(line, [cell.strip() for cell in content.split("|")]) for line, content in text_lines(table)]
    speaker_column = _speaker_column([cells for _, cells in lines if len(cells) == 3])
    if speaker_column is not None:
        column = speaker_column + 1
        say(f"{table.name}: column {column} is taken for the speaker, column {5 - column} for the text")
    for line, cells in lines:
        place, stem = f"{table.name} line {line}", audio_folder / cells[0]
        if not 2 <= len(cells) <= 3:
            message = f"has {len(cells)} cells between pipes; allowed are id|text and id|text|normalized text"
            found.fail(place, message, cells[0], audio.get(stem))
        else:
            text, speaker = cells[-1] or cells[1], SPEAKER
            if speaker_column is not None:
                speaker, text = cells[speaker_column] or UNKNOWN_SPEAKER, cells[3 - speaker_column]
            row = ManifestRow(cells[0], stem, text, speaker, place=place)
            found.pair(row, audio, f"{AUDIO_FOLDER}/{cells[0]}")
    found.add_unused(folder, files, f"{table.name} has no line for it")


def _speaker_column(rows: Sequence[Sequence[str]]) -> int | None:
    """Index of the column with speakers among the second and the third; None if both are text.

    Speakers are single words that come again, or numbers; the text beside them is mostly of several words.
    """
    for column in (1, 2):
        names = [cells[column] for cells in rows if cells[column]]
        texts = [cells[3 - column] for cells in rows]
        num_words = sum(len(text.split()) for text in texts)
        if (
            len(names) > 1
            and all(len(name.split()) == 1 for name in names)
            and (2 * len(set(names)) <= len(names) or all(map(str.isdecimal, names)))
            and num_words >= 2 * len(texts)
        ):
            return column
    return None


LAYOUT = Layout(
    "ljspeech",
    looked_for=f"LJSpeech ({TABLE} with id|text|normalized text, audio in {AUDIO_FOLDER}/)",
    absent=f"LJSpeech has {TABLE} and {AUDIO_FOLDER}/.",
    find=_find,
    read=_read,
    is_sure=lambda listing, _: any(map(is_ljspeech, listing.top)),
)
