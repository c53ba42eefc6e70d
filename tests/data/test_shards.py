"""Shards: the same bytes each time, readable by webdataset, and no damage that goes unseen."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from lst import storage
from lst.data import shards
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    VERSION,
    ShardReader,
    finished_receipt,
    index_entry,
    load_index,
    shard_name,
    verify_samples,
    verify_shards,
    write_shard,
)
from lst.data.utterance import Utterance, Word
from lst.errors import ProblemsError, UserError
from lst.files import fingerprint, sha256_file, write_json

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
        receipt = write_shard(folder / SHARD_FOLDER, shard_name(split, number), part, [], MADE_FROM)
        receipts.append(index_entry(receipt))
        start += size
    write_json(folder / INDEX_FILE, {"version": VERSION, "splits": {split: receipts}})
    return utterances


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
    entry["num_bytes"], entry["sha256"] = len(content), sha256_file(path)
    entry["receipt_sha256"] = sha256_file(path.with_suffix(".json"))
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


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


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
        "version": VERSION, "name": "train-000000", "made_from": MADE_FROM, "skipped": skipped, "num_utterances": 4,
        "num_units": 40 + 41 + 0 + 43, "num_words": 6, "duration_s": 4.8, "num_bytes": path.stat().st_size,
        "sha256": sha256_file(path), "units_sha256": "hash of the codebook",
    }  # fmt: skip
    assert receipt == {**told, "receipt_sha256": sha256_file(tmp_path / "train-000000.json")}
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


def test_index_is_missing_damaged_or_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"index of the prepared data is missing.*index\.json.*lst prepare"):
        ShardReader(tmp_path, "train")
    (tmp_path / INDEX_FILE).write_text('{"version": 1, "splits": {')
    with pytest.raises(UserError, match=r"damaged: .*index\.json is not JSON.*lst prepare"):
        load_index(tmp_path)
    write_json(tmp_path / INDEX_FILE, {"version": VERSION + 1, "splits": {}})
    with pytest.raises(UserError, match=rf"has version {VERSION + 1}, this project reads {VERSION}: prepare again"):
        load_index(tmp_path)


@pytest.mark.parametrize("verify_hash", [True, False])
def test_every_shard_that_is_missing_or_cut_is_named_at_once(tmp_path: Path, verify_hash: bool) -> None:
    write_data(tmp_path)
    tar_path(tmp_path, 0).unlink()
    content = tar_path(tmp_path, 2).read_bytes()
    tar_path(tmp_path, 2).write_bytes(content[:-1])
    with pytest.raises(ProblemsError, match=r"\nRun lst prepare again with the same settings: it makes anew") as raised:
        ShardReader(tmp_path, "train", verify_hash)
    assert raised.value.problems == [
        "train-000000.tar is missing",
        f"train-000002.tar has {len(content) - 1:,} bytes, {len(content):,} were written",
    ]


def test_other_splits_may_be_damaged(tmp_path: Path) -> None:
    write_data(tmp_path)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    index["splits"]["valid"] = [{**index["splits"]["train"][0], "name": "valid-000000"}]
    write_json(tmp_path / INDEX_FILE, index)
    assert len(ShardReader(tmp_path, "train")) == 8
    with pytest.raises(ProblemsError, match=r"valid-000000\.tar is missing"):
        verify_shards(tmp_path, index, full=False)


@pytest.mark.parametrize("verify_hash", [True, False])
def test_tar_cut_in_a_member_or_between_two_is_not_opened(tmp_path: Path, verify_hash: bool) -> None:
    """Between two members, tar readers take the end for the regular one."""
    write_data(tmp_path)
    content = tar_path(tmp_path).read_bytes()
    with tarfile.open(tar_path(tmp_path)) as tar:
        offsets = [member.offset for member in tar]
    for size in (*offsets, offsets[2] + 700, offsets[3] + 100, len(content) - 1_024):
        tar_path(tmp_path).write_bytes(content[:size])
        with pytest.raises(ProblemsError, match=rf"train-000000\.tar has {size:,} bytes, {len(content):,} were"):
            ShardReader(tmp_path, "train", verify_hash)


def test_flipped_byte_is_found_by_hash_and_not_by_size(tmp_path: Path) -> None:
    written = write_data(tmp_path)
    content = bytearray(tar_path(tmp_path).read_bytes())
    place = content.find(written[1].units.tobytes())
    content[place] ^= 0x01
    tar_path(tmp_path).write_bytes(content)
    reader = ShardReader(tmp_path, "train", verify_hash=True)
    assert same(reader[0], written[0])
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' was altered: its SHA-256 is not"):
        reader[1]
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' was altered"):
        list(reader)
    found = ShardReader(tmp_path, "train", verify_hash=False)[1]
    assert found.units[0] == written[1].units[0] ^ 1
    index = load_index(tmp_path)
    verify_shards(tmp_path, index, full=False)
    with pytest.raises(ProblemsError, match=r"train-000000\.tar was altered \(sample 'utt_1'\): its SHA-256 is not"):
        verify_shards(tmp_path, index, full=True)


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_flipped_byte_behind_the_size_check_never_changes_the_number_of_samples(tmp_path: Path, mask: int) -> None:
    write_data(tmp_path, sizes=(4,))
    content = tar_path(tmp_path).read_bytes()
    outcomes: dict[str, list[int]] = {}
    for place in range(0, len(content), 23):
        damaged = bytearray(content)
        damaged[place] ^= mask
        tar_path(tmp_path).write_bytes(damaged)
        try:
            outcome = f"{len(list(ShardReader(tmp_path, 'train', verify_hash=False)))} samples"
        except UserError as error:
            outcome = "named" if "train-000000.tar" in str(error) else str(error)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        outcomes.setdefault(outcome, []).append(place)
    print({outcome: len(places) for outcome, places in outcomes.items()})
    assert outcomes.keys() == {"4 samples", "named"}


@pytest.mark.parametrize("where", ["header", "record", "units", "boundary"])
def test_tar_cut_after_it_was_opened_is_named(tmp_path: Path, where: str) -> None:
    written = write_data(tmp_path)
    reader = ShardReader(tmp_path, "train")
    content = tar_path(tmp_path).read_bytes()
    with tarfile.open(tar_path(tmp_path)) as tar:
        second = tar.getmember("utt_1.json")
    places = {
        "header": second.offset + 100,
        "record": second.offset_data + 10,
        "units": content.find(written[1].units.tobytes()) + 10,
        "boundary": second.offset,
    }
    tar_path(tmp_path).write_bytes(content[: places[where]])
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' is cut short.*lst prepare again"):
        reader[1]
    assert same(reader[0], written[0])
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' is cut short"):
        list(reader)


@pytest.mark.parametrize("kind", ["json", "units.npy"])
@pytest.mark.parametrize("key", ["utt_0", "utt_1", "utt_2"])
def test_sample_without_a_member_is_named(tmp_path: Path, kind: str, key: str) -> None:
    """The tar was written anew without it, at its former size: all that moved is named too."""
    written = write_data(tmp_path)
    path = tar_path(tmp_path)
    num_bytes = path.stat().st_size
    rewrite(path, [item for item in members(path) if item[0] != f"{key}.{kind}"])
    path.write_bytes(path.read_bytes().ljust(num_bytes, b"\0")[:num_bytes])
    reader, number = ShardReader(tmp_path, "train"), int(key[-1])
    with pytest.raises(UserError, match=rf"train-000000\.tar: sample '{key}' was altered.*lst prepare again"):
        list(reader)
    assert all(same(reader[n], written[n]) for n in range(number))
    damaged = verify_samples(tmp_path, "train")
    assert [(item.shard, item.key) for item in damaged] == [("train-000000", f"utt_{n}") for n in range(number, 3)]


@pytest.mark.parametrize(
    "units",
    [npy(np.array([{"a": 1}] * 41, object)), b"", b"\x93NUMPY", npy(np.zeros(40, np.uint16)), npy(np.zeros(41))[:100]],
)
def test_units_that_are_a_pickle_cut_short_or_too_few_are_refused(tmp_path: Path, units: bytes) -> None:
    write_data(tmp_path)
    rewrite(
        tar_path(tmp_path),
        [(name, units if name == "utt_1.units.npy" else data) for name, data in members(tar_path(tmp_path))],
    )
    seal(tmp_path)
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' cannot be read"):
        ShardReader(tmp_path, "train")[1]


@pytest.mark.parametrize("record", [b"{", b"[]", b"null", b'{"id": "utt_1"}', b"\xff\xfe"])
def test_records_that_are_none_are_refused(tmp_path: Path, record: bytes) -> None:
    write_data(tmp_path)
    rewrite(
        tar_path(tmp_path),
        [(name, record if name == "utt_1.json" else data) for name, data in members(tar_path(tmp_path))],
    )
    seal(tmp_path)
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' cannot be read"):
        ShardReader(tmp_path, "train")[1]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An object array whose pickle would leave a trace when loaded."""

    class Trace:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "loaded"),))

    write_data(tmp_path)
    bomb = npy(np.array([Trace()] * 41, object))
    content = [(name, bomb if name == "utt_1.units.npy" else data) for name, data in members(tar_path(tmp_path))]
    rewrite(tar_path(tmp_path), content)
    seal(tmp_path)
    with pytest.raises(UserError, match="utt_1"):
        list(ShardReader(tmp_path, "train"))
    assert not (tmp_path / "loaded").exists()


