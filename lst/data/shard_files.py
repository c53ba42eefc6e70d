"""Shards: webdataset tars of aligned utterances, each with a receipt of its content, and an index written last.

::

    shards/train-000000.tar     KEY.json + KEY.units.npy an utterance
    shards/train-000000.json    receipt: counts, bytes, SHA-256; where each sample lies and its SHA-256; what was left
                                out and why; its own hash as check
    index.json                  all shards with their counts, bytes and hashes, and what they were made with

A tar cut on a member's boundary, or with a flipped byte, reads without an error: so size is verified on every opening,
a sample's length on every reading, and its hash when asked for. All of it may lie in a folder or behind a URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lst import storage
from lst.data.samples import SampleError, SampleTable, write_samples
from lst.data.utterance import Utterance
from lst.errors import UserError, raise_problems
from lst.storage import Folder, Location, fingerprint, locate, read_json, sha256

INDEX_FILE = "index.json"
SHARD_FOLDER = "shards"
VERSION = 2
SPLITS = ("train", "valid", "text")
REMEDY = "Run lst prepare again with the same settings: it makes anew what is damaged, and nothing else."


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}"


def write_shard(
    folder: Location,
    name: str,
    utterances: Sequence[Utterance],
    skipped: Sequence[dict[str, str]],
    made_from: str,
    units_sha256: str = "",
) -> dict[str, Any]:
    """Writes one shard and, last, its receipt.

    Args:
        folder: where ``name.tar`` and ``name.json`` go; a path or a URL.
        name: without suffix.
        utterances: the content, in order.
        skipped: what was left out: ``{"id", "reason"}`` each.
        made_from: fingerprint of what the shard was made from; a re-run keeps a shard whose fingerprint is the same.
        units_sha256: hash of the codebook that gave the units.

    Returns:
        The receipt without its table of samples, with the hash of the receipt's file.
    """
    place = locate(folder)
    with storage.staged(place / f"{name}.tar") as temporary:
        with open(temporary, "wb") as file:
            samples = write_samples(file, utterances)
        num_bytes, content_sha256 = temporary.stat().st_size, sha256(temporary)
    receipt = {
        "version": VERSION,
        "name": name,
        "made_from": made_from,
        "units_sha256": units_sha256,
        "num_utterances": len(utterances),
        "num_units": int(sum(utterance.num_frames for utterance in utterances)),
        "num_words": sum(len(utterance.words) for utterance in utterances),
        "duration_s": round(sum(utterance.duration_s for utterance in utterances), 3),
        "num_bytes": num_bytes,
        "sha256": content_sha256,
        "skipped": list(skipped),
    }
    whole = {**receipt, "samples": samples.to_json()}
    content = json.dumps({**whole, "check": fingerprint(whole)}, ensure_ascii=False).encode() + b"\n"
    storage.write_bytes(place / f"{name}.json", content)
    return {**receipt, "receipt_sha256": hashlib.sha256(content).hexdigest()}


def index_entry(receipt: dict[str, Any]) -> dict[str, Any]:
    """What the index holds of a shard: what was left out is counted there, and listed in the receipt."""
    entry = {key: value for key, value in receipt.items() if key != "skipped"}
    return {**entry, "num_skipped": len(receipt["skipped"])}


def finished_receipt(folder: Location, name: str, made_from: str) -> dict[str, Any] | None:
    """The receipt, as ``write_shard`` returns it, of a shard that is there, whole and of the same origin; else None."""
    place = locate(folder)
    try:
        content = storage.read_bytes(place / f"{name}.json")
        receipt = json.loads(content)
        # Without it a damaged count or table of samples would be taken over into the index as if it were right.
        if receipt.pop("check") != fingerprint(receipt):
            return None
        if receipt["version"] != VERSION or receipt["made_from"] != made_from:
            return None
        if storage.size(place / f"{name}.tar") != receipt["num_bytes"]:
            return None
        if storage.sha256(place / f"{name}.tar") != receipt["sha256"]:
            return None
        del receipt["samples"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {**receipt, "receipt_sha256": hashlib.sha256(content).hexdigest()}


def load_index(data_folder: Location) -> dict[str, Any]:
    """Reads the index of a prepared corpus; raises ``UserError`` when preparing has not finished."""
    path = locate(data_folder) / INDEX_FILE
    index = read_json(path, "the index of the prepared data", "Run lst prepare (again) first.")
    if index.get("version") != VERSION:
        raise UserError(
            f"{path} has version {index.get('version')}, this project reads {VERSION}: prepare again in another run_dir"
        )
    return index


def read_samples_table(shard_folder: Folder, entry: dict[str, Any]) -> SampleTable:
    """Where a shard's samples lie, from its receipt.

    Raises:
        UserError: the receipt is missing or is not the one that was written.
    """
    path = shard_folder / f"{entry['name']}.json"
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"the receipt of a shard is missing: {path}. {REMEDY}") from None
    if hashlib.sha256(content).hexdigest() != entry["receipt_sha256"]:
        raise UserError(f"the receipt of a shard was altered: {path}: its SHA-256 is not the recorded one. {REMEDY}")
    return SampleTable.from_json(json.loads(content)["samples"])


def verify_shards(data_folder: Location, index: dict[str, Any], full: bool) -> None:
    """Raises one error naming every shard that is missing, cut short or altered.

    Args:
        data_folder: the folder that holds ``index.json``; a path or a URL.
        index: its content.
        full: compare hashes too, not only sizes, and name the samples that were altered.
    """
    folder = locate(data_folder) / SHARD_FOLDER
    sizes = storage.list_sizes(folder)
    problems = []
    for receipts in index["splits"].values():
        for entry in receipts:
            name = f"{entry['name']}.tar"
            if f"{entry['name']}.json" not in sizes:
                problems.append(f"{entry['name']}.json is missing, the receipt of {name}")
            if name not in sizes:
                problems.append(f"{name} is missing")
            elif sizes[name] != entry["num_bytes"]:
                problems.append(f"{name} has {sizes[name]:,} bytes, {entry['num_bytes']:,} were written")
            elif full:
                problems += _altered(folder, entry)
    raise_problems(f"shards in {folder}", problems, REMEDY)


def _altered(folder: Folder, entry: dict[str, Any]) -> list[str]:
    name = f"{entry['name']}.tar"
    found = []
    try:
        read_samples_table(folder, entry)
    except UserError:
        found.append(f"{entry['name']}.json was altered, the receipt of {name}")
    if storage.sha256(folder / name) == entry["sha256"]:
        return found
    damaged = [item.key for item in _damaged_samples(folder, entry, None) if item.key] if not found else []
    where = f" (sample {', '.join(map(repr, damaged))})" if damaged else " (outside of its samples)"
    return [*found, f"{name} was altered{where}: its SHA-256 is not the recorded {entry['sha256'][:12]}…"]


@dataclass(frozen=True)
class Damage:
    """What is wrong with a sample, or with a whole shard where ``key`` is empty."""

    shard: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"shard {self.shard}.tar: " + (f"sample {self.key!r} {self.reason}" if self.key else self.reason)


def verify_samples(
    data_folder: Location,
    split: str,
    shards: Collection[str] | None = None,
    keys: Collection[str] | None = None,
) -> list[Damage]:
    """Reads samples of a split with their hashes, whichever are named, and returns everything that is damaged.

    Args:
        data_folder: the folder that holds ``index.json``; a path or a URL.
        split: ``train``, ``valid`` or ``text``.
        shards: names of shards without suffix; all without.
        keys: ids of utterances; all of those shards without.

    Raises:
        UserError: the index is missing, or a name is none of the split's.
    """
    folder = locate(data_folder) / SHARD_FOLDER
    entries = load_index(data_folder)["splits"].get(split, [])
    if unknown := sorted(set(shards or ()) - {entry["name"] for entry in entries}):
        raise UserError(f"{folder}: split {split!r} has no shard {', '.join(unknown)}; it has {len(entries)} shards")
    damaged: list[Damage] = []
    missing = set(keys or ())
    is_unread = False
    for entry in entries:
        if shards is not None and entry["name"] not in shards:
            continue
        found = _damaged_samples(folder, entry, keys, missing)
        is_unread |= any(not item.key for item in found)
        damaged += found
    if missing and not is_unread:
        raise UserError(f"{folder}: there is no utterance {', '.join(sorted(missing))} in split {split!r}")
    return damaged


def _damaged_samples(
    folder: Folder, entry: dict[str, Any], keys: Collection[str] | None, missing: set[str] | None = None
) -> list[Damage]:
    """Damage of the samples named by ``keys`` (all without); those found are taken out of ``missing``."""
    name, path = entry["name"], folder / f"{entry['name']}.tar"
    try:
        table = read_samples_table(folder, entry)
    except UserError as error:
        return [Damage(name, "", str(error))]
    if not storage.exists(path):
        return [Damage(name, "", "is missing")]
    damaged = []
    num_bytes = storage.size(path)
    if num_bytes != entry["num_bytes"]:
        damaged.append(Damage(name, "", f"has {num_bytes:,} bytes, {entry['num_bytes']:,} were written"))
    for number, key in enumerate(table.keys):
        if keys is not None and key not in keys:
            continue
        (missing or set()).discard(key)
        offset, wanted = table.range_of(number)
        try:
            # A range beyond the end is an error of some stores.
            content = storage.read_range(path, offset, wanted) if offset < num_bytes else b""
            table.decode(number, content, check_hash=True)
        except SampleError as error:
            damaged.append(Damage(name, key, str(error)))
    return damaged
