"""What was seen of files when the lists were made, so that the next run knows at a glance whether one was touched.

::

    DATA/seen.json           state of the files that the options name; where it differs, the corpus is gathered again
    DATA/audio_hashes.npy    hashes of audio by path, size, time and inode; only touched files are read again

Neither decides a byte of a shard: where one is missing, it is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lst import storage
from lst.data.audio.content import AudioHashes, bare_url, file_key
from lst.data.corpora import ManifestRow
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


def listed_files(listed: Iterable[FileList]) -> set[str]:
    """The places of the files of corpora."""
    return {str(files.place / name) for files in listed for name, *_ in files.marks or ()}


def outside_audio(rows: Iterable[object], listed: Iterable[FileList]) -> str:
    """Fingerprint of the state of audio files that no corpus's listing holds; empty where there is none."""
    there = listed_files(listed)
    places = {row.path for row in rows if isinstance(row, ManifestRow) and isinstance(row.path, Path)}
    keys = sorted(file_key(path, "", {}) for path in places if str(path) not in there)
    return hashlib.sha256(b"".join(keys)).hexdigest()[:16] if keys else ""
