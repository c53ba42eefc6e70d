"""What was seen of files when the lists were made, so that the next run knows at a glance whether one was touched.

::

    DATA/seen.json           state of the files that the options name; where it differs, the corpus is gathered again
    DATA/audio_hashes.npy    hashes of audio by path, size, time and inode; only touched files are read again

Neither decides a byte of a shard: where one is missing, it is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lst import storage
from lst.data.audio.content import KEY_BYTES, AudioHashes, bare_url, file_key
from lst.data.corpora import ManifestRow
from lst.data.corpora.row_table import Picked, name_key
from lst.data.shards.formats import Seen
from lst.storage import FileList, Folder, FormatError, is_url, parse_json
from lst.storage.arrays import read_arrays

SEEN_FILE, AUDIO_HASHES_FILE = "seen.json", "audio_hashes.npy"


def read_seen(folder: Folder) -> Seen | None:
    """What an earlier run saw; None where there was none, or its record is damaged."""
    try:
        return parse_json(storage.read_bytes(folder / SEEN_FILE), Seen)
    except (FileNotFoundError, FormatError):
        return None


def read_audio_hashes(folder: Folder) -> AudioHashes:
    """Hashes of an earlier run; none where there was none, or they are damaged."""
    empty = np.zeros((0, 0), np.uint8)
    try:
        table = read_arrays(storage.local_copy(folder / AUDIO_HASHES_FILE)).get("", empty)
    except (OSError, FormatError):
        table = empty
    return AudioHashes.from_table(table)


def write_audio_hashes(folder: Folder, hashes: AudioHashes) -> None:
    """Writes them for the next run."""
    with storage.staged(folder / AUDIO_HASHES_FILE) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array(file, hashes.to_table(), allow_pickle=False)


def listed_urls(listed: Iterable[FileList]) -> dict[str, str]:
    """Size and tag of each file of corpora behind URLs, by ``bare_url``."""
    behind = [files for files in listed if is_url(files.place)]
    return {bare_url(name): f"{size} {tag}" for files in behind for name, size, tag in files.marks or ()}


@dataclass(frozen=True)
class ListedFiles:
    """The places of the files of corpora, by ``name_key``, in order."""

    keys: np.ndarray

    def has(self, path: Path) -> bool:
        """Whether a file is one of them."""
        return bool(self.have(np.array([name_key(str(path))], np.uint64))[0])

    def have(self, keys: np.ndarray) -> np.ndarray:
        """Whether each of some files is one of them, by their keys."""
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        found: np.ndarray = self.keys[np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)] == keys
        return found


def listed_files(listed: Iterable[FileList]) -> ListedFiles:
    """The places of the files of corpora."""
    places = (str(files.place / name) for files in listed for name, *_ in files.marks or ())
    return ListedFiles(np.unique(np.fromiter(map(name_key, places), np.uint64)))


def outside_audio(rows: Sequence[object], there: ListedFiles, places: np.ndarray | None = None) -> str:
    """Fingerprint of the state of audio files that no corpus's listing holds; empty where there is none.

    Args:
        rows: of all corpora.
        there: the files of their listings.
        places: as of ``HashedRows``, if they are known.
    """
    if places is not None:
        rows = Picked(rows, np.flatnonzero((places != 0) & ~there.have(places)))
    outside = (
        file_key(row.path, "", {})
        for row in rows
        if isinstance(row, ManifestRow) and isinstance(row.path, Path) and not there.has(row.path)
    )
    keys = np.unique(np.fromiter(outside, f"S{KEY_BYTES}"))
    return hashlib.sha256(keys.tobytes()).hexdigest()[:16] if len(keys) else ""
