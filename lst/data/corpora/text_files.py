"""Files of text alone: plain text, JSON lines and Parquet, read as a stream of documents.

::

    text=FILE | FOLDER | names with * | URL ──list_texts──▶ TextFiles ──read_texts──▶ TextPart, a document in parts

Of several files, one with valid, dev or test in its name is held out. No document is held in memory as a whole: one
longer than ``data.text.max_document_bytes`` comes in parts.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from lst import storage
from lst.data.config import TextConfig
from lst.data.corpora.manifest import split_of
from lst.data.corpora.records import GZIP_MAGIC, XZ_MAGIC, decoded_lines, json_records
from lst.errors import StorageError, UserError
from lst.lazy import import_or_explain
from lst.storage import Folder, Url, fingerprint, list_files, locate

TextKind = Literal["text", "json", "parquet"]
# Kinds by suffix. In a folder other files are no text; a file that is named may have any suffix.
SUFFIXES: dict[str, TextKind] = {
    **dict.fromkeys((".txt", ".text", ".md"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    ".parquet": "parquet",
}
_PARQUET_MAGIC = b"PAR1"
# What files may be packed by: how they begin, and the command that unpacks what is not read here.
_PACKED = {".gz": GZIP_MAGIC, ".xz": XZ_MAGIC}
_UNREAD = {
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x04\x22\x4d\x18": ("LZ4", "lz4 -d"),
}
_UNREAD_SUFFIXES = (".zst", ".zstd", ".bz2", ".zip", ".lz4", ".7z", ".br")
_HEADING = re.compile(r" ?(=+) [^=].* \1 ?")
_ROWS_A_BATCH = 256


@dataclass(frozen=True)
class TextFile:
    """A file of text.

    Attributes:
        place: where it lies.
        name: how messages call it.
        kind: by its suffix.
        is_held_out: whether its name says so.
    """

    place: Folder
    name: str
    kind: TextKind
    is_held_out: bool


@dataclass(frozen=True)
class TextFiles:
    """The files that ``text=`` names, in order of their names.

    Attributes:
        files: those that are read; none where nothing is there.
        fingerprint: of names, sizes and times of change; None where nothing is there.
        others: names of files in the folder that are no text.
    """

    files: Sequence[TextFile]
    fingerprint: str | None
    others: Sequence[str] = ()

    @property
    def says_what_is_held_out(self) -> bool:
        """Whether the names of files decide which documents are held out."""
        return any(file.is_held_out for file in self.files)


class TextPart(NamedTuple):
    """A document, or a part of a long one.

    Attributes:
        place: file and line or row where it begins, for messages.
        text: empty where there is a fault.
        fault: why there is no document; empty where there is one.
        is_rest: whether it goes on with the document before it.
    """

    place: str
    text: str
    fault: str = ""
    is_rest: bool = False


def list_texts(text: str) -> TextFiles:
    """The files that ``text=`` names: a file, a folder and all below it, or names with ``*`` in one folder.

    Raises:
        UserError: a folder cannot be read, or has no file of text.
    """
    place = locate(text)
    if "*" in place.name and not (isinstance(place, Path) and place.exists()):
        shown = re.compile(".*".join(map(re.escape, place.name.split("*"))))
        return _of_folder(place.parent, text, lambda name: shown.fullmatch(name) is not None)
    listed = list_files(place)
    if (isinstance(place, Path) and place.is_dir()) or (listed.names and "" not in listed.names):
        return _of_folder(place, text)
    if listed.marks is None:
        return TextFiles([], None)
    return TextFiles([TextFile(place, place.name, kind_of(place.name) or "text", False)], listed.fingerprint)


def _of_folder(folder: Folder, text: str, is_named: Callable[[str], bool] | None = None) -> TextFiles:
    """The files of a folder: those that are named, or else all of text."""
    listed = list_files(folder)
    names = sorted(name for name in listed.checked_names() if name)
    chosen = [name for name in names if (is_named(name) if is_named else kind_of(name) is not None)]
    if not chosen:
        looked_for = "" if is_named else f" ({', '.join(SUFFIXES)}; plain, or with .gz or .xz)"
        there = f"{folder} has {', '.join(names[:5])}" if names else f"{folder} is empty or absent"
        raise UserError(f"text={text} names no file of text{looked_for}: {there}")
    ends = {name.rpartition("/")[2] for name in chosen}
    marks = [mark for mark in listed.marks or () if mark[0].rpartition("/")[2] in ends]
    files = [
        TextFile(folder / name, name, kind_of(name) or "text", len(chosen) > 1 and _is_held_out(name))
        for name in chosen
    ]
    others = [] if is_named else [name for name in names if kind_of(name) is None]
    return TextFiles(files, fingerprint([chosen, marks]), others)


def kind_of(name: str) -> TextKind | None:
    """The kind of a file by its suffix, before which may stand that of a packing; None for no text.

    >>> kind_of("a/b.jsonl.gz"), kind_of("c.TXT.xz"), kind_of("d.parquet"), kind_of("e.wav")
    ('json', 'text', 'parquet', None)
    """
    plain = name.lower()
    for suffix in (*_PACKED, *_UNREAD_SUFFIXES):
        plain = plain.removesuffix(suffix)
    return next((kind for suffix, kind in SUFFIXES.items() if plain.endswith(suffix)), None)


def _is_held_out(name: str) -> bool:
    """Whether a part of a name is that of a held-out split: ``books_valid.txt``, ``dev/part-3.jsonl``."""
    return any(split_of(part) == "valid" for part in re.split(r"[/._-]+", name) if part)


def read_texts(file: TextFile, options: TextConfig) -> Iterator[TextPart]:
    """The documents of a file in order; where one is faulty, its fault stands in its place.

    A file behind a URL is read from a temporary copy, which is there as long as the file is read.

    Raises:
        UserError: the file cannot be opened, or the package that reads Parquet is missing.
    """
    if not isinstance(file.place, Url):
        yield from _read(file, options)
        return
    with tempfile.TemporaryDirectory(prefix="lst-text-") as folder:
        copy = Path(folder) / "copy"
        try:
            storage.fetch({file.place: copy})
        except FileNotFoundError:
            raise UserError(f"{file.place} cannot be read: it is not there any more.") from None
        yield from _read(replace(file, place=copy), options)


def _read(file: TextFile, options: TextConfig) -> Iterator[TextPart]:
    """``read_texts`` of a local file."""
    if fault := packing_fault(file):
        yield TextPart(file.name, "", fault)
        return
    num_documents = 0
    readers = {"text": _plain_documents, "json": _json_documents, "parquet": _parquet_documents}
    for part in readers[file.kind](file, options):
        num_documents += not part.is_rest
        yield part
    if not num_documents:
        yield TextPart(file.name, "", "holds no text")


def packing_fault(file: TextFile) -> str:
    """What is wrong with how a file is packed, told by its first bytes; empty where it can be read.

    Raises:
        UserError: the file cannot be opened, or is no regular file.
    """
    try:
        with storage.open_binary(file.place) as raw:
            start = raw.read(8)
    except OSError as error:
        raise UserError(f"{file.place} cannot be read: {error.strerror or error}.") from None
    if not start:
        return "is empty"
    suffix = f".{file.name.rpartition('.')[2].lower()}"
    for magic, (packer, command) in _UNREAD.items():
        if start.startswith(magic):
            return f"is packed by {packer}, and .gz and .xz are read: unpack it with {command}"
    if suffix in _UNREAD_SUFFIXES:
        return f"is named {suffix}, which is not read: unpack it, or pack it as .gz or .xz"
    if suffix in _PACKED and not start.startswith(_PACKED[suffix]):
        return f"is named {suffix}, and its first bytes are not those of such a file: name it after what it holds"
    if file.kind == "parquet":
        return "" if start.startswith(_PARQUET_MAGIC) else "is no Parquet file: it does not begin with PAR1"
    return "is a Parquet file: name it .parquet" if start.startswith(_PARQUET_MAGIC) else ""


def _plain_documents(file: TextFile, options: TextConfig) -> Iterator[TextPart]:
    """Documents of lines; a document ends where the next one begins."""
    limit = options.max_document_bytes
    lines: list[str] = []
    num_bytes, last, place, is_rest = 0, 0, "", False
    for number, line, fault in decoded_lines(file.place):
        if fault:
            yield TextPart(f"{file.name}, line {number}", "", fault)
            continue
        is_after_blank, last = number > last + 1, number
        if _begins(options.document, line, is_after_blank):
            if lines:
                yield TextPart(place, "\n".join(lines), is_rest=is_rest)
            lines, num_bytes, is_rest = [], 0, False
        elif lines and is_after_blank:
            lines.append("")
        for piece in _pieces(line, limit):
            if lines and num_bytes + len(piece.encode()) > limit:
                yield TextPart(place, "\n".join(lines), is_rest=is_rest)
                lines, num_bytes, is_rest = [], 0, True
            if not lines:
                place = f"{file.name}, line {number}"
            lines.append(piece)
            num_bytes += len(piece.encode()) + 1
    if lines:
        yield TextPart(place, "\n".join(lines), is_rest=is_rest)


def _begins(document: str, line: str, is_after_blank: bool) -> bool:
    """Whether a line begins a document."""
    if document == "heading":
        return _HEADING.fullmatch(line) is not None
    return document == "line" or (document == "blank_line" and is_after_blank)


def _json_documents(file: TextFile, options: TextConfig) -> Iterator[TextPart]:
    for number, record in json_records(file.place, lower_keys=False):
        place = f"{file.name}, line {number}"
        if isinstance(record, str):
            yield TextPart(place, "", record)
        elif options.field not in record:
            there = f"it has {', '.join(map(repr, list(record)[:8]))}" if record else "it has none"
            yield TextPart(place, "", f"lacks the field {options.field!r}; {there}: name the text's by data.text.field")
        else:
            yield from _value_parts(place, record[options.field], options)


def _parquet_documents(file: TextFile, options: TextConfig) -> Iterator[TextPart]:
    install = "pip install 'latent-speech-text[parquet]'"
    parquet = import_or_explain("pyarrow.parquet", f"{file.name} is Parquet, which", install)
    errors = (import_or_explain("pyarrow", f"{file.name} is Parquet, which", install).ArrowException, ValueError)
    number = 0
    with storage.open_binary(file.place) as raw:
        try:
            table = parquet.ParquetFile(raw)
            columns = table.schema_arrow.names
            if options.field not in columns:
                there = ", ".join(map(repr, columns[:8]))
                fault = f"lacks the column {options.field!r}; it has {there}: name the text's by data.text.field"
                yield TextPart(file.name, "", fault)
                return
            for batch in table.iter_batches(_ROWS_A_BATCH, columns=[options.field]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield from _value_parts(f"{file.name}, row {number}", value, options)
        except errors as error:
            fault = f"cannot be read: the Parquet file is damaged from here on ({' '.join(str(error).split())[:200]})"
            yield TextPart(f"{file.name}, row {number + 1}", "", fault)
        except OSError as error:
            raise StorageError(f"{file.place} cannot be read: {error}.") from None


def _value_parts(place: str, value: object, options: TextConfig) -> Iterator[TextPart]:
    """The value of a field as a document."""
    if not isinstance(value, str):
        told = "null" if value is None else f"a {type(value).__name__}"
        yield TextPart(place, "", f"its {options.field!r} is {told}, a text is needed")
    elif not value.strip():
        yield TextPart(place, "", f"its {options.field!r} is an empty text")
    else:
        for number, piece in enumerate(_pieces(value, options.max_document_bytes)):
            yield TextPart(place, piece, is_rest=number > 0)


def _pieces(text: str, limit: int) -> Iterator[str]:
    """A text in pieces of up to ``limit`` bytes, cut at the last line end or space where there is one.

    >>> list(_pieces("a bc def", 4)), list(_pieces("äöü", 5))
    (['a bc', 'def'], ['äö', 'ü'])
    """
    content, start = text.encode(), 0
    while len(content) - start > limit:
        stop = max(content.rfind(sign, start + 1, start + limit + 1) for sign in (b"\n", b" "))
        if stop < 0:
            stop = start + limit
            while content[stop] & 0xC0 == 0x80:
                stop -= 1
        if piece := content[start:stop].decode().strip():
            yield piece
        start = stop
    if rest := (content[start:].decode().strip() if start else text):
        yield rest
