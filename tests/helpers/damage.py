"""Damage of files, drawn by hypothesis: of bytes, of JSON within them, of tars, and of what a name stands for."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lst.errors import LstError

DEEP = "[" * 20_000 + "]" * 20_000
VALUES: list[Any] = [
    *(None, True, False, "", "text", "../../../etc/passwd", "/dev/zero", "\x1b[2Jevil\nname", "\ud800", "x" * 3_000),
    *(-1, 0, 1, 7, -0.5, 1e-300, 2**31, 2**63, 10**9, 10**30, -(10**30), math.nan, math.inf, -math.inf, 1e308),
    *([], [1], [[1]], ["a", "a"], [None], {}, {"a": 1}, {"": {}}, "${oc.env:HOME}", "???", "http://127.0.0.1/x"),
]
BYTES = [b"\0", b"\n", b"\xff", b"\xef\xbb\xbf", b"{", b"]", b'"', b",", b"\t", b"-1", b"9" * 30, b"NaN", b"\r\n", b" "]
BYTE_EDITS = ("cut", "head lost", "flip", "zero", "double", "insert", "append")
JSON_EDITS = ("drop", "rename", "replace", "twice", "nest", "deep")
TAR_EDITS = ("member lost", "member twice", "member first", "member renamed", "member changed", "size", "type")
PLACES = ("removed", "empty", "folder", "pipe", "device", "loop", "nowhere", "other file")


@dataclass(frozen=True)
class Edit:
    """A change of a content.

    Attributes:
        kind: one of ``BYTE_EDITS``, ``JSON_EDITS`` and ``TAR_EDITS``.
        at: chooses the place, counted round.
        size: of the bytes that are changed; chooses a place within a place.
        value: put there.
    """

    kind: str
    at: int
    size: int
    value: Any

    def apply(self, content: bytes) -> bytes:
        """The changed content; as it was where there is no such place."""
        if self.kind in BYTE_EDITS:
            return _edited_bytes(content, self)
        if self.kind in TAR_EDITS:
            return _edited_tar(content, self)
        if _is_tensors(content):
            size = int.from_bytes(content[:8], "little")
            header = _edited_json(content[8 : 8 + size], self)
            return len(header).to_bytes(8, "little") + header + content[8 + size :]
        lines = content.splitlines(keepends=True)
        is_lines = len(lines) > 1 and all(line.startswith(b"{") for line in lines)
        if is_lines:
            place = self.at % len(lines)
            lines[place] = _edited_json(lines[place], self) + b"\n"
            return b"".join(lines)
        return _edited_json(content, self)


@dataclass(frozen=True)
class Damage:
    """What happens to one file.

    Attributes:
        file: its path from the folder.
        edits: of its content; none where ``place`` says what stands in its place.
        place: one of ``PLACES``, or empty.
        other: whose content it gets with ``place="other file"``.
    """

    file: str
    edits: tuple[Edit, ...] = ()
    place: str = ""
    other: str = ""

    def do(self, folder: Path) -> None:
        """Does it to the file below ``folder``."""
        path = folder / self.file
        content = path.read_bytes()
        for edit in self.edits:
            content = edit.apply(content)
        if self.place == "other file":
            other = folder / self.other
            # It may be damaged itself.
            content = other.read_bytes() if other.is_file() else b""
        if not self.place or self.place in ("empty", "other file"):
            path.write_bytes(b"" if self.place == "empty" else content)
            return
        path.unlink()
        if self.place == "folder":
            path.mkdir()
        elif self.place == "pipe":
            os.mkfifo(path)
        elif self.place != "removed":
            path.symlink_to({"device": "/dev/zero", "loop": path, "nowhere": path.with_name("nowhere")}[self.place])


class Pristine:
    """A folder whose files are put back after each damage.

    Args:
        folder: as it must be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}

    @property
    def names(self) -> list[str]:
        """Paths of the files, from the folder."""
        return sorted(self.contents)

    def restore(self) -> None:
        """Removes what is new and writes what was changed or lost."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            name = path.relative_to(self.folder).as_posix()
            is_parent = any(known.startswith(f"{name}/") for known in self.contents)
            if path.is_symlink() or not (path.is_dir() or (path.is_file() and name in self.contents)):
                path.unlink()
            elif path.is_dir() and not is_parent:
                shutil.rmtree(path)
        for name, content in self.contents.items():
            path = self.folder / name
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def is_changed(self, name: str) -> bool:
        """Whether a file is another one now."""
        path = self.folder / name
        return path.is_symlink() or not path.is_file() or path.read_bytes() != self.contents[name]


def edits(kinds: Sequence[str]) -> st.SearchStrategy[Edit]:
    """One edit of some kinds."""
    numbers = st.integers(0, 1 << 20)
    return st.builds(Edit, st.sampled_from(kinds), numbers, st.integers(1, 64), st.sampled_from(VALUES))


def damages(names: Sequence[str], contents: Mapping[str, bytes]) -> st.SearchStrategy[Damage]:
    """Damage of one of some files, as its content suggests: JSON within JSON, members within tars."""

    def of(name: str) -> st.SearchStrategy[Damage]:
        kinds: tuple[str, ...] = BYTE_EDITS
        if name.endswith((".json", ".jsonl", ".safetensors", "COMPLETE")):
            kinds = (*JSON_EDITS, *JSON_EDITS, *BYTE_EDITS)
        elif name.endswith(".tar"):
            kinds = (*TAR_EDITS, *BYTE_EDITS)
        changed = st.lists(edits(kinds), min_size=1, max_size=2).map(lambda found: Damage(name, tuple(found)))
        placed = st.builds(
            Damage, st.just(name), place=st.sampled_from(PLACES), other=st.sampled_from(sorted(contents))
        )
        return st.one_of(changed, changed, changed, placed)

    return st.sampled_from(sorted(names)).flatmap(of)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _is_tensors(content: bytes) -> bool:
    size = int.from_bytes(content[:8], "little")
    return 2 <= size <= len(content) - 8 and content[8:9] == b"{"


def _edited_bytes(content: bytes, edit: Edit) -> bytes:
    at = edit.at % (len(content) + 1)
    before, part, after = content[:at], content[at : at + edit.size], content[at + edit.size :]
    some = BYTES[edit.size % len(BYTES)]
    return {
        "cut": before,
        "head lost": content[at:],
        "flip": before + bytes([content[at] ^ (1 << edit.size % 8)]) + content[at + 1 :]
        if at < len(content)
        else content,
        "zero": before + bytes(len(part)) + after,
        "double": before + part + part + after,
        "insert": before + some + content[at:],
        "append": content + some * edit.size,
    }[edit.kind]


def _edited_json(content: bytes, edit: Edit) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places = list(_places(value))
    if not places or edit.kind == "deep":
        return DEEP.encode() if edit.kind == "deep" else json.dumps(edit.value).encode()
    holder, key = places[(edit.at + edit.size) % len(places)]
    text = ""
    if edit.kind == "drop":
        del holder[key]
    elif edit.kind == "rename" and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
    elif edit.kind == "nest":
        holder[key] = [copy.deepcopy(holder[key])]
    elif edit.kind == "twice" and isinstance(holder, dict):
        # JSON with the same key twice cannot be written by its own module.
        text = json.dumps(value).replace(
            f"{json.dumps(key)}:", f"{json.dumps(key)}: {json.dumps(edit.value)}, {json.dumps(key)}:", 1
        )
    else:
        holder[key] = edit.value
    return (text or json.dumps(value)).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value: its holder and its key or index there."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        yield value, key
        yield from _places(item)


def _edited_tar(content: bytes, edit: Edit) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(member, tar.extractfile(member).read()) for member in tar if member.isreg()]  # type: ignore[union-attr]
    except (tarfile.TarError, ValueError, OverflowError):
        return content
    if not members:
        return content
    at = edit.at % len(members)
    member, data = members[at]
    if edit.kind in ("size", "type"):
        return _edited_header(content, member.offset, edit)
    if edit.kind == "member lost":
        del members[at]
    elif edit.kind == "member twice":
        members.insert(edit.size % len(members), members[at])
    elif edit.kind == "member first":
        members.insert(0, members.pop(at))
    elif edit.kind == "member renamed":
        names = [
            "../x.json",
            "/etc/passwd",
            f"{member.name}.gz",
            "x",
            ".json",
            "\x1b[2J.json",
            "a/b/c.units.npy",
            "x" * 300,
        ]
        member.name = names[edit.size % len(names)]
    else:
        kinds = JSON_EDITS if member.name.endswith(".json") and edit.size % 3 else BYTE_EDITS
        inner = Edit(kinds[edit.at // 7 % len(kinds)], edit.at // 3, edit.size, edit.value)
        members[at] = (member, inner.apply(data))
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for one, inside in members:
            info = tarfile.TarInfo(one.name)
            info.size = len(inside)
            tar.addfile(info, io.BytesIO(inside))
    return written.getvalue()


def _edited_header(content: bytes, offset: int, edit: Edit) -> bytes:
    """A member whose header asks for another size, or says that it is a link, a device or sparse; its sum is right."""
    header = bytearray(content[offset : offset + 512])
    if edit.kind == "type":
        header[156:157] = b"123456SLKgx"[edit.size % 11 :][:1]
        header[157:167] = b"/etc/passw"
    else:
        sizes = [
            b"77777777777\0",
            b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7,
            b"\xff" * 12,
            b"00000000000\0",
            b"-0000000001\0",
        ]
        header[124:136] = sizes[edit.size % len(sizes)]
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:offset] + bytes(header) + content[offset + 512 :]


def error_of(load: Callable[[], object]) -> str:
    """The words of the error that loading raises; empty where it raises none."""
    try:
        load()
    except LstError as error:
        return str(error)
    return ""
