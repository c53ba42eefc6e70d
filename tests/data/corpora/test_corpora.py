"""Corpora on disk: their layouts, what does not pair up, and what is held out."""

from __future__ import annotations

import errno
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fsspec.implementations.local import LocalFileSystem
from repository import SHARED_DATA

from lst import storage
from lst.data.audio.read import read_audio
from lst.data.corpora.load import load_corpus
from lst.data.corpora.row_checks import check_rows, num_bad_rows
from lst.data.corpora.rows import ManifestRow
from lst.data.corpora.splits import assign_splits, choose_held_out
from lst.errors import UserError


def write_audio(path: Path, duration_s: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(duration_s * 8000), 0.1, np.float32), 8000)
    return path


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def rows_of(num_speakers: int, num_each: int, split: str = "") -> list[ManifestRow]:
    return [
        ManifestRow(f"s{speaker}-{number}", Path(f"s{speaker}-{number}.wav"), "one", f"s{speaker}", split)
        for speaker in range(num_speakers)
        for number in range(num_each)
    ]


# Layouts


def test_librispeech(tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    write_audio(root / "train-clean-100" / "103" / "1240" / "103-1240-0000.flac")
    write_audio(root / "train-clean-100" / "103" / "1240" / "103-1240-0001.wav")
    write_audio(root / "dev-clean" / "84" / "5" / "84-5-0000.ogg")
    write(
        root / "train-clean-100" / "103" / "1240" / "103-1240.trans.txt",
        "103-1240-0000 CHAPTER ONE\n103-1240-0001 MISSUS RACHEL LYNDE\n",
    )
    write(root / "dev-clean" / "84" / "5" / "84-5.trans.txt", "84-5-0000 GO\n")
    rows, problems, layout = load_corpus(root)
    assert (problems, layout) == ([], "librispeech")
    assert [(row.id, row.path.suffix, row.text, row.speaker, row.split) for row in rows] == [
        ("84-5-0000", ".ogg", "GO", "84", "valid"),
        ("103-1240-0000", ".flac", "CHAPTER ONE", "103", "train"),
        ("103-1240-0001", ".wav", "MISSUS RACHEL LYNDE", "103", "train"),
    ]
    assert check_rows(rows, 0.5, 2.0)[1] == []
    # One part of it is a corpus too, and its own name still gives the split.
    assert {row.split for row in load_corpus(root / "train-clean-100")[0]} == {"train"}


def test_a_folder_that_librispeech_did_not_name_gives_no_split(tmp_path: Path) -> None:
    root = tmp_path / "test-recordings"
    write_audio(root / "1" / "1-2-3.wav")
    write(root / "1" / "1-2.trans.txt", "1-2-3 HELLO\n")
    assert [row.split for row in load_corpus(root)[0]] == [""]


def test_librispeech_names_what_does_not_pair_up(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "1" / "2"
    for name in ("1-2-0.flac", "1-2-0.wav", "1-2-1.flac", "1-2-9.flac"):
        write_audio(folder / name)
    (folder / "._1-2-0.flac").write_bytes(b"what a file manager left")
    write(folder / "1-2.trans.txt", "1-2-0 ZERO\n\n1-2-1\n1-2-5 FIVE\n../1-2-0 UP\n")
    rows, problems, _ = load_corpus(tmp_path)
    assert [(row.id, row.path.name, row.text) for row in rows] == [
        ("1-2-0", "1-2-0.flac", "ZERO"),
        ("1-2-1", "1-2-1.flac", ""),
    ]
    assert [(problem.place, problem.id) for problem in problems] == [
        ("train/1/2/1-2.trans.txt line 4", "1-2-5"),
        ("train/1/2/1-2.trans.txt line 5", "../1-2-0"),
        ("train/1/2/1-2-9.flac", "1-2-9"),
    ]
    assert "transcript without audio" in str(problems[0])
    assert "audio without transcript" in str(problems[2])
    assert num_bad_rows(problems) == 3
    assert "the transcript is empty" in str(check_rows(rows, 0.5, 2.0)[1][0])


def test_librispeech_behind_a_link_is_found_once(tmp_path: Path) -> None:
    write_audio(tmp_path / "disk" / "train-clean-100" / "1" / "1-2-0.flac")
    write(tmp_path / "disk" / "train-clean-100" / "1" / "1-2.trans.txt", "1-2-0 ZERO\n")
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "train-clean-100").symlink_to(tmp_path / "disk" / "train-clean-100")
    (root / "loop").symlink_to(root)
    rows, problems, _ = load_corpus(root)
    assert ([row.split for row in rows], problems) == (["train"], [])


def test_ljspeech(tmp_path: Path) -> None:
    for name in ("LJ001-0001", "LJ001-0002", "LJ001-0003"):
        write_audio(tmp_path / "wavs" / f"{name}.wav")
    write(
        tmp_path / "metadata.csv",
        'LJ001-0001|Printing, in "1455|Printing, in "fourteen fifty-five\nLJ001-0002|Only one|\nLJ001-0003|Two cells\n',
    )
    rows, problems, layout = load_corpus(tmp_path)
    assert (problems, layout) == ([], "ljspeech")
    assert [row.text for row in rows] == ['Printing, in "fourteen fifty-five', "Only one", "Two cells"]
    assert {(row.speaker, row.split) for row in rows} == {("lj", "")}
    assert load_corpus(tmp_path / "metadata.csv")[0] == rows


def test_ljspeech_names_what_does_not_pair_up(tmp_path: Path) -> None:
    for name in ("L1", "L2", "L9"):
        write_audio(tmp_path / "wavs" / f"{name}.wav")
    write(tmp_path / "metadata.csv", "L1|one|one\nL2|two|two|too much\nL5|five|five\n")
    rows, problems, _ = load_corpus(tmp_path)
    assert [row.id for row in rows] == ["L1"]
    assert [str(problem) for problem in problems] == [
        "metadata.csv line 2 (id 'L2'): has 4 cells between pipes; allowed are id|text and id|text|normalized text",
        "metadata.csv line 3 (id 'L5'): transcript without audio: no wavs/L5 with one of .flac .wav .ogg .opus .mp3",
        "wavs/L9.wav (id 'L9'): audio without transcript: metadata.csv has no line for it",
    ]


def test_ljspeech_without_its_audio_folder(tmp_path: Path) -> None:
    write(tmp_path / "metadata.csv", "L1|one|one\n")
    with pytest.raises(UserError, match=r"there is no folder .*wavs"):
        load_corpus(tmp_path)


def test_metadata_csv_without_pipes_is_a_manifest(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    write(tmp_path / "metadata.csv", "file_name,transcription\na.wav,one\n")
    rows, problems, layout = load_corpus(tmp_path)
    assert ([row.id for row in rows], problems, layout) == (["a"], [], "manifest")


@pytest.mark.parametrize("name", ["manifest.tsv", "anything.tsv"])
def test_a_folder_with_a_manifest_names_audio_that_has_no_row(tmp_path: Path, name: str) -> None:
    for stem in ("a", "b", "c"):
        write_audio(tmp_path / "audio" / f"{stem}.wav")
    manifest = write(
        tmp_path / name, f"path\ttext\tsplit\n{tmp_path}/audio/../audio/a.wav\tone\t\naudio/b.wav\ttwo\tmine\n"
    )
    rows, problems, layout = load_corpus(tmp_path)
    assert ([row.id for row in rows], layout) == (["a"], "manifest")
    assert [problem.id for problem in problems] == ["b", "c"]
    assert "audio without transcript" in str(problems[1])
    assert str(manifest) in str(problems[1])
    # The file itself stands for its rows alone.
    rows, problems, _ = load_corpus(manifest)
    assert [problem.id for problem in problems] == ["b"]


def test_manifest_comes_before_other_tables_and_layouts(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    write(tmp_path / "manifest.tsv", "path\ttext\na.wav\tfrom the manifest\n")
    write(tmp_path / "other.tsv", "path\ttext\na.wav\tfrom another\n")
    write(tmp_path / "x.trans.txt", "a FROM LIBRISPEECH\n")
    rows, _, layout = load_corpus(tmp_path)
    assert ([row.text for row in rows], layout) == (["from the manifest"], "manifest")


def test_several_tables_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "path\ttext\na.wav\tone\n")
    write(tmp_path / "dev.tsv", "path\ttext\nb.wav\ttwo\n")
    with pytest.raises(UserError, match=r"several tables: dev\.tsv, train\.tsv\. Name one of them"):
        load_corpus(tmp_path)
    write(tmp_path / "manifest.tsv", "path\ttext\na.wav\tone\n")
    write(tmp_path / "manifest.csv", "path,text\na.wav,one\n")
    with pytest.raises(UserError, match=r"several tables: manifest\.csv, manifest\.tsv"):
        load_corpus(tmp_path)


def test_unknown_layouts_tell_what_was_looked_for_and_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file at all"):
        load_corpus(tmp_path)
    for number in range(7):
        write_audio(tmp_path / "audio" / f"{number}.wav")
    with pytest.raises(UserError) as raised:
        load_corpus(tmp_path)
    message = str(raised.value)
    for part in ("*.jsonl", "*.trans.txt", "metadata.csv", "audio/0.wav", "(7 files)", "id\tpath\ttext"):
        assert part in message
    assert "audio/6.wav" not in message
    with pytest.raises(UserError, match="absent does not exist"):
        load_corpus(tmp_path / "absent")


def test_errors_of_a_corpus_behind_a_url_name_the_url(tmp_path: Path) -> None:
    for number in range(7):
        write_audio(tmp_path / "some" / "audio" / f"{number}.wav")
    (tmp_path / "some" / ".hidden").mkdir()
    write(tmp_path / "some" / ".hidden" / "manifest.jsonl", "{}")
    with pytest.raises(UserError) as raised:
        load_corpus(f"local://{tmp_path}/some")
    assert f"corpus local://{tmp_path}/some has no known layout" in str(raised.value)
    assert "lst-corpus-" not in str(raised.value)
    write(tmp_path / "some" / "manifest.tsv", "id\tpath\ntwo\taudio/1.wav\n")
    with pytest.raises(UserError) as raised:
        load_corpus(f"local://{tmp_path}/some/manifest.tsv")
    assert "lst-corpus-" not in str(raised.value)
    with pytest.raises(UserError, match=f"corpus local://{tmp_path}/absent does not exist"):
        load_corpus(f"local://{tmp_path}/absent")


def test_a_url_is_taken_apart_where_storages_know_no_parents(tmp_path: Path) -> None:
    """``memory://`` takes names as they are, as object stores do."""
    root = f"memory://bucket-{tmp_path.name}"
    storage.write_text(f"{root}/lists/a.tsv", "id\tpath\ttext\none\t../audio/1.wav\tone\ntwo\t../../../2.wav\ttwo\n")
    rows, problems, layout = load_corpus(f"{root}/lists/a.tsv")
    assert (problems, layout) == ([], "manifest")
    assert rows[0].path == f"{root}/audio/1.wav"
    assert "memory://" not in str(rows[1].path)
    storage.write_text(f"memory://{tmp_path.name}.tsv", "id\tpath\ttext\none\t1.wav\tone\n")
    assert load_corpus(f"memory://{tmp_path.name}.tsv")[0][0].path == "memory://1.wav"
    for place in ("memory://", f"{root}/nothing"):
        with pytest.raises(UserError, match=f"corpus {place} does not exist or is empty"):
            load_corpus(place)


def test_what_is_no_list_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "some" / "1-2.trans.txt", "1-2-0000 ONE\n1-2-0001 TWO\n")
    for number in range(2):
        write_audio(tmp_path / "some" / f"1-2-000{number}.flac")
    for name in ("dev.tar.gz", "notes.pdf"):
        (tmp_path / "some" / name).write_bytes(b"much")
    fetched: list[str] = []
    fetch = storage.fetch
    monkeypatch.setattr(storage, "fetch", lambda wanted: (fetched.extend(wanted), fetch(wanted)))
    rows, problems, _ = load_corpus(f"local://{tmp_path}/some")
    assert (len(rows), problems) == (2, [])
    assert fetched == [f"local://{tmp_path}/some/1-2.trans.txt"]
    good, problems = check_rows(rows, 0.1, 60.0)
    assert [row.duration_s for row in good] == [1.0, 1.0]
    assert problems == []


def test_a_disk_that_fills_while_lists_are_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tsv", "id\tpath\ttext\none\t1.wav\tone\n")

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "get", fill)
    with pytest.raises(UserError, match="is full"):
        load_corpus(f"local://{tmp_path}/a.tsv")


