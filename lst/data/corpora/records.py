"""Text files of records, a line at a time: JSON lines (gzipped or not), tables with a header, plain lines.

A line that cannot be read comes back as what is wrong with it, in its place, so that all of them are reported at once.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lst.errors import UserError

Record = dict[str, Any]
GZIP_MAGIC = b"\x1f\x8b"
# A longer line is no record of a manifest; without a bound, a foreign file would be read into memory as one line.
MAX_LINE_BYTES = 64 << 20


def shown(text: str, num_chars: int = 60) -> str:
    """The start of a text, quoted, for a message."""
    return repr(text[:num_chars]) + ("…" if len(text) > num_chars else "")


def read_utf8(path: Path) -> str:
    """Reads a text file as UTF-8, with or without a byte-order mark; ``UserError`` where that cannot be done."""
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
    """The lines of a text file that are not blank, with their numbers; ``UserError`` where it is not UTF-8."""
    lines = enumerate(read_utf8(path).split("\n"), 1)
    return [(number, content.removesuffix("\r")) for number, content in lines if content.strip()]


def decoded_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Lines of a text file, gzipped or not, as (number, content, fault); blank ones are left out.

    A line that is not UTF-8 has no content but a fault. Damage of a gzip file is the fault of the line it falls into.

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
    """Lines of JSON as (line number, object, or what is wrong with the line).

    Args:
        path: the file, gzipped or not.
        lower_keys: give the keys of the object without surrounding blanks and in lower case.
    """
    for number, content, fault in decoded_lines(path):
        yield number, fault or parse_json_object(content, lower_keys)


def parse_json_object(content: str, lower_keys: bool = True) -> Record | str:
    """One JSON object, or what is wrong with the text."""
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
    """The first line that is a JSON object, to tell the kind of a file by; empty where none of the first 20 is."""
    for count, (_, record) in enumerate(json_records(path)):
        if isinstance(record, dict):
            return record
        if count >= 20:
            break
    return {}


def first_line(path: Path) -> str:
    """The first line that is not blank and is UTF-8; empty where there is none."""
    return next((content for _, content, _ in decoded_lines(path) if content), "")


def table_header(path: Path) -> list[str]:
    """The column names of a tab-separated file, without surrounding blanks and in lower case."""
    return [name.strip().lower() for name in first_line(path).split("\t")]


def table_cells(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not blank, with its number; broken quoting is an error, as it may hide lines."""
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
