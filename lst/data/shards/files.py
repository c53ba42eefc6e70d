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
from collections.abc import Sequence
from typing import Any

from lst import storage
from lst.data.shards.samples import SampleTable, write_samples
from lst.data.utterance import Utterance
from lst.errors import UserError
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
    index = read_json(path, dict[str, Any], "the index of the prepared data", "Run lst prepare (again) first.")
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
