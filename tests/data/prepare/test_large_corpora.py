"""Planning of large corpora: little memory a row, and the same lists by any number of processes."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lst.data.audio.content import AudioHashes
from lst.data.corpora import ManifestRow, assign_splits
from lst.data.corpora.row_table import Picked, RowTable, blocks_of, picked, rows_of
from lst.data.prepare.gathered import find
from lst.data.prepare.hashing import hash_audio
from lst.data.prepare.id_order import PackedIds
from lst.data.prepare.lists import arrange
from lst.data.prepare.options import find_origin
from lst.data.prepare.read_corpora import with_splits
from lst.parallel import ordered
from tests.data.conftest import options

NONE_KNOWN = AudioHashes.from_table(np.zeros((0, 0), np.uint8))


def test_ids_are_sorted_as_their_texts() -> None:
    draw = random.Random(0)
    for trial in range(40):
        letters = "ab-Z" if trial % 2 else "abcdefghé0"
        names = [
            "x" * draw.choice([0, 7, 8, 9]) + "".join(draw.choices(letters, k=draw.randrange(20)))
            for _ in range(draw.randrange(60))
        ]
        own = sorted(draw.sample(range(len(names)), draw.randrange(len(names) + 1)))
        order = PackedIds(names).order(np.array(own, np.int64)).tolist()
        assert order == sorted(own, key=lambda number: names[number].encode())


def test_a_long_id_costs_its_own_bytes_alone() -> None:
    tracemalloc.start()
    ids = PackedIds(["u" * 160, *(f"utt-{number:06d}" for number in range(20_000))])
    held_bytes = tracemalloc.get_traced_memory()[0]
    order = ids.order(np.arange(len(ids)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert order[-1] == 0
    assert held_bytes < 25 * len(ids)
    assert peak_bytes < 120 * len(ids)


def test_picked_rows_are_handed_over_as_they_lie_in_their_table() -> None:
    rows = RowTable(ManifestRow(f"u{number}", f"{number}.wav", "x") for number in range(10))
    some = Picked(rows, np.array([7, 2, 5], np.uint32))
    for own in (some, list(some), rows, picked(rows, lambda row: row.id > "u4")):
        assert [row for block in blocks_of(own, 2) for row in rows_of(block)] == list(own)


def test_two_processes_hash_and_arrange_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(bytes([number]))
    rows = RowTable(
        ManifestRow(f"u{number * 37 % 100:02d}", tmp_path / f"{number % 8}.wav", "x" * number, f"s{number % 7}")
        for number in range(100)
    )
    rows = assign_splits(rows, 0.2, 0)

    def planned(num_workers: int) -> tuple[object, ...]:
        hashed = hash_audio(rows, NONE_KNOWN, {}, num_workers)
        lists = arrange(rows, [], [], (), 9, lambda number: {"audio_sha256": hashed.of(number).hex()}, num_workers)
        return (
            lists.hashes,
            lists.shards,
            list(lists.rows),
            [column.tolist() for column in hashed if column is not hashed.table],
        )

    one = planned(1)
    monkeypatch.setattr(ordered, "START_S", -1.0)
    assert planned(2) == one
    assert one[2] == sorted(rows, key=lambda row: (row.split, row.id))


def test_segments_stay_held_out_where_their_file_has_another_name(corpus: Path) -> None:
    """As after a conversion to FLAC: a model that was trained before must not go on with what it is tested on."""
    rows = RowTable(
        ManifestRow(f"talk{file}-{n}", corpus / f"talk{file}.wav", "hello", start_s=1.0 + n)
        for file in range(4)
        for n in range(5)
    )
    split, rules = with_splits(rows, options(corpus), {})
    held_out = {row.id for row in split if row.split == "valid"}
    assert len(held_out) == 5
    moved = RowTable(replace(row, path=corpus / "flac" / f"{Path(row.path).stem}.flac", split="") for row in split)
    moved.append(ManifestRow("new-0", corpus / "flac" / "new.flac", "hello", start_s=1.0))
    again, kept = with_splits(moved, options(corpus), rules, split)
    assert {row.id for row in again if row.split == "valid"} == held_out
    assert len(kept[""]["recordings"]) == 2, "the old name and the new one"
    more = [*moved, replace(moved[0], id=f"{min(held_out)}-more", path=corpus / "flac" / f"{min(held_out)[:5]}.flac")]
    assert {row.id for row in with_splits(RowTable(more), options(corpus), kept, again)[0] if row.split == "valid"} == {
        *held_out,
        f"{min(held_out)}-more",
    }


def test_segments_that_come_to_a_held_out_file_are_held_out(corpus: Path) -> None:
    whole = RowTable(ManifestRow(f"talk{n}", corpus / f"talk{n}.wav", "hello") for n in range(20))
    split, rules = with_splits(whole, options(corpus), {})
    held_out = {row.id for row in split if row.split == "valid"}
    assert held_out
    cut = [ManifestRow(f"{row.id}-{n}", row.path, "hello", start_s=1.0 + n) for row in whole for n in range(3)]
    more, kept = with_splits(RowTable([*whole, *cut]), options(corpus), rules, split)
    assert {row.id[:6].rstrip("-") for row in more if row.split == "valid"} == held_out
    assert sum(row.split == "valid" for row in more) == 4 * len(held_out)
    assert with_splits(RowTable([*whole, *cut]), options(corpus), kept, more) == (more, kept)


def test_the_listing_of_a_corpus_is_let_go_of_once_rows_are_found(corpus: Path, tmp_path: Path) -> None:
    own = options(corpus)
    origin = find_origin(own)
    assert list(origin.corpus_files) == [""]
    found = find(tmp_path, own, origin)
    assert not origin.corpus_files
    assert len(found.lists.rows) == sum(map(len, found.lists.shards))
