"""All files below a place, listed once with their sizes and times: for fingerprints, and for those who look for files.

A listing of a large corpus takes minutes, so it is made once and handed on. What this project writes itself, run
folders and prepared data, is no part of a corpus that it lies in: such folders are not looked into.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lst.errors import StorageError, UserError
from lst.progress import Progress
from lst.storage.fingerprints import fingerprint_each
from lst.storage.packed import Mark, PackedMarks, PackedNames, PickedNames
from lst.storage.places import Folder, Location, Url, leads_out, locate, remote

# What an entry of fsspec's listings may call the tag or the time of change, the most telling first.
_MARK_KEYS = ("ETag", "etag", "LastModified", "mtime", "created")
# A folder that holds all files of one of these groups is prepared data, a run, a training, or a benchmark.
_OWN_FILES = (
    {"source.json", "texts.jsonl"},
    {"made_from.json", "texts.jsonl"},
    {"index.json", "units.safetensors"},
    {"manifest.jsonl", "texts.jsonl", "shards"},
    {"manifest.jsonl", "texts.jsonl", ".lock"},
    {"commands.json", "data"},
    {"commands.json", "models"},
    {"settings.json", "config.yaml", "versions.json"},
    {"card.json", "index.json", "shards"},
)


@dataclass(frozen=True)
class FileList:
    """The files at or below a place.

    Attributes:
        place: a folder or a file; a path or a URL.
        marks: of all files in order, including hidden files, excluding files behind links to folders; None if nothing
            is there.
        names: paths from ``place`` of files that are not hidden, folder by folder. Links to folders are followed; each
            folder is visited once. A URL of a file has the one name ``""``.
        special: names that are no regular file, such as broken links and FIFOs.
        problem: why a folder could not be read; empty where all could.
        inodes: of the files of ``marks``, in order; none behind a URL.
    """

    place: Folder
    marks: Sequence[Mark] | None = None
    names: Sequence[str] = ()
    special: frozenset[str] = frozenset()
    problem: str = ""
    inodes: Sequence[int] = ()

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the names, sizes and times of change of all files; None if nothing is there."""
        return None if self.marks is None else fingerprint_each(self.marks)

    @property
    def state(self) -> str | None:
        """The same of files that are not hidden, with their inodes: a file put in another's place is told, too."""
        if self.marks is None:
            return None
        inodes = self.inodes or [0] * len(self.marks)
        pairs = zip(self.marks, inodes, strict=True)
        return fingerprint_each(pair for pair in pairs if not _is_hidden(pair[0][0]))

    @property
    def top(self) -> list[str]:
        """Names of the regular files directly in the folder."""
        return [name for name in self.names if name and "/" not in name and name not in self.special]

    def below(self, name: str) -> FileList:
        """The part of the list that lies in a subfolder; it has no marks."""
        prefix = f"{name}/"
        names = [other.removeprefix(prefix) for other in self.names if other.startswith(prefix)]
        special = frozenset(other.removeprefix(prefix) for other in self.special if other.startswith(prefix))
        return FileList(self.place / name, None, names, special, self.problem)

    def checked_names(self) -> Sequence[str]:
        """``names``; raises ``UserError`` where a folder could not be read or a name is not UTF-8."""
        if self.problem:
            raise UserError(self.problem)
        if (faulty := next((name for name in self.names if not _is_utf8(name)), None)) is not None:
            file = f"{self.place}/{faulty}"
            raise UserError(f"corpus {self.place}: the file name {file!a} is not UTF-8. Rename it.")
        return self.names


def list_files(place: Location, without: Folder | None = None) -> FileList:
    """Lists the files at or below a place; an absent place has none.

    Args:
        place: a folder or a file.
        without: a folder that is not looked into, beside those that this project wrote; see ``is_own_folder``.
    """
    found = locate(place)
    if isinstance(found, Url):
        return _list_url(found, f"{without}/")
    if found.is_dir():
        with Progress(None, f"looking through {found.name}", unit="file") as progress:
            return _Walk(found, progress, None if without is None else os.path.realpath(without)).files()
    if not found.exists():
        return FileList(found)
    stat = found.stat()
    return FileList(found, [(".", stat.st_size, stat.st_mtime_ns)], inodes=[stat.st_ino])


