"""Hashes of a model folder's files: written with the model, compared when it is loaded.

::

    FOLDER/hashes.json      SHA-256 of config.json and of every .safetensors, .json and .model file in FOLDER
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

from lst.errors import raise_problems
from lst.progress import say
from lst.storage import read_json, sha256, write_json

HASHES_FILE = "hashes.json"
_SUFFIXES = (".safetensors", ".json", ".model")
_REMEDY = "Put the original files back, or train the model again."


class ModelHashes(TypedDict):
    """``hashes.json``: SHA-256, as hexadecimal, of each file by its path from the model's folder."""

    version: Literal[1]
    files: dict[str, str]


def write_hashes(folder: Path, later: Mapping[str, bytes]) -> None:
    """Writes the hashes of a folder's files.

    Args:
        folder: of the model.
        later: content of files that are written after this one, by path from the folder.
    """
    found = {name: sha256(path) for name, path in _files(folder).items() if name not in (HASHES_FILE, *later)}
    found |= {name: hashlib.sha256(content).hexdigest() for name, content in later.items()}
    record: ModelHashes = {"version": 1, "files": dict(sorted(found.items()))}
    write_json(folder / HASHES_FILE, record)


def check_hashes(folder: Path, record: Path | None, fetched: Mapping[str, Path] | None = None) -> None:
    """Compares files with their recorded hashes. Without a record, a message says that nothing was compared.

    Args:
        folder: of the model, for messages.
        record: the place of ``hashes.json``; None where it is known to be absent.
        fetched: the files that are there, by path from the folder; None for all of the folder.

    Raises:
        UserError: files are missing or were altered; all of them are named.
    """
    if record is None or not record.exists():
        say(f"{folder} has no {HASHES_FILE}, as an earlier version saved it: its files are not verified; save it again")
        return
    recorded = read_json(record, ModelHashes, "the record of the model's hashes", _REMEDY)["files"]
    there = _files(folder) if fetched is None else fetched
    problems = []
    for name, wanted in recorded.items():
        if name not in there:
            problems += [f"{name} is missing"] if fetched is None else []
        elif (found := sha256(there[name])) != wanted:
            problems.append(f"{name} was altered: its SHA-256 is {found[:12]}…, {wanted[:12]}… is recorded")
    # Other files that a user put there are nobody's business.
    read = [name for name in there if name.endswith(".safetensors") or name == "config.json"]
    problems += [f"{name} is not recorded" for name in read if name not in recorded]
    raise_problems(f"the model in {folder} is not as it was saved", problems, _REMEDY)


def _files(folder: Path) -> dict[str, Path]:
    """The files that have hashes, by path from the folder; none beyond a link out of it."""
    root = folder.resolve()
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
        and root in path.resolve().parents
    }
