"""Reads text files of records line by line: JSON lines (gzipped or not), tables with a header, plain lines.

For a line that cannot be read, the readers give the fault in its place, so that all faults are reported at once. The
files may come from anywhere: no line and no packed file makes memory or time grow out of proportion to its size.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeAlias

from lst import storage
from lst.errors import UserError
from lst.storage import Location

# A JSON object of a foreign file, not yet checked.
Record: TypeAlias = dict[str, Any]
# The text of an object that is not yet parsed, and what is wrong with it.
RawRecord: TypeAlias = tuple[str, str]
GZIP_MAGIC, XZ_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\0"
# Bounds the memory for a file that has no line ends. No record of a manifest is that long.
MAX_LINE_BYTES = 16 << 20
# Lists are packed to a tenth, a file of zeros to a thousandth. Only files that unpack to more than this are held to it.
MAX_PACKED_RATIO, UNCHECKED_BYTES = 200, 1 << 20
_CHUNK_CHARS = 1 << 20
# The first line of an array of objects; then what stands between its objects, and the first character of the next one.
_ARRAY = re.compile(r"\s*\[\s*([{\]]|$)")
_ITEM = re.compile(r"[\s,]*([^\s,])")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
# A line above the header, by which Excel knows the separator.
_NAMED_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?', re.IGNORECASE)
# An xz file states how much memory its unpacking needs, up to 4 GiB.
_UNPACKING_ERRORS = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, MemoryError)


def unpacked(raw: BinaryIO) -> BinaryIO:
    """A file, unpacked while it is read if it is packed by gzip or xz."""
    magic = raw.read(len(XZ_MAGIC))
    raw.seek(0)
    if magic.startswith(GZIP_MAGIC):
        return io.BufferedReader(gzip.open(raw))
    if magic == XZ_MAGIC:
        return io.BufferedReader(lzma.open(raw))
    return raw


def encoding_of(file: BinaryIO) -> str:
    """The encoding of a text file: UTF-8; UTF-16 or UTF-32 by its mark; UTF-16 without one by its zeros."""
    head = file.read(4)
    file.seek(0)
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    zeros = "".join("0" if byte == 0 else "x" for byte in head)
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros, "utf-8-sig")


def shown(text: str, num_chars: int = 60) -> str:
    """The start of a text, quoted, for a message.

    >>> shown("a long text", 6)
    "'a long'…"
    """
    return repr(text[:num_chars]) + ("…" if len(text) > num_chars else "")


def read_utf8(path: Path) -> str:
    """Reads a text file as UTF-8, with or without a byte-order mark, or as UTF-16 or UTF-32 (Excel's "Unicode text").

    Raises:
        UserError: it cannot be read, is in none of these encodings, or is larger than ``storage.max_file_bytes``.
    """
    try:
        content = storage.read_foreign(path)
        return content.decode(encoding_of(io.BytesIO(content))).removeprefix("\ufeff")
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
    file = unpacked(raw)
    encoding = encoding_of(file)
    read_line: Callable[[int], bytes] = file.readline
    if encoding != "utf-8-sig":
        text = io.TextIOWrapper(file, encoding, errors="replace", newline="\n")
        # What could not be decoded becomes a byte that is no UTF-8 either.
        read_line = lambda size: text.readline(size).encode().replace("\ufffd".encode(), b"\xff")  # noqa: E731
    num_bytes = checked_bytes = 0
    while content := read_line(MAX_LINE_BYTES + 1):
        num_bytes += len(content)
        if len(content) > MAX_LINE_BYTES:
            raise UserError(f"is longer than {MAX_LINE_BYTES:,} bytes: no line of a list is; nothing behind it is read")
        if file is not raw and num_bytes > checked_bytes + UNCHECKED_BYTES:
            checked_bytes = num_bytes  # at each line, asking for the place in the file would take long
            if num_bytes > MAX_PACKED_RATIO * (packed_bytes := raw.tell()):
                raise UserError(_too_packed(num_bytes, packed_bytes))
        yield content


def _too_packed(num_bytes: int, packed_bytes: int) -> str:
    return (
        f"lies behind {num_bytes:,} bytes that are packed into {packed_bytes:,}: more than {MAX_PACKED_RATIO} times as "
        "many is no list; nothing from here on is read. Unpack the file first if it is right"
    )


def json_records(path: Location, lower_keys: bool = True) -> Iterator[tuple[int, Record | str]]:
    """Yields the objects of a JSON file as (number, object, or what is wrong with it).

    The file has an object a line (the number is the line's), or is one array of objects (the number is the object's,
    from 1 on). Arrays are read object by object.

    Args:
        path: the file, gzipped or not.
        lower_keys: whether keys are stripped and put in lower case.
    """
    for number, content in raw_records(path):
        yield number, parsed_record(content, lower_keys)


def raw_records(path: Location) -> Iterator[tuple[int, RawRecord]]:
    """Yields the objects of a JSON file, as ``json_records`` does, but not yet parsed: see ``parsed_record``."""
    if _ARRAY.match(first_line(path)):
        yield from ((number, (content, fault)) for number, content, fault in array_contents(path))
        return
    for number, content, fault in decoded_lines(path):
        yield number, (content, fault)


def parsed_record(raw: RawRecord, lower_keys: bool = True) -> Record | str:
    """The object of a raw record, or what is wrong with it."""
    content, fault = raw
    return fault or parse_json_object(content, lower_keys)


def array_records(path: Location, name: str = "", lower_keys: bool = True) -> Iterator[tuple[int, Record | str]]:
    """Yields the objects of an array in a JSON file, as ``json_records`` does, object by object.

    Args:
        path: the file, packed or not.
        name: the array's name in the object that the file is; empty if the file is the array.
        lower_keys: whether keys are stripped and put in lower case.
    """
    for number, content, fault in array_contents(path, name):
        yield number, parsed_record((content, fault), lower_keys)


def array_contents(path: Location, name: str = "") -> Iterator[tuple[int, str, str]]:
    """Yields the objects of ``array_records`` as (number, content, fault), not yet parsed."""
    start = re.compile(rf'"{re.escape(name)}"\s*:\s*\[' if name else r"\s*\[")
    decoder = json.JSONDecoder()
    buffer, position, number, is_open = "", 0, 1, False
    for chunk in _text_chunks(path):
        if isinstance(chunk, UserError):
            yield number, "", str(chunk)
            return
        buffer, position = buffer[position:] + chunk, 0
        if not is_open:
            if (match := start.search(buffer)) is None:
                # The name may stand across two chunks.
                position = max(0, len(buffer) - len(name) - 100)
                continue
            is_open, position = True, match.end()
        while found := _ITEM.match(buffer, position):
            if found[1] == "]":
                return
            try:
                item, end = decoder.raw_decode(buffer, found.start(1))
            except (ValueError, RecursionError):
                break  # cut by the end of the chunk
            content = buffer[found.start(1) : end]
            yield number, content, "" if isinstance(item, dict) else f"not a JSON object: {shown(content)}"
            position, number = end, number + 1
        if len(buffer) - position > MAX_LINE_BYTES:
            break
    if is_open:
        rest = shown(buffer[position:].strip())
        yield number, "", f"the array of objects does not go on from here, or is not JSON: {rest}"


def has_array(path: Path, name: str) -> bool:
    """Whether an array of objects begins within the first characters of a JSON file, by ``name``."""
    start = re.compile(rf'\s*\{{.*"{re.escape(name)}"\s*:\s*\[\s*\{{', re.DOTALL)
    chunk = next(_text_chunks(path), "")
    return isinstance(chunk, str) and start.match(chunk) is not None


def text_before_array(path: Path, name: str) -> str:
    """The text of a JSON file in front of an array that begins within its first characters."""
    chunk = next(_text_chunks(path), "")
    return chunk.partition(f'"{name}"')[0] if isinstance(chunk, str) else ""


def _text_chunks(path: Location) -> Iterator[str | UserError]:
    """The text of a file, packed or not, in large pieces; an error in place of what cannot be read."""
    try:
        with storage.open_binary(path) as raw:
            file = unpacked(raw)
            with io.TextIOWrapper(file, encoding_of(file)) as text:
                num_chars = 0
                while chunk := text.read(_CHUNK_CHARS):
                    num_chars += len(chunk)
                    if file is not raw and num_chars > UNCHECKED_BYTES and num_chars > MAX_PACKED_RATIO * raw.tell():
                        yield UserError(_too_packed(num_chars, raw.tell()))
                        return
                    yield chunk
    except UnicodeDecodeError as error:
        yield UserError(f"is not UTF-8: 0x{error.object[error.start]:02x}")
    except _UNPACKING_ERRORS as error:
        yield UserError(f"cannot be unpacked, the gzip or xz file is damaged or cut short from here on ({error})")
    except OSError as error:
        raise _unreadable(path, error) from None


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


def first_line(path: Location) -> str:
    """The first line that is UTF-8 and not blank; empty if there is none."""
    return next((content for _, content, _ in decoded_lines(path) if content), "")


def table_header(path: Path) -> list[str]:
    """The column names of a tab-separated file, stripped and in lower case."""
    return [name.strip().lower() for name in first_line(path).split("\t")]


def table_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each non-blank line of a table, with its number. The table is read line by line.

    A tab-separated table is read without quoting, unless all of its quotes are such as pandas or Excel write. Where no
    cell of the header ends as the file's name tells, the header tells the separator: Excel writes semicolons or tabs
    into .csv in many countries, and pandas commas into .tsv.

    Raises:
        UserError: the file cannot be read or is not UTF-8, a line is too long, or broken quoting could hide lines.
    """
    separator = separator_of(path)
    if separator in "\t|" and not _is_quoted(path, separator):
        return _split_table(path, delimiter=separator, quoting=csv.QUOTE_NONE)
    return _quoted_cells(path, separator)


def _quoted_cells(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from _split_table(path, delimiter=separator, strict=True)
    except csv.Error as error:
        raise UserError(
            f"manifest {path}{error.args[1]} cannot be split into cells ({error.args[0]}). In CSV, a cell that holds "
            f'a {_SEPARATORS[separator]}, a quote or a line break stands in "…" with quotes inside doubled; TSV needs '
            "no quotes."
        ) from None


def separator_of(path: Path) -> str:
    """What separates the cells of a table: as its name says, or, where its header has none of these, another one."""
    header = first_line(path)
    if named := _NAMED_SEPARATOR.fullmatch(header):
        return named[1]
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    return usual if usual in header else max(_SEPARATORS, key=lambda sign: (header.count(sign), sign == usual))


def _split_table(path: Path, **rules: Any) -> Iterator[tuple[int, list[str]]]:
    """The cells of a table by the rules of ``csv.reader``; its ``csv.Error`` names the line, too."""
    start_line, is_first = 1, True
    try:
        with storage.open_binary(path) as raw, io.TextIOWrapper(raw, encoding_of(raw), newline="") as file:
            reader = csv.reader(_bounded_lines(path, file), **rules)
            for values in reader:
                if any(value.strip() for value in values):
                    if is_first:
                        values[0] = values[0].removeprefix("\ufeff")
                    if not (is_first and _NAMED_SEPARATOR.fullmatch(rules["delimiter"].join(values))):
                        yield start_line, values
                    is_first = False
                start_line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(str(error), f", line {start_line}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _is_quoted(path: Path, separator: str) -> bool:
    """Whether a table's quotes are those of a writer that quotes some kinds of cells, so that they are no text.

    The quotes in the file are counted: they must be as many as one of these writers puts around its cells and doubles
    within them. pandas quotes cells with quotes, tabs or line breaks, Excel those with commas too; both can quote all.
    """
    with storage.open_binary(path) as raw, io.TextIOWrapper(raw, encoding_of(raw), newline="") as file:
        try:
            num_quotes = sum(line.count('"') for line in _bounded_lines(path, file))
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
    if not num_quotes:
        return False
    doubled, num_quoted, widths = 0, [0] * len(_QUOTED_CELLS), set[int]()
    try:
        for _, values in _split_table(path, delimiter=separator, strict=True):
            widths.add(len(values))
            doubled += 2 * sum(value.count('"') for value in values)
            num_quoted = [
                count + sum(map(is_quoted, values)) for count, is_quoted in zip(num_quoted, _QUOTED_CELLS, strict=True)
            ]
    except csv.Error:
        return False  # its quotes are no quoting
    return len(widths) == 1 and any(doubled + 2 * count == num_quotes for count in num_quoted)


def _is_no_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return True
    return False


# Which cells a writer puts in quotes.
_QUOTED_CELLS: tuple[Callable[[str], bool], ...] = (
    lambda cell: any(char in '"\t\r\n' for char in cell),
    lambda cell: any(char in '"\t\r\n,' for char in cell),
    _is_no_number,
    lambda cell: True,
)


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise UserError(f"{path}, line {number} is longer than {MAX_LINE_BYTES:,} characters: it is no table.")
        yield line
