"""Parquet tables with the bytes of audio, as the Hugging Face hub has them: ``data/train-00000-of-00002.parquet``.

The audio is a column of structs (bytes, path), or of bytes, called audio. The other columns are those of a manifest:
text, sentence or transcription, id, speaker_id, … The file's name or its folders give the split, unless a column does.
Needs pyarrow (the extra ``parquet``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lst.data.audio.parquet_cells import SUFFIX, is_parquet, open_parquet
from lst.data.corpora.layouts.listing import Found, Layout, Listing, split_in_path
from lst.data.corpora.manifest import ALIASES, parse_record, record_problems
from lst.data.corpora.provenance import ALL_COLUMNS
from lst.data.corpora.rows import ManifestRow
from lst.errors import UserError
from lst.progress import Progress

AUDIO_NAMES = ("audio", "wav", "speech", "file")
_ROWS_TOGETHER = 1024


def _find(listing: Listing) -> list[Path]:
    files = [listing.file] if listing.file is not None else listing.files
    return [file for file in files if is_parquet(file)]


def _read(listing: Listing, tables: list[Path], found: Found) -> None:
    with Progress(None, "reading tables", unit="row") as progress:
        for table in tables:
            if table.stat().st_size == 0:
                raise UserError(
                    f"corpus {table} is empty. Parquet files behind a URL are not read: copy them here first."
                )
            try:
                _read_table(listing, table.absolute(), found, progress)
            except UserError as error:
                found.fail(listing.relative(table), str(error), path=table)


def _read_table(listing: Listing, table: Path, found: Found, progress: Progress) -> None:
    file = open_parquet(table)
    column, name_column = _audio_columns(file.schema_arrow)
    wanted = [field.name for field in file.schema_arrow if not field.type.num_fields and _is_read(field.name, column)]
    split = split_in_path(listing.root, table)
    number = 0
    for batch in file.iter_batches(_ROWS_TOGETHER, columns=[*wanted, *([name_column] if name_column else [])]):
        for values in batch.to_pylist():
            progress.advance()
            place = f"{listing.relative(table)} row {number}"
            row, faults = _row(values, table, column, number, place)
            found.problems += record_problems(row, faults)
            if not faults:
                found.rows.append(row if row.split else replace(row, split=split))
            number += 1


# Where audio lies is not taken from columns: it is in the table.
_COLUMNS = {
    *(alias for name, aliases in ALIASES.items() if name not in ("path", "member") for alias in aliases),
    *ALL_COLUMNS,
    "words",
}


def _is_read(name: str, audio_column: str) -> bool:
    return name != audio_column and name.strip().lower() in _COLUMNS


def _audio_columns(schema: Any) -> tuple[str, str]:
    """The column with the bytes of audio, and the one with their names, if there is one."""
    for field in sorted(schema, key=lambda field: field.name.lower() != AUDIO_NAMES[0]):
        fields = {field.type.field(index).name for index in range(field.type.num_fields)}
        if "bytes" in fields:
            return field.name, f"{field.name}.path" if "path" in fields else ""
    binary = [field.name for field in schema if "binary" in str(field.type) and field.name.lower() in AUDIO_NAMES]
    if binary:
        return binary[0], ""
    raise UserError(
        f"has no column of audio: a struct of bytes and path, or bytes called {' or '.join(AUDIO_NAMES)}. Its columns: "
        f"{', '.join(schema.names)}"
    )


def _row(values: dict[str, Any], table: Path, column: str, number: int, place: str) -> tuple[ManifestRow, list[str]]:
    held = values.pop(column, None)
    name = Path(str(held["path"])).stem if isinstance(held, dict) and held.get("path") else f"{table.stem}-{number:06d}"
    record = {key.strip().lower(): value for key, value in values.items()}
    row, faults = parse_record({**record, "path": str(table)}, place, table.parent)
    return replace(row, id=row.id if row.has_own_id else name, member=f"{column}/{number}"), faults


LAYOUT = Layout(
    "parquet",
    looked_for=f"Parquet (*{SUFFIX} with the bytes of audio and a text)",
    absent=f"there is no *{SUFFIX}.",
    find=_find,
    read=_read,
)
