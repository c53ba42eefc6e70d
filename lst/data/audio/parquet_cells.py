"""Audio in the cells of a Parquet file, as data sets on the Hugging Face hub have it: a struct of bytes and path.

A cell is named ``COLUMN/ROW``. A row group is read as a whole, and that of the last cell is kept, as rows are read in
order.
"""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lst.data.audio.places import content_key, open_location
from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.storage.access import size_problem

SUFFIX = ".parquet"


def is_parquet(path: Path | str) -> bool:
    """Whether a place is a Parquet file by its name."""
    return str(path).lower().endswith(SUFFIX)


def open_parquet(path: Path | str) -> Any:
    """Opens a Parquet file as ``pyarrow.parquet.ParquetFile``.

    Raises:
        UserError: pyarrow is not installed, or the file is absent or damaged.
    """
    parquet = import_or_explain(
        "pyarrow.parquet", "Parquet files", "pip install 'latent-speech-text[parquet]', or: pip install pyarrow"
    )
    pyarrow = import_or_explain("pyarrow", "Parquet files", "pip install pyarrow")
    try:
        return parquet.ParquetFile(open_location(path))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a Parquet file ({error}). Copy or export it again.") from None


def open_cell(path: Path | str, name: str) -> BinaryIO:
    """The audio file in the cell ``COLUMN/ROW``, opened for reading and seeking.

    Raises:
        UserError: there is no such cell, it holds no bytes, or the file is damaged.
    """
    column, _, row = name.rpartition("/")
    key = content_key(path)
    ends = _row_ends(*key)
    number = int(row) if row.isdecimal() else -1
    if not column or not 0 <= number < (ends[-1] if ends else 0):
        raise UserError(f"{path} has no cell {name!r}")
    group = int(np.searchsorted(ends, number, side="right"))
    cells = _cells(*key, column, group)
    content = cells[number - (ends[group - 1] if group else 0)].as_py()
    if not content:
        raise UserError(f"{path}, cell {name}: holds no bytes of audio; a path alone is not read")
    return io.BytesIO(content)


@lru_cache(maxsize=64)
def _row_ends(path: str, size_bytes: int, mtime_ns: int) -> list[int]:
    """The row after the last one of each row group."""
    metadata = open_parquet(path).metadata
    return list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))


@lru_cache(maxsize=1)
def _cells(path: str, size_bytes: int, mtime_ns: int, column: str, group: int) -> Any:
    """The bytes of one row group's column."""
    pyarrow = import_or_explain("pyarrow", "Parquet files", "pip install pyarrow")
    file = open_parquet(path)
    metadata = file.metadata.row_group(group)
    chunks = [metadata.column(index) for index in range(metadata.num_columns)]
    own_bytes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.startswith(column))
    if too_large := size_problem(own_bytes, f"row group {group} has"):
        raise UserError(f"{path}: {too_large}. Write it with smaller row groups.")
    try:
        found = file.read_row_group(group, [column]).column(column).combine_chunks()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path}, column {column}: cannot be read ({error}). Copy or export it again.") from None
    return found.field("bytes") if pyarrow.types.is_struct(found.type) else found
