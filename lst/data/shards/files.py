"""Writes shards and reads their index: tars of aligned utterances, each with a receipt, and an index written last.

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
import re
from collections.abc import Sequence
from typing import cast

from lst import storage
from lst.data.shards.formats import (
    VERSION,
    Index,
    IndexEntry,
    LeftOut,
    Receipt,
    StoredReceipt,
    WholeReceipt,
    WithSamples,
)
from lst.data.shards.samples import SampleTable, write_samples
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.storage import Folder, FormatError, Location, fingerprint, locate, parse_json, read_json, sha256

INDEX_FILE = "index.json"
SHARD_FOLDER = "shards"
# Speech without a transcript, for training, where a corpus has utterances with one, too.
SPEECH_SPLIT = "speech"
SPLITS = ("train", "valid", "text", "questions", SPEECH_SPLIT)
# A plain name: it becomes part of a path, and never leads out of the folder of shards.
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]+")
INDEX_REMEDY = "Run lst prepare (again) first."
REMEDY = "Run lst prepare again with the same settings: it makes anew what is damaged, and nothing else."


def shard_name(split: str, number: int) -> str:
    """The name of a split's shard, without suffix: ``train-000000``."""
    return f"{split}-{number:06d}"


def write_shard(
    folder: Location,
    name: str,
    utterances: Sequence[Utterance],
    skipped: Sequence[LeftOut],
    made_from: str,
    units_sha256: str = "",
) -> Receipt:
    """Writes one shard and, last, its receipt.

    Args:
        folder: where ``name.tar`` and ``name.json`` go; a path or a URL.
        name: without suffix.
        utterances: the content, in order.
        skipped: what was left out.
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
    receipt: StoredReceipt = {
        "version": VERSION,
        "name": name,
        "made_from": made_from,
        "units_sha256": units_sha256,
        "num_utterances": len(utterances),
        "num_units": sum(utterance.num_frames for utterance in utterances),
        "num_words": sum(len(utterance.words) for utterance in utterances),
        "duration_s": round(sum(utterance.duration_s for utterance in utterances), 3),
        "num_bytes": num_bytes,
        "sha256": content_sha256,
        "skipped": list(skipped),
    }
    if any(utterance.pieces is not None for utterance in utterances):
        receipt["num_pieces"] = sum(len(one.pieces) for one in utterances if one.pieces is not None)
    whole = {**receipt, "samples": samples.to_json()}
    content = json.dumps({**whole, "check": fingerprint(whole)}, ensure_ascii=False).encode() + b"\n"
    storage.write_bytes(place / f"{name}.json", content)
    return {**receipt, "receipt_sha256": hashlib.sha256(content).hexdigest()}


def index_entry(receipt: Receipt) -> IndexEntry:
    """What the index holds of a shard: what was left out is counted there, and listed in the receipt."""
    entry = {key: value for key, value in receipt.items() if key != "skipped"}
    return cast(IndexEntry, {**entry, "num_skipped": len(receipt["skipped"])})


def finished_receipt(folder: Location, name: str, made_from: str) -> Receipt | None:
    """The receipt, as ``write_shard`` returns it, of a shard that is there, whole and of the same origin; else None."""
    place = locate(folder)
    try:
        content = storage.read_bytes(place / f"{name}.json")
        whole = parse_json(content, WholeReceipt)
        receipt = {key: value for key, value in whole.items() if key != "check"}
        # Without its check, a damaged count or table of samples would be taken over into the index as if it were right.
        if whole["check"] != fingerprint(receipt) or whole["made_from"] != made_from:
            return None
        tar = place / f"{name}.tar"
        if storage.size(tar) != whole["num_bytes"] or storage.sha256(tar) != whole["sha256"]:
            return None
    except (FileNotFoundError, FormatError):
        return None
    del receipt["samples"]
    return cast(Receipt, {**receipt, "receipt_sha256": hashlib.sha256(content).hexdigest()})


def load_index(data_folder: Location) -> Index:
    """Reads the index of a prepared corpus.

    Raises:
        UserError: preparing has not finished, or the index is damaged or of another version.
    """
    index = read_index(data_folder)
    if is_altered(index):
        path = locate(data_folder) / INDEX_FILE
        raise FormatError(f"the index of the prepared data was altered: {path} does not fit its check. {INDEX_REMEDY}")
    return index


def read_index(data_folder: Location) -> Index:
    """``load_index`` for a check, which goes on where the index was altered; see ``is_altered``."""
    path = locate(data_folder) / INDEX_FILE
    index = read_json(path, Index, "the index of the prepared data", INDEX_REMEDY)
    if odd := [entry["name"] for entry in entries_of(index) if not _SHARD_NAME.fullmatch(entry["name"])]:
        told = f"names the shard {odd[0][:60]!r}, which is no plain name such as train-000000"
        raise FormatError(f"the index of the prepared data is damaged: {path} {told}. {INDEX_REMEDY}")
    return index


def is_altered(index: Index) -> bool:
    """Whether an index does not fit its own check; one of an earlier version has none."""
    return "check" in index and index["check"] != _check_of(index)


def write_index(data_folder: Location, index: Index) -> None:
    """Writes the index with its own check."""
    storage.write_json(locate(data_folder) / INDEX_FILE, {**index, "check": _check_of(index)})


def _check_of(index: Index) -> str:
    return fingerprint({key: value for key, value in index.items() if key != "check"})


def add_to_index(data_folder: Location, names: Sequence[str]) -> None:
    """Adds the hashes of files beside the index to it; an index of an earlier version, without hashes, stays as it is.

    Args:
        data_folder: of the prepared data.
        names: of the files.
    """
    folder, index = locate(data_folder), load_index(data_folder)
    if "files" in index:
        hashes = {name: sha256(folder / name) for name in names}
        write_index(folder, {**index, "files": {**index["files"], **hashes}})


def entries_of(index: Index) -> list[IndexEntry]:
    """All shards of an index, split by split."""
    return [entry for entries in index["splits"].values() for entry in entries]


def read_samples_table(shard_folder: Folder, entry: IndexEntry) -> SampleTable:
    """Where a shard's samples lie, from its receipt.

    Raises:
        UserError: the receipt is missing, or is not the one that was written.
    """
    path = shard_folder / f"{entry['name']}.json"
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"the receipt of a shard is missing: {path}. {REMEDY}") from None
    except OSError as error:
        raise UserError(f"the receipt of a shard cannot be read: {path} ({error.strerror}). {REMEDY}") from None
    try:
        if hashlib.sha256(content).hexdigest() != entry["receipt_sha256"]:
            raise ValueError("its SHA-256 is not the recorded one")
        table = SampleTable.from_json(parse_json(content, WithSamples)["samples"])
        table.check(entry["num_utterances"], entry["num_bytes"])
        return table
    except ValueError as error:
        raise UserError(f"the receipt of a shard was altered: {path}: {error}. {REMEDY}") from None