def test_damage_of_any_subset_is_named_by_shard_and_key(tmp_path: Path) -> None:
    written = write_data(tmp_path, sizes=(3, 1, 4))
    assert verify_samples(tmp_path, "train") == []
    content = bytearray(tar_path(tmp_path, 2).read_bytes())
    content[content.find(written[5].units.tobytes())] ^= 1
    tar_path(tmp_path, 2).write_bytes(content)
    tar_path(tmp_path, 1).unlink()
    cut = tar_path(tmp_path, 0).read_bytes()
    tar_path(tmp_path, 0).write_bytes(cut[: cut.find(written[1].units.tobytes()) + 9])
    damaged = {(item.shard, item.key): item.reason for item in verify_samples(tmp_path, "train")}
    assert list(damaged) == [
        ("train-000000", ""), ("train-000000", "utt_1"), ("train-000000", "utt_2"), ("train-000001", ""),
        ("train-000002", "utt_5"),
    ]  # fmt: skip
    assert damaged["train-000001", ""] == "is missing"
    assert "is cut short" in damaged["train-000000", "utt_1"]
    assert [item.key for item in verify_samples(tmp_path, "train", shards=["train-000002"])] == ["utt_5"]
    assert verify_samples(tmp_path, "train", shards=["train-000002"], keys={"utt_4", "utt_7"}) == []
    assert str(verify_samples(tmp_path, "train", keys=["utt_5"])[-1]) == (
        "shard train-000002.tar: sample 'utt_5' was altered: its SHA-256 is not the recorded one"
    )
    with pytest.raises(UserError, match="has no shard train-000009"):
        verify_samples(tmp_path, "train", shards=["train-000009"])
    with pytest.raises(UserError, match="there is no utterance nobody"):
        verify_samples(tmp_path, "train", shards=["train-000002"], keys=["utt_4", "nobody"])


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_damaged_receipt_is_named(tmp_path: Path, damage: str) -> None:
    write_data(tmp_path)
    path = tar_path(tmp_path, 1).with_suffix(".json")
    reader = ShardReader(tmp_path, "train")
    if damage == "missing":
        path.unlink()
        with pytest.raises(ProblemsError, match=r"train-000001\.json is missing, the receipt of train-000001\.tar"):
            ShardReader(tmp_path, "train")
    else:
        path.write_text(path.read_text().replace('"num_units": 43', '"num_units": 44'))
        with pytest.raises(ProblemsError, match=r"train-000001\.json was altered, the receipt"):
            verify_shards(tmp_path, load_index(tmp_path), full=True)
    with pytest.raises(UserError, match=r"receipt of a shard (is missing|was altered): .*train-000001\.json"):
        reader[3]
    assert reader[0].id == "utt_0"


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
    write_json(tmp_path / INDEX_FILE, {"version": VERSION, "splits": {"train": [index_entry(receipt)]}})
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
    storage.write_json(url / INDEX_FILE, {"version": VERSION, "splits": {"train": [index_entry(receipt)]}})
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
