"""Shards of a few made-up utterances, and what damages them or makes damage look intended."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    VERSION,
    Index,
    Receipt,
    index_entry,
    shard_name,
    write_index,
    write_shard,
)
from lst.data.utterance import Utterance, Word
from lst.storage import sha256, write_json

MADE_FROM = "0123456789abcdef"


def utterance(index: int) -> Utterance:
    """An utterance of 40 + index units with two words; the third has text alone."""
    if index == 2:
        return Utterance("utt_2", "", "written – text", 0.0, np.zeros(0, np.uint16))
    units = np.random.default_rng(index).integers(0, 65_536, 40 + index).astype(np.uint16)
    words = (Word("héllo,", 2, 9, -10.125), Word("there", 9, 38, -7.5))
    return Utterance(f"utt_{index}", f"speaker-{index % 2}", "héllo, there", 1.6, units, words, 1)


def same(left: Utterance, right: Utterance) -> bool:
    return left.to_record() == right.to_record() and np.array_equal(left.units, right.units)


def write_data(folder: Path, split: str = "train", sizes: tuple[int, ...] = (3, 1, 4)) -> list[Utterance]:
    """Shards of ``sizes`` utterances with their index; returns the utterances."""
    utterances = [utterance(index) for index in range(sum(sizes))]
    receipts, start = [], 0
    for number, size in enumerate(sizes):
        part = utterances[start : start + size]
        receipts.append(write_shard(folder / SHARD_FOLDER, shard_name(split, number), part, [], MADE_FROM))
        start += size
    write_json(folder / INDEX_FILE, index_of(split, receipts))
    return utterances


def index_of(split: str, receipts: list[Receipt]) -> Index:
    """The index of shards of one split, of an unknown corpus."""
    return {
        "version": VERSION,
        "description": "made-up utterances",
        "is_synthesised": False,
        "made_from": {"data": {"align": {}}, "tokenizer": {}},
        "units_sha256": "",
        "text_sha256": "",
        "vocabulary": "",
        "aligner": "none",
        "num_left_out": 0,
        "num_unaligned": 0,
        "splits": {split: [index_entry(receipt) for receipt in receipts]},
    }


def tar_path(folder: Path, number: int = 0) -> Path:
    return folder / SHARD_FOLDER / f"{shard_name('train', number)}.tar"


def seal(folder: Path, number: int = 0) -> None:
    """Makes receipt and index agree with a shard as it is now, so that only its samples' content can tell."""
    index = json.loads((folder / INDEX_FILE).read_text())
    entry, path = index["splits"]["train"][number], tar_path(folder, number)
    receipt = json.loads(path.with_suffix(".json").read_text())
    with tarfile.open(path) as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    content = path.read_bytes()
    table: dict[str, list[Any]] = {name: [] for name in receipt["samples"]}
    for key in dict.fromkeys(name.partition(".")[0] for name in places):
        (start, size), (units_start, units_size) = (places[f"{key}.{kind}"] for kind in ("json", "units.npy"))
        joined = content[start : start + size] + content[units_start : units_start + units_size]
        row = (key, start, size, units_start, units_size, hashlib.sha256(joined).hexdigest())
        for name, value in zip(table, row, strict=True):
            table[name].append(value)
    receipt["samples"] = table
    path.with_suffix(".json").write_text(json.dumps(receipt))
    entry["num_bytes"], entry["sha256"] = len(content), sha256(path)
    entry["receipt_sha256"] = sha256(path.with_suffix(".json"))
    if "check" in index:
        write_index(folder, index)
    else:
        write_json(folder / INDEX_FILE, index)


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def rewrite(path: Path, content: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def replace_member(path: Path, member: str, content: bytes) -> None:
    """Rewrites a tar in which one member holds something else."""
    rewrite(path, [(name, content if name == member else data) for name, data in members(path)])


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()
