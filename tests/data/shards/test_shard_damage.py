"""Damaged shards: no missing file, cut, flipped byte or foreign content goes unseen, and each is named."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_shards import members, npy, replace_member, rewrite, same, seal, tar_path, write_data

from lst.data.checks import check_prepared
from lst.data.shards import INDEX_FILE, VERSION, ShardReader, entries_of, load_index, verify_samples, verify_shards
from lst.data.shards.samples import SampleError, decode_sample
from lst.errors import ProblemsError, UserError
from lst.storage import write_json


def test_index_is_missing_damaged_or_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"index of the prepared data is missing.*index\.json.*lst prepare"):
        ShardReader(tmp_path, "train")
    (tmp_path / INDEX_FILE).write_text('{"version": 1, "splits": {')
    with pytest.raises(UserError, match=r"damaged: .*index\.json is not JSON.*lst prepare"):
        load_index(tmp_path)
    write_json(tmp_path / INDEX_FILE, {"version": VERSION + 1, "splits": {}})
    told = (
        rf"index\.json has version {VERSION + 1}, this project reads {VERSION}: use the release .* in another run_dir"
    )
    with pytest.raises(UserError, match=told):
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
        verify_shards(tmp_path, entries_of(index), full=False)


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
    verify_shards(tmp_path, entries_of(index), full=False)
    with pytest.raises(ProblemsError, match=r"train-000000\.tar was altered \(sample 'utt_1'\): its SHA-256 is not"):
        verify_shards(tmp_path, entries_of(index), full=True)


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
    replace_member(tar_path(tmp_path), "utt_1.units.npy", units)
    seal(tmp_path)
    with pytest.raises(UserError, match=r"train-000000\.tar: sample 'utt_1' cannot be read"):
        ShardReader(tmp_path, "train")[1]


@pytest.mark.parametrize("record", [b"{", b"[]", b"null", b'{"id": "utt_1"}', b"\xff\xfe"])
def test_records_that_are_none_are_refused(tmp_path: Path, record: bytes) -> None:
    write_data(tmp_path)
    replace_member(tar_path(tmp_path), "utt_1.json", record)
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
    replace_member(tar_path(tmp_path), "utt_1.units.npy", bomb)
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
        ("train-000000", ""),
        ("train-000000", "utt_1"),
        ("train-000000", "utt_2"),
        ("train-000001", ""),
        ("train-000002", "utt_5"),
    ]
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
            verify_shards(tmp_path, entries_of(load_index(tmp_path)), full=True)
    with pytest.raises(UserError, match=r"receipt of a shard (is missing|was altered): .*train-000001\.json"):
        reader[3]
    assert reader[0].id == "utt_0"


def resealed(folder: Path, **columns: Any) -> None:
    """Writes other numbers into the first receipt's table, and an index that agrees with it, as an attacker would."""
    index = json.loads((folder / INDEX_FILE).read_text())
    entry = index["splits"]["train"][0]
    place = folder / "shards" / f"{entry['name']}.json"
    receipt = json.loads(place.read_text())
    receipt["samples"].update(columns)
    place.write_text(json.dumps(receipt))
    entry["receipt_sha256"] = hashlib.sha256(place.read_bytes()).hexdigest()
    write_json(folder / INDEX_FILE, index)


def test_a_table_that_leads_out_of_its_tar_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    write_data(tmp_path)
    samples = json.loads((tmp_path / "shards" / "train-000000.json").read_text())["samples"]
    num_samples = len(samples["key"])
    for column, value in (
        ("units_bytes", 2**62),
        ("units_offset", 2**62),
        ("json_offset", 2**62),
        ("units_offset", 0),
        ("json_bytes", 2**40),
    ):
        resealed(tmp_path, **{**samples, column: [*samples[column][:-1], value]})
        with pytest.raises(UserError, match=r"train-000000\.json: a sample lies outside of the tar"):
            ShardReader(tmp_path, "train")[num_samples - 1]
    resealed(tmp_path, **{name: column[:-1] for name, column in samples.items()})
    with pytest.raises(UserError, match=f"it has {num_samples - 1} samples, the index says {num_samples}"):
        ShardReader(tmp_path, "train")[num_samples - 1]


@pytest.mark.parametrize("name", ["../train-000000", "/tmp/train-000000", "a/b", "", ".", "a.b"])
def test_a_shard_is_never_looked_for_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    write_data(tmp_path)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    index["splits"]["train"][0]["name"] = name
    write_json(tmp_path / INDEX_FILE, index)
    with pytest.raises(UserError, match=r"index\.json names the shard .*no plain name such as train-000000"):
        load_index(tmp_path)
    assert "names the shard" in str(check_prepared(tmp_path, full=False, max_examples=0).examples)


def test_a_shard_that_is_no_file_is_missing_and_never_waited_for(tmp_path: Path) -> None:
    write_data(tmp_path)
    reader = ShardReader(tmp_path, "train")
    assert reader[0]
    tar_path(tmp_path, 1).unlink()
    os.mkfifo(tar_path(tmp_path, 1))
    with pytest.raises(UserError, match=r"train-000001\.tar cannot be read .*is a FIFO"):
        list(reader)
    with pytest.raises(ProblemsError, match=r"train-000001\.tar is missing"):
        ShardReader(tmp_path, "train")


def test_an_array_that_asks_for_more_than_memory_is_a_damaged_sample() -> None:
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (9000000000000000,), }".ljust(117) + b"\n"
    units = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(SampleError, match="cannot be read"):
        decode_sample(b"{}", units)
