"""Reads text files of records line by line: JSON lines (gzipped or not), tables with a header, plain lines.

For a line that cannot be read, the readers give the fault in its place, so that all faults are reported at once. The
files may come from anywhere: no line and no packed file makes memory or time grow out of proportion to its size.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeAlias

from lst import storage
from lst.errors import UserError
from lst.storage import Location

# A JSON object of a foreign file, not yet checked.
Record: TypeAlias = dict[str, Any]
GZIP_MAGIC, XZ_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\0"
# Bounds the memory for a file that has no line ends. No record of a manifest is that long.
MAX_LINE_BYTES = 16 << 20
# Lists are packed to a tenth, a file of zeros to a thousandth. Only files that unpack to more than this are held to it.
MAX_PACKED_RATIO, UNCHECKED_BYTES = 200, 1 << 20
_UNPACKING_ERRORS = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def shown(text: str, num_chars: int = 60) -> str:
    """The start of a text, quoted, for a message.

    >>> shown("a long text", 6)
    "'a long'…"
    """
    return repr(text[:num_chars]) + ("…" if len(text) > num_chars else "")


def read_utf8(path: Path) -> str:
    """Reads a text file as UTF-8, with or without a byte-order mark.

    Raises:
        UserError: it cannot be read, is not UTF-8, or is larger than ``storage.max_file_bytes``.
    """
    try:
        return storage.read_foreign(path).decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _unreadable(path: Location, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read: {error.strerror or error}.")


def _not_utf8(path: Path) -> UserError:
    """The error for a text file that is not UTF-8; names the first such byte."""
    offset = 0
    with storage.open_binary(path) as file:
        for number, content in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
            try:
                content.decode()
            except UnicodeDecodeError as error:
                return UserError(
                    f"{path} is not UTF-8: byte {offset + error.start + 1} is 0x{content[error.start]:02x}, in line "
                    f"{number}. Convert it, for example: iconv -f LATIN1 -t UTF-8 {path.name} > utf8_{path.name}"
                )
            offset += len(content)
    return UserError(f"{path} is not UTF-8.")


def text_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a text file with their numbers; ``UserError`` if it is not UTF-8."""
    lines = enumerate(read_utf8(path).split("\n"), 1)
    return [(number, content.removesuffix("\r")) for number, content in lines if content.strip()]


def decoded_lines(path: Location) -> Iterator[tuple[int, str, str]]:
    """Yields the non-blank lines of a text file, plain, gzipped or packed by xz, as (number, content, fault).

    A line that is not UTF-8 has a fault and no content. The last line has a fault where nothing can be read from there
    on: the packed file is damaged, unpacks to far more than a text would, or the line does not end.

    Raises:
        UserError: the file cannot be opened.
    """
    number = 0
    try:
        with storage.open_binary(path) as raw:
            for number, content in enumerate(_lines(raw), 1):
                if number == 1:
                    content = content.removeprefix(b"\xef\xbb\xbf")
                if not content.strip():
                    continue
                try:
                    yield number, content.decode().rstrip("\r\n"), ""
                except UnicodeDecodeError as error:
                    fault = f"is not UTF-8: its byte {error.start + 1} is 0x{content[error.start]:02x}"
                    yield number, "", f"{fault}. Convert the file, for example: iconv -f LATIN1 -t UTF-8"
    except UserError as error:
        yield number + 1, "", str(error)
    except _UNPACKING_ERRORS as error:
        yield number + 1, "", f"cannot be unpacked, the gzip or xz file is damaged or cut short from here on ({error})"
    except OSError as error:
        raise _unreadable(path, error) from None


def _lines(raw: BinaryIO) -> Iterator[bytes]:
    """The lines of a file with their ends; ``UserError`` says why it is not read on."""
    magic = raw.read(len(XZ_MAGIC))
    raw.seek(0)
    file: Any = raw
    if magic.startswith(GZIP_MAGIC):
        file = io.BufferedReader(gzip.open(raw))  # noqa: SIM115 (it holds only the raw file)
    elif magic == XZ_MAGIC:
        file = io.BufferedReader(lzma.open(raw))  # noqa: SIM115
    num_bytes = checked_bytes = 0
    while content := file.readline(MAX_LINE_BYTES + 1):
        num_bytes += len(content)
        if len(content) > MAX_LINE_BYTES:
            raise UserError(f"is longer than {MAX_LINE_BYTES:,} bytes: no line of a list is; nothing behind it is read")
        if file is not raw and num_bytes > checked_bytes + UNCHECKED_BYTES:
            checked_bytes = num_bytes  # at each line, asking for the place in the file would take long
            if num_bytes > MAX_PACKED_RATIO * (packed_bytes := raw.tell()):
                raise UserError(
                    f"lies behind {num_bytes:,} bytes that are packed into {packed_bytes:,}: more than "
                    f"{MAX_PACKED_RATIO} times as many is no list; nothing from here on is read. "
                    "Unpack the file first if it is right"
                )
        yield content


def json_records(path: Location, lower_keys: bool = True) -> Iterator[tuple[int, Record | str]]:
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


def table_cells(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of each non-blank line of a table, with its number.

    Raises:
        UserError: the file cannot be read or is not UTF-8, a line is too long, or broken quoting could hide lines.
    """
    tabs = path.suffix.lower() == ".tsv"
    rules: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    cells, start_line = [], 1
    try:
        with storage.open_binary(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            reader = csv.reader(_bounded_lines(path, file), **rules)
            for values in reader:
                if any(value.strip() for value in values):
                    cells.append((start_line, values))
                start_line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"manifest {path}, line {start_line} cannot be split into cells ({error}). In CSV, a cell that holds "
            'a comma, a quote or a line break stands in "…" with quotes inside doubled; TSV needs no quotes.'
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    return cells


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise UserError(f"{path}, line {number} is longer than {MAX_LINE_BYTES:,} characters: it is no table.")
        yield line