def test_a_corpus_without_utterances_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "1-2.trans.txt", "\n")
    with pytest.raises(UserError, match=r"librispeech layout.*holds no utterance"):
        load_corpus(tmp_path)


def test_real_speech_folder_has_no_problems() -> None:
    folder = SHARED_DATA / "librispeech_mini"
    if not folder.exists():
        pytest.skip("the real speech in shared/data/librispeech_mini is absent")
    rows, problems, layout = load_corpus(folder)
    assert (len(rows), problems, layout) == (301, [], "manifest")
    assert assign_splits(rows, 0.1, 0) == rows
    samples = read_audio(rows[0].path)
    assert len(samples) / 16000 == pytest.approx(rows[0].duration_s, abs=0.01)
    assert 0.01 < np.abs(samples).max() <= 1.0


# Splits


def test_whole_speakers_are_held_out_whatever_the_order() -> None:
    rows = rows_of(40, 5)
    split = assign_splits(rows, 0.1, seed=3)
    assert [replace(row, split="") for row in split] == rows
    assert Counter(row.split for row in split) == {"train": 180, "valid": 20}
    by_speaker = {row.speaker: set() for row in rows}
    for row in split:
        by_speaker[row.speaker].add(row.split)
    assert all(len(splits) == 1 for splits in by_speaker.values())
    shuffled = random.Random(0).sample(rows, len(rows))
    assert sorted(assign_splits(shuffled, 0.1, seed=3), key=lambda row: row.id) == sorted(split, key=lambda row: row.id)
    assert assign_splits(rows, 0.1, seed=4) != split


