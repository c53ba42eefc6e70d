"""Short names of content: hashes of files and of settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO


def fingerprint(value: Any) -> str:
    """A short hash of any JSON-able value, the same for equal values whatever the order of their keys."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def fingerprint_each(values: Iterable[Any]) -> str:
    """``fingerprint`` of the list of these values, which is never held as a whole.

    >>> fingerprint_each(iter(["a", 1])) == fingerprint(["a", 1])
    True
    """
    digest, mark = hashlib.sha256(b"["), b""
    for value in values:
        digest.update(mark + json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode())
        mark = b","
    digest.update(b"]")
    return digest.hexdigest()[:16]


def differing_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each value, however deep, in which two records of settings differ."""
    flat_then, flat_now = flat_settings(then), flat_settings(now)
    return [
        f"{key}: {flat_then.get(key)!r} then, {flat_now.get(key)!r} now"
        for key in sorted({*flat_then, *flat_now})
        if flat_then.get(key) != flat_now.get(key)
    ]


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested settings by their dotted keys.

    >>> flat_settings({"seed": 0, "train": {"rows": 2}})
    {'seed': 0, 'train.rows': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of an open file's content from where it stands, as hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
