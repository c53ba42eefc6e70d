"""Short names of content: hashes of files, of settings, and of all files below a place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from lst.storage.places import Url, file_system, locate, named_errors


def fingerprint(value: Any) -> str:
    """A short hash of any JSON-able value, the same for equal values whatever the order of their keys."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differing_settings(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each value, however deep, in which two records of settings differ."""
    flat_then, flat_now = _flat(then), _flat(now)
    return [
        f"{key}: {flat_then.get(key)!r} then, {flat_now.get(key)!r} now"
        for key in sorted({*flat_then, *flat_now})
        if flat_then.get(key) != flat_now.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of an open file's content from where it stands, as hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def files_fingerprint(place: str | None) -> str | None:
    """Names the files at or below a place by name, size and time of change; None where there is none.

    It changes when recordings or transcripts of a corpus change. Behind a URL the entity tag counts, or else the time
    of change, where the storage keeps one.
    """
    if place is None:
        return None
    found = locate(place)
    marks = _url_marks(found) if isinstance(found, Url) else _local_marks(found)
    return fingerprint(marks) if marks is not None else None


def _url_marks(url: Url) -> list[tuple[str, int, str]] | None:
    with named_errors(url):
        system, path = file_system(url, fresh=True)
        entries = system.find(path, detail=True)
    keys = ("ETag", "etag", "LastModified", "mtime", "created")
    marks = [
        (name, entry["size"], str(next((entry[key] for key in keys if entry.get(key)), "")))
        for name, entry in sorted(entries.items())
    ]
    return marks or None


def _local_marks(path: Path) -> list[tuple[str, int, int]] | None:
    if not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    stats = [(str(file.relative_to(path)), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
