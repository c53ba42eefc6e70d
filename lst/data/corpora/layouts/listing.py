"""What all layouts share: the files of a corpus, pairing audio with transcripts, ids, splits in names."""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lst.data.audio import AUDIO_SUFFIXES
from lst.data.corpora.manifest import JSON_SUFFIXES, split_of
from lst.data.corpora.records import Record, first_json_object, json_records
from lst.data.corpora.row_table import RowTable, name_key, rows_of
from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import Progress
from lst.storage import FileList, list_files

LIST_SUFFIXES = (".txt", ".tsv", ".csv", *JSON_SUFFIXES)
# Files whose names a process looks at together.
NAMED_TOGETHER = 1_024
LHOTSE, NEMO, PEOPLES_SPEECH, PLAIN = "lhotse", "nemo", "peoples_speech", "manifest"
LHOTSE_RECORDINGS, LHOTSE_SUPERVISIONS = "lhotse recordings", "lhotse supervisions"


class Listing:
    """The files of a corpus, which is a folder or one file.

    Args:
        path: the folder or the file.
        found: the files of the folder, if they have been listed already.
        needs_text: whether audio without a transcript is a problem.
        num_workers: processes that read the lines of a manifest.

    Attributes:
        root: the folder, or the folder of the file.
        file: the file; None for a folder.
    """

    def __init__(
        self, path: Path, found: FileList | None = None, needs_text: bool = True, num_workers: int = 1
    ) -> None:
        self.needs_text, self.num_workers = needs_text, num_workers
        self.file = None if path.is_dir() else path
        self.root = path if path.is_dir() else path.parent
        self._found = found if self.file is None else None
        self._kinds: dict[Path, str] = {}

    @cached_property
    def found(self) -> FileList:
        """The files below the root, listed when they are first asked for, unless they were handed in."""
        return self._found or list_files(self.root)

    @cached_property
    def files(self) -> list[Path]:
        """Every file below the root, in a fixed order."""
        return [self.root / name for name in self.found.checked_names()]

    @property
    def each_file(self) -> Sequence[Path]:
        """``files``, each made when it is asked for: a list of millions of them is large."""
        return _Paths(self.root, self.found.checked_names())

    @cached_property
    def top(self) -> list[Path]:
        """The named file, or the files directly in the folder, sorted by name."""
        if self.file is not None:
            return [self.file]
        self.found.checked_names()
        return [self.root / name for name in self.found.top]

    def below(self, folder: Path) -> Listing:
        """The listing of a subfolder; a folder that was named as the corpus is not listed again for it."""
        found = self.found.below(folder.relative_to(self.root).as_posix()) if self.file is None else None
        return Listing(folder, found if found and found.names else None, self.needs_text, self.num_workers)

    def json_files(self, kind: str) -> list[Path]:
        """JSON-lines files in ``top`` whose first object has the keys of ``kind``."""
        return [file for file in self.top if file.name.endswith(JSON_SUFFIXES) and self.json_kind(file) == kind]

    def json_kind(self, file: Path) -> str:
        """What a JSON file holds: one of the kinds above; ``PLAIN`` for objects of any other."""
        if file not in self._kinds:
            self._kinds[file] = _json_kind(set(first_json_object(file)))
        return self._kinds[file]

    def relative(self, file: Path) -> str:
        """A file's path from the root, for messages."""
        return os.path.relpath(file, self.root)


