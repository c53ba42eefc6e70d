"""Common Voice: tables with client_id, path and sentence beside a folder ``clips/`` of mp3 files.

Which tables are read: train.tsv, dev.tsv and test.tsv, those that are there, and validated.tsv only where none of them
is. Named as the corpus itself, any one table stands for its rows alone. Clips that none of them names (the corpus's
invalidated and other ones) are no fault. TSV without quoting; the client is the speaker.
"""

from __future__ import annotations

from pathlib import Path

from lst.data.corpora.layouts.listing import Found, Layout, Listing, safe_id, split_in_name
from lst.data.corpora.manifest import UNKNOWN_SPEAKER, ManifestProblem, ManifestRow
from lst.data.corpora.records import decoded_lines, table_header
from lst.errors import UserError
from lst.progress import Progress

COLUMNS = ("client_id", "path", "sentence")
SPLIT_TABLES, FALLBACK_TABLE = ("train.tsv", "dev.tsv", "test.tsv"), "validated.tsv"
CLIPS = "clips"


def _tables(listing: Listing) -> list[Path]:
    if listing.file is not None:
        return [listing.file]
    here = {file.name: file for file in listing.top}
    return [here[name] for name in SPLIT_TABLES if name in here] or [
        here[name] for name in (FALLBACK_TABLE,) if name in here
    ]


def matches(listing: Listing) -> bool:
    tables = _tables(listing)
    if not (listing.root / CLIPS).is_dir() or not tables or tables[0].suffix.lower() != ".tsv":
        return False
    return any({"client_id", "path"} <= set(table_header(table)) for table in tables)


def load(listing: Listing) -> Found:
    tables = _tables(listing)
    if not tables:
        names = f"{', '.join(SPLIT_TABLES)} or {FALLBACK_TABLE}"
        raise UserError(f"corpus {listing.root}: Common Voice has {names} beside {CLIPS}/, none of them is there.")
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    with Progress(None, "reading tables", unit="row") as progress:
        for table in tables:
            _read_table(table, rows, problems, progress)
    return rows, problems


def _read_table(table: Path, rows: list[ManifestRow], problems: list[ManifestProblem], progress: Progress) -> None:
    header = table_header(table)
    if missing := [column for column in COLUMNS if column not in header]:
        raise UserError(
            f"{table}, line 1: no column {', '.join(missing)}. Columns found: "
            f"{', '.join(map(repr, header[:12]))}; Common Voice's tables have {', '.join(COLUMNS)}."
        )
    if repeated := sorted({column for column in COLUMNS if header.count(column) > 1}):
        raise UserError(f"{table}, line 1: column {', '.join(repeated)} is there more than once.")
    split = split_in_name(table.stem)
    is_header = True
    for line, content, fault in decoded_lines(table):
        if content and is_header:
            is_header = False
            continue
        progress.advance()
        place = f"{table.name} line {line}"
        cells = content.split("\t")
        if not fault and len(cells) != len(header):
            fault = f"has {len(cells)} cells, the header has {len(header)}"
        if fault:
            problems.append(ManifestProblem(place, "", fault))
            continue
        values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        name = values["path"]
        if not name or "\0" in name:
            problems.append(ManifestProblem(place, "", "names no audio file"))
            continue
        # Early releases name clips without their suffix.
        path = table.parent.absolute() / CLIPS / (name if Path(name).suffix else f"{name}.mp3")
        speaker = values["client_id"] or UNKNOWN_SPEAKER
        rows.append(ManifestRow(safe_id(path.stem), path, values["sentence"], speaker, split, place=place))


LAYOUT = Layout(
    "common_voice", f"Common Voice ({', '.join(SPLIT_TABLES)} or {FALLBACK_TABLE} beside {CLIPS}/)", matches, load
)
