"""Shards: the same bytes each time, readable by webdataset, and read back in any order, from any place."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from small_shards import MADE_FROM, index_of, members, same, tar_path, utterance, write_data

from lst import storage
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    VERSION,
    ShardReader,
    finished_receipt,
    index_entry,
    verify_samples,
    write_shard,
)
from lst.data.shards import reader as shards
from lst.data.utterance import Utterance, Word
from lst.errors import ProblemsError, UserError
from lst.storage import fingerprint, sha256, write_json


def test_round_trip_in_order(tmp_path: Path) -> None:
    written = write_data(tmp_path)
    reader = ShardReader(tmp_path, "train")
    assert len(reader) == 8
    assert all(same(left, right) for left, right in zip(reader, written, strict=True))
    assert all(found.units.dtype == np.uint16 for found in reader)
    # Any order of access, across the borders of shards and back.
    assert all(same(reader[index], written[index]) for index in (7, 0, 3, 2, 4, 7, 3))


def test_indices_are_those_of_any_sequence(tmp_path: Path) -> None:
    written = write_data(tmp_path)
    reader = ShardReader(tmp_path, "train")
    for index in range(-8, 8):
        assert same(reader[index], written[index])
    for index in (8, 100, -9, -100):
        with pytest.raises(IndexError, match=f"utterance {index} of 8"):
            reader[index]
    assert [found.id for found in reader[2:7:2]] == [written[index].id for index in (2, 4, 6)]
    assert [found.id for found in reader[-2:]] == ["utt_6", "utt_7"]
    assert reader[np.int64(5)].id == "utt_5"
    assert [found.id for found in reversed(reader)][:2] == ["utt_7", "utt_6"]


def test_split_without_shards_is_empty(tmp_path: Path) -> None:
    write_data(tmp_path)
    reader = ShardReader(tmp_path, "valid")
    assert len(reader) == 0
    assert list(reader) == []
    for index in (0, -1):
        with pytest.raises(IndexError, match=f"utterance {index} of 0"):
            reader[index]


def test_shard_of_no_utterance_is_read_past(tmp_path: Path) -> None:
    written = write_data(tmp_path, sizes=(2, 0, 1))
    assert [found.id for found in ShardReader(tmp_path, "train")] == [found.id for found in written]


def test_same_utterances_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = [utterance(index) for index in range(4)]
    first = write_shard(tmp_path / "a", "train-000000", part, [], MADE_FROM)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setenv("USER", "somebody")
    before = os.umask(0o077)
    try:
        second = write_shard(tmp_path / "b" / "c", "train-000000", part, [], MADE_FROM)
    finally:
        os.umask(before)
    assert first == second
    assert (tmp_path / "a/train-000000.tar").read_bytes() == (tmp_path / "b/c/train-000000.tar").read_bytes()
    other = write_shard(tmp_path / "d", "train-000000", part[::-1], [], MADE_FROM)
    assert other["sha256"] != first["sha256"]


def test_receipt_tells_the_content(tmp_path: Path) -> None:
    part, skipped = [utterance(index) for index in range(4)], [{"id": "utt_9", "reason": "it does not fit"}]
    receipt = write_shard(tmp_path, "train-000000", part, skipped, MADE_FROM, "hash of the codebook")
    path = tmp_path / "train-000000.tar"
    told = {
        "version": VERSION,
        "name": "train-000000",
        "made_from": MADE_FROM,
        "skipped": skipped,
        "num_utterances": 4,
        "num_units": 40 + 41 + 0 + 43,
        "num_words": 6,
        "duration_s": 4.8,
        "num_bytes": path.stat().st_size,
        "sha256": sha256(path),
        "units_sha256": "hash of the codebook",
    }
    assert receipt == {**told, "receipt_sha256": sha256(tmp_path / "train-000000.json")}
    assert index_entry(receipt)["num_skipped"] == 1
    written = json.loads((tmp_path / "train-000000.json").read_text())
    assert written.pop("check") == fingerprint(written)
    samples = written.pop("samples")
    assert written == told
    assert samples["key"] == [item.id for item in part]
    with tarfile.open(path) as tar:
        for number, item in enumerate(part):
            for kind, name in (("json", "json"), ("units.npy", "units")):
                member = tar.getmember(f"{item.id}.{kind}")
                assert samples[f"{name}_offset"][number] == member.offset_data
                assert samples[f"{name}_bytes"][number] == member.size
            joined = b"".join(data for name, data in members(path) if name.startswith(f"{item.id}."))
            assert samples["sha256"][number] == hashlib.sha256(joined).hexdigest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["train-000000.json", "train-000000.tar"]


def test_failure_leaves_neither_shard_nor_receipt(tmp_path: Path) -> None:
    broken = Utterance("utt_1", "", "", 0.0, None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        write_shard(tmp_path, "train-000000", [utterance(0), broken], [], MADE_FROM)
    assert list(tmp_path.iterdir()) == []


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    written = write_data(tmp_path)
    paths = [str(tar_path(tmp_path, number)) for number in range(3)]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [item.id for item in written]
    for sample, item in zip(samples, written, strict=True):
        assert sample["json"] == json.loads(json.dumps(item.to_record()))
        assert np.array_equal(sample["units.npy"], item.units)


def test_finished_shard_is_known_by_its_receipt(tmp_path: Path) -> None:
    receipt = write_shard(tmp_path, "train-000000", [utterance(0), utterance(1)], [], MADE_FROM)
    path = tmp_path / "train-000000.tar"
    content = path.read_bytes()
    assert finished_receipt(tmp_path, "train-000000", MADE_FROM) == receipt
    assert finished_receipt(tmp_path, "train-000000", "another") is None
    assert finished_receipt(tmp_path, "train-000001", MADE_FROM) is None
    for damaged in (content[:-512], content + bytes(512), content[:3_000] + b"\x01" + content[3_001:], b""):
        assert damaged != content
        path.write_bytes(damaged)
        assert finished_receipt(tmp_path, "train-000000", MADE_FROM) is None
    path.unlink()
    assert finished_receipt(tmp_path, "train-000000", MADE_FROM) is None
    path.write_bytes(content)
    assert finished_receipt(tmp_path, "train-000000", MADE_FROM) == receipt
    (tmp_path / "train-000000.json").unlink()
    assert finished_receipt(tmp_path, "train-000000", MADE_FROM) is None


def test_one_sample_is_read_by_one_read_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_data(tmp_path, sizes=(40, 40))
    reader = ShardReader(tmp_path, "train")
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, num_bytes: int, offset: int) -> bytes:
        reads.append(num_bytes)
        return pread(descriptor, num_bytes, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert same(reader[57], written[57])
    assert len(reads) == 1
    assert reads[0] < 1_500 < tar_path(tmp_path, 1).stat().st_size / 20


def test_what_a_reader_keeps_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_data(tmp_path, sizes=(2,) * 30)
    monkeypatch.setattr(shards, "MAX_OPEN_FILES", 4)
    monkeypatch.setattr(shards, "MAX_CACHED_SAMPLES", 10)
    reader = ShardReader(tmp_path, "train")
    # What earlier tests left for the collector must not close files in between.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for index in np.random.default_rng(0).permutation(60):
        assert same(reader[index], written[index])
        assert len(os.listdir("/proc/self/fd")) - before <= 4
        assert sum(len(table) for table in reader._tables.values()) == reader._num_cached <= 10
    del reader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_reader_may_go_to_another_process(tmp_path: Path) -> None:
    written = write_data(tmp_path)
    reader = ShardReader(tmp_path, "train", verify_hash=False)
    assert same(reader[4], written[4])
    moved = pickle.loads(pickle.dumps(reader))  # noqa: S301 (made in this line)
    assert all(same(left, right) for left, right in zip(moved, written, strict=True))


def test_character_ends_of_words_are_kept(tmp_path: Path) -> None:
    words = (Word("a b", 0, 4, -1.0, (2, 4)), Word("", 4, 4, 0.0), Word("c", 4, 6, 0.5, (2,)))
    item = Utterance("utt_0", "s", "a b c", 0.24, np.arange(6, dtype=np.uint16), words)
    receipt = write_shard(tmp_path / SHARD_FOLDER, "train-000000", [item], [], MADE_FROM)
    write_json(tmp_path / INDEX_FILE, index_of("train", [receipt]))
    (found,) = ShardReader(tmp_path, "train")
    assert found.words == words
    assert same(found, item)


def test_data_behind_a_url_reads_the_same(tmp_path: Path) -> None:
    """``memory://`` for an object store; ranges, not whole shards, are asked for."""
    written = write_data(tmp_path)
    url = storage.Url("memory://test_shards/data")
    part = written[:3]
    receipt = write_shard(url / SHARD_FOLDER, "train-000000", part, [], MADE_FROM)
    assert receipt == write_shard(tmp_path / "again", "train-000000", part, [], MADE_FROM)
    assert finished_receipt(url / SHARD_FOLDER, "train-000000", MADE_FROM) == receipt
    assert finished_receipt(url / SHARD_FOLDER, "train-000001", MADE_FROM) is None
    storage.write_json(url / INDEX_FILE, index_of("train", [receipt]))
    reader = ShardReader(url, "train")
    assert all(same(left, right) for left, right in zip(reader, part, strict=True))
    assert same(reader[2], part[2])
    content = bytearray(storage.read_bytes(url / SHARD_FOLDER / "train-000000.tar"))
    storage.write_bytes(url / SHARD_FOLDER / "train-000000.tar", bytes(content[:-512]))
    with pytest.raises(ProblemsError, match=r"train-000000\.tar has .* bytes"):
        ShardReader(url, "train")
    content[content.find(part[1].units.tobytes())] ^= 1
    storage.write_bytes(url / SHARD_FOLDER / "train-000000.tar", bytes(content))
    assert [item.key for item in verify_samples(url, "train")] == ["utt_1"]
    with pytest.raises(UserError, match=r"memory://.*train-000000\.tar: sample 'utt_1' was altered"):
        list(ShardReader(url, "train"))
    storage.remove(url / SHARD_FOLDER / "train-000000.tar")
    with pytest.raises(ProblemsError, match=r"train-000000\.tar is missing"):
        ShardReader(url, "train")
