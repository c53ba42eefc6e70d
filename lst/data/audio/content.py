"""Hashes of audio files and of tars' members, kept from run to run: a file is read again only once it was touched.

::

    path, member ──file_key──▶ 16 bytes of path, size, time of change, inode ──known?──▶ SHA-256 of the content
                                                                                 └─ no: the file is read

Of audio behind a URL nothing is read: what the listing tells of it (size, entity tag or time) stands for its content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lst.data.audio.tars import open_audio_bytes
from lst.errors import UserError
from lst.storage import is_url
from lst.storage.fingerprints import sha256_of

KEY_BYTES, HASH_BYTES = 16, 32


class AudioHashes(NamedTuple):
    """Hashes of audio that was read before.

    Attributes:
        keys: bytes [num_files], from ``file_key``, in order.
        hashes: uint8 [num_files, 32], SHA-256 of each.
    """

    keys: np.ndarray
    hashes: np.ndarray

    @classmethod
    def from_table(cls, table: np.ndarray) -> AudioHashes:
        """From ``to_table``; what is no such table holds no hash."""
        if table.dtype != np.uint8 or table.ndim != 2 or table.shape[1] != KEY_BYTES + HASH_BYTES:
            table = np.zeros((0, KEY_BYTES + HASH_BYTES), np.uint8)
        keys = np.ascontiguousarray(table[:, :KEY_BYTES]).view(f"S{KEY_BYTES}").reshape(-1)
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], table[order, KEY_BYTES:])

    def joined(self, other: AudioHashes) -> AudioHashes:
        """These hashes and further ones."""
        if not len(other.keys):
            return self
        return AudioHashes.from_table(np.concatenate([self.to_table(), other.to_table()]))

    def to_table(self) -> np.ndarray:
        """uint8 [num_files, 48]: key and hash of each file."""
        keys = self.keys.view(np.uint8).reshape(-1, KEY_BYTES)
        return np.concatenate([keys, self.hashes], axis=1)

    def places_of(self, keys: np.ndarray) -> np.ndarray:
        """Where each key lies in ``keys``; -1 where it is not known."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)


def hash_file(path: Path | str, member: str, listed: Mapping[str, str]) -> bytes:
    """SHA-256 of an audio file; of a URL, of what its listing tells."""
    if is_url(path):
        return hashlib.sha256(repr((str(path), member, listed.get(bare_url(path), ""))).encode()).digest()
    try:
        with open_audio_bytes(path, member) as file:
            return bytes.fromhex(sha256_of(file))
    except UserError:
        # It went or broke since its header was read: making its shard tells.
        return bytes(HASH_BYTES)


def bare_url(url: Path | str) -> str:
    """A URL without its protocol, as storages list it: they differ in whether they name the protocol and a slash."""
    text = str(url)
    return (text.partition("://")[2] if is_url(text) else text).lstrip("/")


def file_key(path: Path | str, member: str, listed: Mapping[str, str]) -> bytes:
    """16 bytes that differ once a file is touched: of its path, size, time of change and inode."""
    if is_url(path):
        state: tuple[object, ...] = (listed.get(bare_url(path), ""),)
    else:
        try:
            stat = os.stat(path)
            state = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        except OSError:
            state = ()
    name = repr((str(path), member, *state)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=KEY_BYTES).digest()