def files_fingerprint(place: str | None) -> str | None:
    """The fingerprint of the files at or below a place; None where there is none.

    It changes when recordings or transcripts of a corpus change. Behind a URL the entity tag counts, or else the time
    of change, where the storage keeps one.
    """
    return None if place is None else list_files(place).fingerprint


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads to itself is of none."""
    try:
        return kind()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    """Whether a path leads through a hidden folder or to a hidden file; ``.`` alone is the place itself."""
    return name != "." and any(part.startswith(".") for part in name.split("/"))


def is_own_folder(names: Collection[str]) -> bool:
    """Whether a folder with files and folders of these names was written by this project.

    >>> is_own_folder(["index.json", "shards", "units.safetensors"]), is_own_folder(["manifest.jsonl", "a.wav"])
    (True, False)
    """
    return any(group.issubset(names) for group in _OWN_FILES)


def _own_folders(names: Sequence[str]) -> list[str]:
    """Folders, with a slash at their end, among the paths of files that ``is_own_folder`` tells."""
    inside: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            inside.setdefault("/".join(parts[:depth]) + "/", set()).add(parts[depth])
    return [folder for folder, own in inside.items() if is_own_folder(own)]


def _list_url(url: Url, without: str) -> FileList:
    with remote(url, fresh=True) as (system, path):
        try:
            # Of a single file, HTTP's listing knows nothing but that it is there.
            entries = [
                (name, entry or system.info(name)) for name, entry in sorted(system.find(path, detail=True).items())
            ]
        except FileNotFoundError:
            entries = []
    marks = [
        (name, entry["size"], str(next((entry[key] for key in _MARK_KEYS if entry.get(key)), "")))
        for name, entry in entries
    ]
    names = [name.removeprefix(path.rstrip("/")).lstrip("/") for name, _ in entries]
    if outside := [name for name in names if leads_out(name)]:
        raise StorageError(f"{url} lists {outside[0][:100]!r}, which leads out of it.")
    skipped = without.removeprefix(f"{url.rstrip('/')}/")
    if own := (*_own_folders(names), *([skipped] if any(name.startswith(skipped) for name in names) else [])):
        kept = [number for number, name in enumerate(names) if not name.startswith(own)]
        marks, names = [marks[number] for number in kept], [names[number] for number in kept]
    return FileList(url, marks or None, [name for name in names if not _is_hidden(name)])


@dataclass
class _Walk:
    """One walk through a local folder that finds both marks and names."""

    root: Path
    progress: Progress
    without: str | None = None
    found: PackedNames = field(default_factory=PackedNames)
    named: array[int] = field(default_factory=lambda: array("I"))
    special: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    problem: str = ""

    def files(self) -> FileList:
        """Walks, and returns what was found."""
        marks = PackedMarks(self.found)
        self._visit(marks, str(self.root), "", is_direct=True, is_named=True)
        names = PickedNames(self.found, self.named)
        return FileList(self.root, marks, names, frozenset(self.special), self.problem, marks.inodes)

    def _visit(self, marks: PackedMarks, folder: str, prefix: str, is_direct: bool, is_named: bool) -> None:
        """Names of a folder's files come before those of its folders, marks in the order of all names.

        ``is_direct``: reached through no link. ``is_named``: not hidden, and not visited by another way before.
        """
        if is_named:
            real = os.path.realpath(folder)
            is_named = real not in self.seen
            self.seen.add(real)
        if not (is_direct or is_named):
            return
        try:
            with os.scandir(folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            if is_named:
                self.problem = self.problem or f"folder {folder} cannot be read: {error.strerror}."
            return
        if prefix and (is_own_folder({entry.name for entry in entries}) or os.path.realpath(folder) == self.without):
            return
        numbers = {entry.name: self._add(entry, prefix, is_named) for entry in entries if not _is(entry.is_dir)}
        for entry in entries:
            if entry.name not in numbers:
                self._visit(
                    marks,
                    entry.path,
                    f"{prefix}{entry.name}/",
                    is_direct and not entry.is_symlink(),
                    is_named and not entry.name.startswith("."),
                )
            elif is_direct and _is(entry.is_file):
                stat = entry.stat()
                marks.add(numbers[entry.name], stat.st_size, stat.st_mtime_ns, stat.st_ino)

    def _add(self, entry: os.DirEntry[str], prefix: str, is_named: bool) -> int:
        """Adds a file, hidden or not; returns its number."""
        number = self.found.add(prefix, entry.name)
        if is_named and not entry.name.startswith("."):
            self.named.append(number)
            self.progress.advance()
            if not _is(entry.is_file):
                self.special.add(prefix + entry.name)
        return number