class _Paths(Sequence[Path]):
    """Paths of files below a folder."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: Any) -> Any:
        names = self._names[number]
        return [self._root / name for name in names] if isinstance(number, slice) else self._root / names

    def texts(self, start: int, end: int) -> list[str]:
        """Some of them as texts, which are made in less time."""
        return [f"{self._root}/{name}" for name in self._names[start:end]]


@dataclass
class Found:
    """What a layout reads from a corpus.

    Attributes:
        rows: the utterances.
        problems: of the utterances that gave no row, and of audio without a transcript.
    """

    rows: RowTable = field(default_factory=RowTable)
    problems: list[ManifestProblem] = field(default_factory=list)

    def fail(self, place: str, message: str, id: str = "", path: Path | str | None = None, kind: str = "row") -> None:
        """Adds one problem; see ``ManifestProblem`` for the arguments."""
        self.problems.append(ManifestProblem(place, id, message, path, kind))

    def records(
        self, listing: Listing, file: Path, progress: Progress, lower_keys: bool = True
    ) -> Iterator[tuple[str, Record]]:
        """Yields (place, object) of each line of a JSON-lines file; a line that is no object becomes a problem."""
        for line, record in json_records(file, lower_keys):
            progress.advance()
            place = f"{listing.relative(file)} line {line}"
            if isinstance(record, str):
                self.fail(place, record)
            else:
                yield place, record

    def pair(self, row: ManifestRow, audio: dict[Path, Path], shown: str) -> None:
        """Adds a row with its audio file, or a problem if there is no such file.

        Args:
            row: its ``path`` is that of the audio file without the suffix.
            audio: from ``audio_by_stem``.
            shown: the path for the message.
        """
        if path := audio.get(Path(row.path)) or _in_another_form(Path(row.path), audio):
            self.rows.append(replace(row, path=path))
        else:
            message = f"transcript without audio: no {shown} with one of {' '.join(AUDIO_SUFFIXES)}"
            self.fail(row.place, message, row.id, kind="missing audio")

    def add_special(self, listing: Listing) -> None:
        """Adds a problem for each list and tar that is no regular file: layouts look for files alone."""
        places = {problem.place for problem in self.problems}
        for name in sorted(listing.found.special):
            if name.lower().endswith((*LIST_SUFFIXES, ".tar")) and name not in places:
                self.fail(name, "is no regular file (a broken link, a FIFO, a device or a socket): it is left out")

    def keep_without_text(self, listing: Listing) -> None:
        """Makes rows without a text of the problems whose audio lacks nothing but its transcript."""
        kept: list[ManifestProblem] = []
        per_row = Counter((problem.place, problem.id) for problem in self.problems)
        for problem in self.problems:
            if problem.kind == "missing transcript" and problem.path is not None:
                split = split_in_path(listing.root, Path(problem.path)) if isinstance(problem.path, Path) else ""
                self.rows.append(ManifestRow(problem.id, problem.path, "", split=split, place=problem.place))
            elif problem.row is not None and problem.row.unread == {"text"} and per_row[problem.place, problem.id] == 1:
                self.rows.append(replace(problem.row, text="", unread=frozenset()))
            else:
                kept.append(problem)
        self.problems[:] = kept

    def add_unused(
        self, folder: Path, files: Sequence[Path], remedy: str, used: Sequence[Path] = (), num_workers: int = 1
    ) -> None:
        """Adds a problem for each audio file without a transcript.

        Paths are compared resolved, so different spellings of one file count as the same.

        Args:
            folder: the corpus; places in messages start from it.
            files: its files.
            remedy: which transcript should name the file.
            used: files with a transcript that neither a row nor a problem names.
            num_workers: processes that look at names.
        """
        others = [*(problem.path for problem in self.problems if problem.path is not None), *used]
        place = Path.cwd()  # workers may be elsewhere
        stems = _stem_keys(place, others)
        for keys in ordered_map(partial(_stem_keys, place), self.rows.contents(NAMED_TOGETHER), num_workers):
            stems.extend(keys)
        audio_keys = array("Q")
        for keys in ordered_map(partial(_audio_keys, place), _names(files), num_workers):
            audio_keys.extend(keys)
        own_keys = np.array(audio_keys, np.uint64)
        is_unnamed = (own_keys != 0) & ~np.isin(own_keys, np.unique(np.array(stems, np.uint64)))
        left = list(audio_by_stem(files[number] for number in np.flatnonzero(is_unnamed).tolist()).values())
        named = chain((row.path for row in self.rows), others)
        real_names = set(map(os.path.realpath, map(os.path.abspath, named))) if left else set()
        for file in sorted(file for file in left if os.path.realpath(file) not in real_names):
            message = f"audio without transcript: {remedy}"
            self.fail(str(file.relative_to(folder)), message, file.stem, file, "missing transcript")


@dataclass(frozen=True)
class Layout:
    """A kind of corpus.

    Attributes:
        name: as in ``layout=``.
        looked_for: its characteristic files, for the message that no layout fits.
        absent: the message if ``find`` finds nothing in a corpus that the user says has this layout.
        find: its transcript files, tables or archives in a listing.
        read: reads those files; adds rows and problems to a ``Found``.
        is_sure: whether files that were found really are of this layout, where names alone do not tell.
        reads_any_file: whether a file that the user names with ``layout=`` is read without ``find``.
        lists: ends of its transcripts' names beside the usual ones (``LIST_SUFFIXES``). Behind a URL only lists are
            fetched; all other files are empty.
    """

    name: str
    looked_for: str
    absent: str
    find: Callable[[Listing], list[Path]]
    read: Callable[[Listing, list[Path], Found], None]
    is_sure: Callable[[Listing, list[Path]], bool] = lambda listing, files: True
    reads_any_file: bool = False
    lists: tuple[str, ...] = ()

    def matches(self, listing: Listing) -> bool:
        """Whether a corpus has this layout."""
        files = self.find(listing)
        return bool(files) and self.is_sure(listing, files)

    def load(self, listing: Listing) -> Found:
        """Reads a corpus; raises ``UserError`` if nothing in it has this layout."""
        files = [listing.file] if self.reads_any_file and listing.file is not None else self.find(listing)
        if not files:
            raise UserError(f"corpus {listing.file or listing.root}: {self.absent}")
        found = Found()
        self.read(listing, files, found)
        if listing.file is None:
            found.add_special(listing)
        return found


def _names(files: Sequence[Path]) -> Iterator[list[str]]:
    """Paths of files, so many at a time."""
    for start in range(0, len(files), NAMED_TOGETHER):
        end = start + NAMED_TOGETHER
        yield files.texts(start, end) if isinstance(files, _Paths) else list(map(str, files[start:end]))


def _stem_keys(place: Path, named: bytes | Iterable[Path | str]) -> array[int]:
    """``name_key`` of the whole path, without its suffix, of each file; ``place`` is where relative ones start."""
    paths = (row.path for row in rows_of(named)) if isinstance(named, bytes) else named
    return array("Q", (name_key(os.path.splitext(_whole(place, path))[0]) for path in paths))


def _audio_keys(place: Path, paths: Sequence[str]) -> array[int]:
    """The same of audio files; 0 for all others."""
    whole = (os.path.splitext(_whole(place, path)) for path in paths)
    return array("Q", (name_key(stem) if suffix.lower() in AUDIO_SUFFIXES else 0 for stem, suffix in whole))


def _whole(place: Path, path: Path | str) -> str:
    return os.path.normpath(os.path.join(place, path))


def _json_kind(keys: set[str]) -> str:
    if "supervisions" in keys and ({"recording", "tracks"} & keys or "start" in keys):
        return LHOTSE
    if {"sources", "sampling_rate", "id"} <= keys:
        return LHOTSE_RECORDINGS
    if {"recording_id", "start", "duration"} <= keys and "storage_type" not in keys:
        return LHOTSE_SUPERVISIONS
    if "training_data" in keys or {"duration_ms", "label", "name"} <= keys or {"duration_ms", "text", "id"} <= keys:
        return PEOPLES_SPEECH
    return NEMO if "audio_filepath" in keys else PLAIN


def _in_another_form(stem: Path, audio: dict[Path, Path]) -> Path | None:
    """The audio whose name differs in its Unicode form alone: composed accents (NFC), or accents apart (NFD)."""
    if str(stem).isascii():
        return None
    forms = (Path(unicodedata.normalize(form, str(stem))) for form in ("NFC", "NFD"))
    return next((audio[form] for form in forms if form in audio), None)


def audio_by_stem(files: Iterable[Path]) -> dict[Path, Path]:
    """Audio files by their path without the suffix; of ``a.flac`` and ``a.wav``, AUDIO_SUFFIXES decides by order."""
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    audio.sort(key=lambda file: AUDIO_SUFFIXES.index(file.suffix.lower()), reverse=True)
    return {file.with_suffix(""): file for file in audio}


def split_in_name(*names: str) -> str:
    """The first split that is a part of one of these names; empty if there is none.

    >>> split_in_name("cuts_train-clean-100.jsonl"), split_in_name("cuts.jsonl", "dev"), split_in_name("cuts.jsonl")
    ('train', 'valid', '')
    """
    splits = (split_of(part) for name in names for part in re.split(r"[_.]", name))
    return next(filter(None, splits), "")


def split_in_path(root: Path, file: Path) -> str:
    """The split in a file's name, else in a folder between it and the root, else in the root's own name."""
    folders = Path(os.path.relpath(file, root)).parts[:-1]
    return split_in_name(file.name, *reversed(folders), root.resolve().name)
