"""Common Voice: tables with client_id, path and sentence beside a folder ``clips/`` of mp3 files.

Tables in a folder: train.tsv, dev.tsv and test.tsv; validated.tsv is read only if none of them is there. A single table
can be named as the corpus; then only its rows are read. Clips that no table names (invalidated and other clips) are not
reported. The tables are TSV without quoting; the client is the speaker, the column ``locale`` the language.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lst.data.audio import as_on_disk
from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_name
from lst.data.corpora.manifest import parse_language
from lst.data.corpora.provenance import provenance_of
from lst.data.corpora.records import decoded_lines, table_header
from lst.data.corpora.rows import UNKNOWN_SPEAKER, ManifestRow
from lst.errors import UserError
from lst.progress import Progress

COLUMNS = ("client_id", "path", "sentence")
SPLIT_TABLES, FALLBACK_TABLE = ("train.tsv", "dev.tsv", "test.tsv"), "validated.tsv"
CLIPS = "clips"


def _find(listing: Listing) -> list[Path]:
    if listing.file is not None:
        return [listing.file]
    here = {file.name: file for file in listing.top}
    tables = [here[name] for name in (*SPLIT_TABLES, FALLBACK_TABLE) if name in here]
    tables = [table for table in tables if table.name != FALLBACK_TABLE] or tables
    return tables or _find_below(listing)


def _find_below(listing: Listing) -> list[Path]:
    """The tables of the one language in a release's top folder (``cv-corpus-17.0/en/``); ``UserError`` for several."""
    names = {*SPLIT_TABLES, FALLBACK_TABLE}
    folders = {file.parent for file in listing.files if file.name in names}
    folders = {folder for folder in folders if folder != listing.root and (folder / CLIPS).is_dir()}
    if len(folders) > 1:
        shown = ", ".join(sorted(listing.relative(folder) for folder in folders)[:20])
        raise UserError(
            f"corpus {listing.root} holds {len(folders)} folders of Common Voice: name one of them: {shown}"
        )
    return _find(Listing(folders.pop())) if folders else []


def _is_sure(listing: Listing, tables: list[Path]) -> bool:
    if not tables[0].with_name(CLIPS).is_dir() or tables[0].suffix.lower() != ".tsv":
        return False
    return any({"client_id", "path"} <= set(table_header(table)) for table in tables)


def _read(listing: Listing, tables: list[Path], found: Found) -> None:
    with Progress(None, "reading tables", unit="row") as progress:
        for table in tables:
            _read_table(table, found, progress)


def _checked_header(table: Path) -> list[str]:
    """The column names of a table; ``UserError`` if a needed one is missing or repeated."""
    header = table_header(table)
    if missing := [column for column in COLUMNS if column not in header]:
        raise UserError(
            f"{table}, line 1: no column {', '.join(missing)}. Columns found: "
            f"{', '.join(map(repr, header[:12]))}; Common Voice's tables have {', '.join(COLUMNS)}."
        )
    if repeated := sorted({column for column in COLUMNS if header.count(column) > 1}):
        raise UserError(f"{table}, line 1: column {', '.join(repeated)} occurs more than once.")
    return header


def _read_table(table: Path, found: Found, progress: Progress) -> None:
    header = _checked_header(table)
    split = split_in_name(table.stem)
    is_header = True
    for line, content, fault in decoded_lines(table):
        if content and is_header:
            is_header = False
            continue
        progress.advance()
        cells = [cell.strip() for cell in content.split("\t")]
        values = dict(zip(header, cells, strict=False))
        if not fault and len(cells) != len(header):
            fault = f"has {len(cells)} cells, the header has {len(header)}"
        elif not fault and (not values["path"] or "\0" in values["path"]):
            fault = "names no audio file"
        language_faults: list[str] = []
        language = parse_language(values.get("locale", ""), language_faults)
        fault = fault or "".join(language_faults)
        place = f"{table.name} line {line}"
        if fault:
            found.fail(place, fault)
            continue
        name = values["path"]
        # Early releases name clips without their suffix.
        clip = table.parent.absolute() / CLIPS / (name if Path(name).suffix else f"{name}.mp3")
        path = as_on_disk(clip)
        speaker = values["client_id"] or UNKNOWN_SPEAKER
        row = ManifestRow(clip.stem, path, values["sentence"], speaker, split, place=place, language=language)
        found.rows.append(replace(row, provenance=provenance_of(values)))


_TABLES = f"{', '.join(SPLIT_TABLES)} or {FALLBACK_TABLE}"
LAYOUT = Layout(
    "common_voice",
    looked_for=f"Common Voice ({_TABLES} beside {CLIPS}/)",
    absent=f"Common Voice has {_TABLES} beside {CLIPS}/, none of them is there.",
    find=_find,
    read=_read,
    is_sure=_is_sure,
)