def test_few_speakers_are_split_by_utterance() -> None:
    split = assign_splits(rows_of(4, 25), 0.1, seed=0)
    assert Counter(row.split for row in split) == {"train": 90, "valid": 10}
    assert {row.speaker for row in split if row.split == "train"} == {f"s{number}" for number in range(4)}


def segments(name: str, count: int) -> list[ManifestRow]:
    return [ManifestRow(f"{name}-{n}", Path(f"/talks/{name}.wav"), "hello", start_s=1.0 + n) for n in range(count)]


def splits_by_file(rows: Iterable[ManifestRow]) -> dict[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for row in rows:
        found[Path(row.path).stem].add(row.split)
    return dict(found)


def test_segments_of_a_recording_are_in_one_split() -> None:
    rows = [row for n in range(12) for row in segments(f"talk{n}", 10)]
    for seed in range(5):
        split = assign_splits(rows, 0.2, seed, root="/talks")
        assert all(len(splits) == 1 for splits in splits_by_file(split).values())
        assert Counter(row.split for row in split) == {"train": 100, "valid": 20}
    # Wherever the corpus lies, and whatever the order.
    moved = [replace(row, path=Path(f"/elsewhere/{Path(row.path).name}")) for row in rows]
    assert [row.split for row in assign_splits(moved, 0.2, 4, root="/elsewhere")] == [row.split for row in split]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert splits_by_file(assign_splits(shuffled, 0.2, 4, root="/talks")) == splits_by_file(split)
    # Files of which the corpus gives a segment to training are not held out.
    trained = [replace(row, split="train") if row.id.endswith("-0") and row.id < "talk2" else row for row in rows]
    held_out = splits_by_file(row for row in assign_splits(trained, 0.2, 0) if row.split == "valid")
    assert held_out
    assert not held_out.keys() & {Path(row.path).stem for row in trained if row.split}


def test_whole_files_beside_segments_are_drawn_one_by_one() -> None:
    single = [ManifestRow(f"utt{n}", Path(f"/talks/utt{n}.wav"), "hello") for n in range(50)]
    rule = choose_held_out([*single, *segments("long", 50), *segments("other", 8)], 0.2, 0, "/talks") or {}
    split = assign_splits([*single, *segments("long", 50), *segments("other", 8)], 0.2, 0, rule, "/talks")
    assert sum(row.split == "valid" for row in split[:50]) == 10
    assert splits_by_file(split[50:]) == {"long": {"train"}, "other": {"valid"}}
    # Later segments of a file go where the others are, those of a new one to training.
    later = assign_splits([*segments("other", 20), *segments("new", 20)], 0.2, 0, rule, "/talks")
    assert splits_by_file(later) == {"other": {"valid"}, "new": {"train"}}
    # Where no file has two, the draw is that of whole files.
    alone = [replace(row, start_s=0.5) for row in single]
    of_files, of_segments = (assign_splits(rows, 0.2, 0, root="/talks") for rows in (single, alone))
    assert [row.split for row in of_segments] == [row.split for row in of_files]


def test_a_whole_file_goes_with_its_segments() -> None:
    whole = [ManifestRow(f"whole{n}", Path(f"/talks/talk{n}.wav"), "hello") for n in range(12)]
    single = [ManifestRow(f"utt{n}", Path(f"/talks/utt{n}.wav"), "hello") for n in range(50)]
    rows = [*whole, *single, *(row for n in range(12) for row in segments(f"talk{n}", 10))]
    for seed in range(5):
        split = splits_by_file(assign_splits(rows, 0.2, seed, root="/talks"))
        assert all(len(splits) == 1 for splits in split.values())
        assert {"valid"} in (split[f"talk{n}"] for n in range(12))
        assert {"valid"} in (split[f"utt{n}"] for n in range(50))


def test_of_two_recordings_the_shorter_is_held_out_and_of_one_single_segments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = assign_splits([*segments("a", 30), *segments("b", 10)], 0.1, 0)
    assert splits_by_file(two) == {"a": {"train"}, "b": {"valid"}}
    # One that is many times what is wanted is not held out whole, nor is a single short file all there is.
    long = assign_splits([*segments("a", 90), *segments("b", 90)], 0.05, 0)
    assert sum(row.split == "valid" for row in long) == 9
    assert "recordings are too long to hold one out: " in capsys.readouterr().err
    beside = [*segments("a", 90), *segments("b", 90), ManifestRow("short", Path("/talks/short.wav"), "hello")]
    assert sum(row.split == "valid" for row in assign_splits(beside, 0.05, 0)) == 9
    capsys.readouterr()
    one = assign_splits(segments("a", 30), 0.1, 0, root="/talks")
    assert sum(row.split == "valid" for row in one) == 3
    assert "a.wav alone has 30 of 30 utterances. Single segments are held out" in capsys.readouterr().err


@pytest.mark.parametrize(("num_speakers", "num_each", "num_valid"), [(5, 10, 10), (1, 10, 1), (1, 2, 1)])
def test_at_least_one_utterance_is_held_out(num_speakers: int, num_each: int, num_valid: int) -> None:
    split = assign_splits(rows_of(num_speakers, num_each), 0.01, seed=0)
    assert sum(row.split == "valid" for row in split) == num_valid


def test_a_high_share_leaves_something_to_train_on() -> None:
    for rows in (rows_of(1, 2), rows_of(5, 1)):
        assert {row.split for row in assign_splits(rows, 0.99, seed=0)} == {"train", "valid"}


def test_splits_that_are_set_are_kept() -> None:
    rows = [*rows_of(10, 2, "train"), *[replace(row, id=f"v{row.id}", split="valid") for row in rows_of(1, 2)]]
    unset = [replace(row, id=f"u{row.id}", split="") for row in rows_of(6, 2)]
    split = assign_splits([*rows, *unset], 0.5, seed=0)
    assert split[: len(rows)] == rows
    assert {row.split for row in split[len(rows) :]} == {"train"}


def test_rows_without_a_split_are_held_out_before_training_rows() -> None:
    train = rows_of(10, 2, "train")
    unset = [replace(row, id=f"u{row.id}", speaker=f"u{row.speaker}", split="") for row in rows_of(6, 2)]
    split = assign_splits([*train, *unset], 0.1, seed=0)
    assert split[: len(train)] == train
    held_out = {row.speaker for row in split if row.split == "valid"}
    assert len(held_out) == 1
    assert sum(row.split == "valid" for row in split) == 2
    # Speakers who also train are not held-out speakers: single utterances are.
    shared = [replace(row, speaker=row.speaker.removeprefix("u")) for row in unset]
    split = assign_splits([*train, *shared], 0.1, seed=0)
    assert sum(row.split == "valid" for row in split) == 3


def test_a_corpus_of_training_rows_alone_still_gets_held_out_rows() -> None:
    split = assign_splits(rows_of(20, 5, "train"), 0.1, seed=0)
    assert Counter(row.split for row in split) == {"train": 90, "valid": 10}


def test_shares_out_of_range_and_single_utterances() -> None:
    assert {row.split for row in assign_splits(rows_of(1, 1), 0.0, seed=0)} == {"train"}
    assert assign_splits([], 0.1, seed=0) == []
    with pytest.raises(UserError, match="one usable utterance"):
        assign_splits(rows_of(1, 1), 0.1, seed=0)
    assert {row.split for row in assign_splits(rows_of(1, 2), 1.0, seed=0)} == {"valid"}
    for share in (-0.1, 1.1):
        with pytest.raises(UserError, match="valid_share"):
            assign_splits(rows_of(1, 2), share, seed=0)
