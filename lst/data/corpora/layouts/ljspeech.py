"""LJSpeech: ``metadata.csv``, "ID|text|normalized text" a line without quoting, and ``wavs/ID.wav``.

One speaker, no splits; the normalized text counts where there is one.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import (
    Found,
    Layout,
    Listing,
    audio_by_stem,
    audio_without_transcript,
    transcript_without_audio,
)
from lst.data.corpora.manifest import ManifestProblem, ManifestRow
from lst.data.corpora.records import first_line, text_lines
from lst.errors import UserError

TABLE, AUDIO_FOLDER, SPEAKER = "metadata.csv", "wavs", "lj"


def is_ljspeech(table: Path) -> bool:
    """Whether a file is LJSpeech's metadata.csv, which is no CSV: its first line is cut by pipes."""
    return table.name.lower() == TABLE and "|" in first_line(table)


def matches(listing: Listing) -> bool:
    return any(is_ljspeech(file) for file in listing.top)


def load(listing: Listing) -> Found:
    table = listing.file or next((file for file in listing.top if file.name.lower() == TABLE), listing.root / TABLE)
    folder = table.parent
    audio_folder = folder / AUDIO_FOLDER
    if not audio_folder.is_dir():
        raise UserError(f"corpus {folder}: {table.name} is LJSpeech's, but there is no folder {audio_folder}.")
    files = listing.below(audio_folder).files
    audio = audio_by_stem(files)
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    for line, content in text_lines(table):
        cells = [cell.strip() for cell in content.split("|")]
        place = f"{table.name} line {line}"
        if not 2 <= len(cells) <= 3:
            message = f"has {len(cells)} cells between pipes; allowed are id|text and id|text|normalized text"
            problems.append(ManifestProblem(place, cells[0], message, audio.get(audio_folder / cells[0])))
            continue
        path = audio.get(audio_folder / cells[0])
        if path is None:
            problems.append(transcript_without_audio(place, cells[0], f"{AUDIO_FOLDER}/{cells[0]}"))
        else:
            rows.append(ManifestRow(cells[0], path, cells[-1] or cells[1], SPEAKER, place=place))
    used = [row.path for row in rows] + [problem.path for problem in problems if problem.path is not None]
    remedy = f"{table.name} has no line for it"
    return rows, problems + audio_without_transcript(folder, files, used, remedy)


LAYOUT = Layout("ljspeech", f"LJSpeech ({TABLE} with id|text|normalized text, audio in {AUDIO_FOLDER}/)", matches, load)
