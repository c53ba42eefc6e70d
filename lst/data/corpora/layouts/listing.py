"""A corpus as its files, and what all layouts share: pairing audio with transcripts, ids, splits in names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lst.data.audio import AUDIO_SUFFIXES
from lst.data.corpora.manifest import ManifestProblem, ManifestRow, split_of
from lst.data.corpora.records import first_json_object
from lst.storage import FileList, list_files

Found = tuple[list[ManifestRow], list[ManifestProblem]]
JSON_LINES_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
LHOTSE, NEMO, PEOPLES_SPEECH, PLAIN = "lhotse", "nemo", "peoples_speech", "manifest"


class Listing:
    """A corpus: a folder, or one file that stands for it.

    Args:
        path: the folder or the file.
        found: the files of the folder, if they have been listed already.

    Attributes:
        root: the folder; of a file, the folder that holds it.
        file: the file, or None.
    """

    def __init__(self, path: Path, found: FileList | None = None) -> None:
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

    @cached_property
    def top(self) -> list[Path]:
        """The file that was named, or else those directly in the folder, in order of their names."""
        if self.file is not None:
            return [self.file]
        self.found.checked_names()
        return [self.root / name for name in self.found.top]

    def below(self, folder: Path) -> Listing:
        """The listing of a subfolder; a folder that was named as the corpus is not listed again for it."""
        found = self.found.below(folder.relative_to(self.root).as_posix()) if self.file is None else None
        return Listing(folder, found if found and found.names else None)

    def json_files(self, kind: str) -> list[Path]:
        """Files of JSON lines at the top that hold records of one kind, told by their first object's keys."""
        return [file for file in self.top if file.name.endswith(JSON_LINES_SUFFIXES) and self.json_kind(file) == kind]

    def json_kind(self, file: Path) -> str:
        """What a file of JSON lines holds: lhotse cuts, a NeMo or a People's Speech manifest, or another."""
        if file not in self._kinds:
            self._kinds[file] = _json_kind(set(first_json_object(file)))
        return self._kinds[file]

    def relative(self, file: Path) -> str:
        return os.path.relpath(file, self.root)


class Layout(NamedTuple):
    """A kind of corpus.

    Attributes:
        name: as in ``layout=``.
        looked_for: how it is told, for messages.
        matches: whether a listing has it.
        load: its rows, and the problems of those utterances that gave none.
    """

    name: str
    looked_for: str
    matches: Callable[[Listing], bool]
    load: Callable[[Listing], Found]


def _json_kind(keys: set[str]) -> str:
    if "supervisions" in keys and ({"recording", "tracks"} & keys or "start" in keys):
        return LHOTSE
    if "training_data" in keys or {"duration_ms", "label", "name"} <= keys or {"duration_ms", "text", "id"} <= keys:
        return PEOPLES_SPEECH
    return NEMO if "audio_filepath" in keys else PLAIN


def audio_by_stem(files: Iterable[Path]) -> dict[Path, Path]:
    """Audio files by their path without suffix; of ``a.flac`` and ``a.wav`` the one first in AUDIO_SUFFIXES counts."""
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    audio.sort(key=lambda file: AUDIO_SUFFIXES.index(file.suffix.lower()), reverse=True)
    return {file.with_suffix(""): file for file in audio}


def audio_without_transcript(
    folder: Path, files: Sequence[Path], used_files: Iterable[Path | str], remedy: str
) -> list[ManifestProblem]:
    """A problem for each audio file that is not among ``used_files``, however either path is written."""
    used = [os.path.abspath(file) for file in used_files]
    stems = {os.path.splitext(name)[0] for name in used}
    left = [file for stem, file in audio_by_stem(files).items() if os.path.abspath(stem) not in stems]
    if left:
        real_names = {os.path.realpath(name) for name in used}
        left = sorted(file for file in left if os.path.realpath(file) not in real_names)
    message = f"audio without transcript: {remedy}"
    return [
        ManifestProblem(str(file.relative_to(folder)), file.stem, message, file, "missing transcript") for file in left
    ]


def transcript_without_audio(place: str, utterance_id: str, stem: str) -> ManifestProblem:
    message = f"transcript without audio: no {stem} with one of {' '.join(AUDIO_SUFFIXES)}"
    return ManifestProblem(place, utterance_id, message, kind="missing audio")


def safe_id(name: str) -> str:
    """A name as an utterance's id: what an id must not have becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name.removeprefix("./"))


def split_in_name(*names: str) -> str:
    """The first split that is a part of one of these names (``cuts_train-clean-100.jsonl``); empty where none is."""
    for name in names:
        for part in re.split(r"[_.]", name):
            if split := split_of(part):
                return split
    return ""


def split_in_path(root: Path, file: Path) -> str:
    """The split that a file's name gives, or else the folders between it and the root, or else the root's own name."""
    folders = Path(os.path.relpath(file, root)).parts[:-1]
    return split_in_name(file.name, *reversed(folders), root.resolve().name)
