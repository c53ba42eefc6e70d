"""Reads text files of records line by line: JSON lines (gzipped or not), tables with a header, plain lines.

For a line that cannot be read, the readers give the fault in its place, so that all faults are reported at once.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from lst.errors import UserError

# A JSON object of a foreign file, not yet checked.
Record: TypeAlias = dict[str, Any]
GZIP_MAGIC = b"\x1f\x8b"
# Bounds the memory for a file that has no line ends. No record of a manifest is that long.
MAX_LINE_BYTES = 64 << 20


def shown(text: str, num_chars: int = 60) -> str:
    """The start of a text, quoted, for a message.

    >>> shown("a long text", 6)
    "'a long'…"
    """
    return repr(text[:num_chars]) + ("…" if len(text) > num_chars else "")


def read_utf8(path: Path) -> str:
    """Reads a text file as UTF-8, with or without a byte-order mark; ``UserError`` if that fails."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}, in line {line}. "
            f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {path.name} > utf8_{path.name}"
        ) from None


def text_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a text file with their numbers; ``UserError`` if it is not UTF-8."""
    lines = enumerate(read_utf8(path).split("\n"), 1)
    return [(number, content.removesuffix("\r")) for number, content in lines if content.strip()]


def decoded_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields the non-blank lines of a text file, gzipped or not, as (number, content, fault).

    A line that is not UTF-8 has a fault and no content. Damage of a gzip file is a fault of the line where it occurs.

    Raises:
        UserError: the file cannot be opened.
    """
    number = 0
    try:
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            lines = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            while content := lines.readline(MAX_LINE_BYTES):
                number += 1
                if number == 1:
                    content = content.removeprefix(b"\xef\xbb\xbf")
                if not content.strip():
                    continue
                try:
                    yield number, content.decode().rstrip("\r\n"), ""
                except UnicodeDecodeError as error:
                    fault = f"is not UTF-8: its byte {error.start + 1} is 0x{content[error.start]:02x}"
                    yield number, "", f"{fault}. Convert the file, for example: iconv -f LATIN1 -t UTF-8"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield number + 1, "", f"cannot be unpacked, the gzip file is damaged or cut short from here on ({error})"
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None


def json_records(path: Path, lower_keys: bool = True) -> Iterator[tuple[int, Record | str]]:
    """Yields the lines of a JSON-lines file as (line number, object, or what is wrong with the line).

    Args:
        path: the file, gzipped or not.
        lower_keys: whether keys are stripped and put in lower case.
    """
    for number, content, fault in decoded_lines(path):
        yield number, fault or parse_json_object(content, lower_keys)


def parse_json_object(content: str, lower_keys: bool = True) -> Record | str:
    """Parses a JSON object; returns what is wrong if the text is not one.

    >>> parse_json_object('{"Text ": "hello"}')
    {'text': 'hello'}
    >>> parse_json_object("[1]")
    "not a JSON object: '[1]'"
    """
    try:
        record = json.loads(content)
        if "\\u" in content:  # an escape such as \ud800 alone is no character and cannot be written again
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error}): {shown(content)}"
    if not isinstance(record, dict):
        return f"not a JSON object: {shown(content)}"
    return {name.strip().lower(): value for name, value in record.items()} if lower_keys else record


def first_json_object(path: Path) -> Record:
    """The first JSON object among the first 21 lines, which shows the kind of a file; empty if there is none."""
    return next((record for _, record in islice(json_records(path), 21) if isinstance(record, dict)), {})


def first_line(path: Path) -> str:
    """The first line that is UTF-8 and not blank; empty if there is none."""
    return next((content for _, content, _ in decoded_lines(path) if content), "")


def table_header(path: Path) -> list[str]:
    """The column names of a tab-separated file, stripped and in lower case."""
    return [name.strip().lower() for name in first_line(path).split("\t")]


def table_cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each non-blank line, with its number; ``UserError`` for broken quoting, which could hide lines."""
    tabs = path.suffix.lower() == ".tsv"
    rules: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), **rules)
    cells, start_line = [], 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                cells.append((start_line, values))
            start_line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"manifest {path}, line {start_line} cannot be split into cells ({error}). In CSV, a cell that holds "
            'a comma, a quote or a line break stands in "…" with quotes inside doubled; TSV needs no quotes.'
        ) from None
    return cells
