"""Rows of corpora of any size: the table holds what a list holds, and little of it in memory."""

from __future__ import annotations

import errno
import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lst.data.corpora import ManifestRow, assign_splits, load_corpus
from lst.data.corpora.row_checks import jobs_of, places_of_same_ids
from lst.data.corpora.row_table import ROWS_TOGETHER, RowBlock, RowFacts, RowTable, repeated, rows_of
from lst.data.corpora.unique_ids import keep_ids
from lst.data.utterance import Provenance, TimedWord
from lst.errors import UserError
from lst.parallel import ordered
from lst.storage import temporary

ROWS = [
    ManifestRow("plain", Path("/a/b.wav"), "hello there"),
    ManifestRow("url", "s3://bucket/a.wav", "", split="valid", language="de"),
    ManifestRow("own id.1", Path("/a/\udcff é\n.wav"), 'a "quoted"\u2028 text\ud800', has_own_id=True),
    ManifestRow(
        "all",
        Path("x.tar"),
        "one two",
        "ann",
        "train",
        2.5,
        1,
        "line 7",
        0.1 + 0.2,
        3,
        "b.flac",
        True,
        (TimedWord("one", 0.0, 1.0), TimedWord("two", 1.0, 2.0, -0.5, (1.5, 2.0), "a.ctm", True)),
        0.25,
        frozenset({"path", "id"}),
        True,
        Provenance("read", "page", "CC0", "yes"),
        "fr",
    ),
]


def every_field(row: ManifestRow) -> tuple[object, ...]:
    return tuple(row.__dict__.items())


def test_a_table_gives_back_each_field_of_each_row() -> None:
    table = RowTable(ROWS)
    assert list(map(every_field, table)) == list(map(every_field, ROWS))
    assert [type(row.path) for row in table] == [type(row.path) for row in ROWS]
    table += ROWS[:1] * ROWS_TOGETHER
    table.add(RowBlock.of(ROWS[1:]))
    expected = [*ROWS, *ROWS[:1] * ROWS_TOGETHER, *ROWS[1:]]
    assert table == expected
    assert (table[-1], table[2:5]) == (ROWS[-1], expected[2:5])
    assert [row for content in table.contents(7) for row in rows_of(content)] == expected
    with pytest.raises(IndexError):
        table[len(expected)]
    assert table.facts == RowFacts(
        *(True, 8, {"", "de", "fr"}, {"", "valid", "train"}, {True, False}),
        have_segments=True,
        have_whole=True,
        longest_s=2.5,
        sources={"", "read"},
    )
    assert RowTable() == []
    assert table != ROWS
    table.append(ManifestRow("a name", "a.wav", "hello"))
    assert not table.facts.has_made_ids


def test_rows_of_numpy_numbers_are_plain_ones() -> None:
    row = ManifestRow("a", "a.wav", "hello", duration_s=float(np.float64(1.5)), channel=np.int64(1))  # type: ignore[arg-type]
    assert RowTable([row])[0].channel == 1


def test_a_large_table_lies_on_disk_with_few_bytes_a_row_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "IN_MEMORY_BYTES", 1 << 16)
    num_rows, text = 3_000, "a text of some words " * 10

    def rows() -> Iterator[ManifestRow]:
        # All of one file: Python keeps the parts of every path, in a dictionary that grows by megabytes at a time.
        return (ManifestRow(f"utt-{number:07d}", Path("/corpus/a.wav"), text) for number in range(num_rows))

    tracemalloc.start()
    table = RowTable(rows())
    held_bytes = tracemalloc.get_traced_memory()[0]
    assert sum(1 for _ in table) == num_rows
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Where it ends and the key of its id; beside it what is read and written at a time.
    assert held_bytes < 60 * num_rows
    assert peak_bytes < 300 * num_rows
    assert table[num_rows - 1] == list(rows())[-1]


def test_a_full_disk_of_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    with pytest.raises(UserError, match=r"the disk that holds temporary files, .* is full.*TMPDIR"):
        RowTable(ROWS * ROWS_TOGETHER)


def test_repeated_ids_are_found_by_key_and_told_apart_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "a", "c", "a", "b"]
    table = RowTable(ManifestRow(name, f"{n}.wav", "x", place=f"line {n}") for n, name in enumerate(names))
    assert repeated(table.id_keys).tolist() == [0, 1, 2, 4, 5]
    assert places_of_same_ids(table) == {2: "line 0", 4: "line 0", 5: "line 1"}
    assert [sorted(job.same_ids) for job in jobs_of(table)] == [[2, 4, 5]]
    # Names with the same key are other names all the same.
    monkeypatch.setattr("lst.data.corpora.row_table.name_key", lambda name: 1)
    alike = RowTable(table)
    assert len(set(alike.id_keys.tolist())) == 1
    assert places_of_same_ids(alike) == {2: "line 0", 4: "line 0", 5: "line 1"}


def test_ids_stay_where_audio_had_them_before() -> None:
    now = RowTable(ManifestRow(name, f"/{name}.wav", "x") for name in ("a", "new", "c"))
    before = [
        ManifestRow("a", "/a.wav", "x"),
        ManifestRow("old", "/new.wav", "x"),
        ManifestRow("gone", "/gone.wav", "x"),
    ]
    assert [row.id for row in keep_ids(now, before)] == ["a", "old", "c"]
    assert keep_ids(now, []) is now


def test_splits_of_a_table_are_those_of_a_list() -> None:
    rows = [ManifestRow(f"u{n}", "a.wav", "x", f"s{n % 7}") for n in range(300)]
    assert assign_splits(RowTable(rows), 0.2, 0) == list(assign_splits(rows, 0.2, 0))


@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "json"])
def test_two_processes_read_the_manifest_that_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    records: list[dict[str, str]] = [{"path": f"{n}.wav", "text": f"text {n}", "speaker": "s"} for n in range(700)]
    records[300]["text"] = ""
    records[400]["path"] = "a\0b"
    lines = list(map(json.dumps, records))
    if suffix == "tsv":
        lines = ["path\ttext\tspeaker", *("\t".join(record.values()) for record in records)]
        lines[500] += "\tone more"
    elif suffix == "json":
        lines = [f"[{', '.join(lines)}]"]
    else:
        lines[500] = "no JSON"
    place = tmp_path / f"corpus.{suffix}"
    place.write_text("\n".join(lines) + "\n")
    one = load_corpus(place, "manifest")
    monkeypatch.setattr(ordered, "START_S", -1.0)
    two = load_corpus(place, "manifest", num_workers=2)
    assert list(map(every_field, one[0])) == list(map(every_field, two[0]))
    assert list(map(str, one[1])) == list(map(str, two[1]))
    assert len(one[1]) == (1 if suffix == "json" else 2)
