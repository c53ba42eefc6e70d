"""Files that are whole or absent: staged beside their place, flushed, renamed; and what names their content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lst.errors import UserError

STAGING_SUFFIX = ".partial"


def is_url(place: object) -> bool:
    """Whether a place is a URL (``s3://…``) and no local path."""
    return isinstance(place, str) and "://" in place


def fsync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename inside it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is flushed and renamed to ``path``, else removed.

    The process id in the temporary name keeps two processes from writing into one file.

    Raises:
        UserError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The real suffix stays last: writers such as soundfile choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{STAGING_SUFFIX}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full_error(path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def disk_full_error(path: Path) -> UserError:
    """The error for a full disk, naming the place and the way out."""
    return UserError(
        f"the disk that holds {path.parent} is full: {path.name} was not written, nothing earlier was lost. "
        "Free some space and run the same command again, or choose another place with run_dir=FOLDER."
    )


def check_free_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises ``UserError`` before work starts when ``folder``'s disk cannot hold ``needed_bytes``."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{what} needs about {needed_bytes / 1e6:,.0f} MB in {folder}, but {free_bytes / 1e6:,.0f} MB are free. "
            "Free some space or choose another place with run_dir=FOLDER."
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, whole or not at all."""
    with staged(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 ``text`` to ``path``, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path, what: str, remedy: str) -> Any:
    """Reads a JSON file of this project.

    Args:
        path: the file.
        what: what it is, for the error.
        remedy: what to do when it is absent or damaged, for the error.

    Raises:
        UserError: it is absent or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what} is missing: {path}. {remedy}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{what} is damaged: {path} is not JSON ({error}). {remedy}") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; an unfinished last line (a killed writer's) is left out."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number} is not JSON: {line[:80]!r}") from None
    return rows


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def files_fingerprint(path: str | None) -> str | None:
    """Names the files at or below a path by name, size and time of change; None without a path or where it is gone.

    A corpus whose recordings or transcripts have changed is so told from the one that was prepared.
    """
    if path is None or not Path(path).exists():
        return None
    files = sorted(file for file in Path(path).rglob("*") if file.is_file()) if Path(path).is_dir() else [Path(path)]
    stats = [(str(file.relative_to(path)), file.stat()) for file in files]
    return fingerprint([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
