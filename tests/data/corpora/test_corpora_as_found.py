"""Corpora as people have them: layouts of toolkits and hubs, spellings of names, ids, tables of other programs."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import RATE_HZ, audio_bytes, sound, write, write_audio, write_lines, write_tar

from lst.data.audio.places import AudioRef, format_audio_ref, parse_audio_ref
from lst.data.audio.read import read_row_audio
from lst.data.corpora.ids import MAX_ID_CHARS, id_of
from lst.data.corpora.load import load_corpus
from lst.data.corpora.on_the_fly import check_on_the_fly, format_line, parse_line, read_row
from lst.data.corpora.rows import ManifestRow
from lst.data.corpora.splits import assign_splits
from lst.data.utterance import TimedWord, Utterance
from lst.errors import UserError

TEXT = "one two three"


def found(place: Path) -> tuple[list[ManifestRow], list[str], str]:
    rows, problems, layout = load_corpus(place)
    return rows, [str(problem) for problem in problems], layout


def facts(place: Path) -> tuple[str, list[tuple[str, str, str, str]], list[str]]:
    rows, problems, layout = found(place)
    return layout, [(row.id, row.text, row.speaker, row.split) for row in rows], problems


def test_an_audiofolder_has_its_splits_in_folders(tmp_path: Path) -> None:
    for name in ("train/a", "validation/b"):
        write_audio(tmp_path / f"{name}.flac")
    write_lines(tmp_path / "train" / "metadata.jsonl", [{"file_name": "a.flac", "transcription": TEXT}])
    write(tmp_path / "validation" / "metadata.csv", f"file_name,transcription\nb.flac,{TEXT}\n")
    expected = [("a", TEXT, "unknown", "train"), ("b", TEXT, "unknown", "valid")]
    assert facts(tmp_path) == ("audiofolder", expected, [])


def test_an_audiofolder_with_its_table_at_the_top_has_splits_too(tmp_path: Path) -> None:
    lines = ["file_name,transcription,text"]
    for name in ("train/test_a", "test/b"):
        write_audio(tmp_path / f"{name}.flac")
        lines.append(f"{name}.flac,{TEXT},other")
    write(tmp_path / "metadata.csv", "\n".join(lines) + "\n")
    expected = [("test_a", "other", "unknown", "train"), ("b", "other", "unknown", "valid")]
    assert facts(tmp_path) == ("audiofolder", expected, [])


def test_which_of_several_texts_is_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "m.csv", "path,sentence,transcript\na.wav,one,two\n")
    assert [row.text for row in found(tmp_path / "m.csv")[0]] == ["two"]
    assert "of its columns transcript, sentence, transcript is taken for the text" in capsys.readouterr().err


@pytest.mark.parametrize("has_struct", [True, False])
def test_parquet_holds_the_bytes_of_audio(tmp_path: Path, has_struct: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    contents = [audio_bytes("flac", 0.5, seed) for seed in range(5)]
    audio: list[Any] = [{"bytes": content, "path": f"x/u{n}.flac"} for n, content in enumerate(contents)]
    columns = {
        "audio": audio if has_struct else contents,
        "sentence": [TEXT] * 5,
        "speaker_id": [7] * 5,
        "duration": [0.5] * 5,
        "tags": [["a"]] * 5,
    }
    (tmp_path / "data").mkdir()
    place = tmp_path / "data" / "train-00000-of-00001.parquet"
    parquet.write_table(pyarrow.table(columns), place, row_group_size=2)
    rows, problems, layout = found(tmp_path)
    assert (layout, problems, len(rows)) == ("parquet", [], 5)
    names = [f"u{n}" if has_struct else f"train-00000-of-00001-{n:06d}" for n in range(5)]
    assert [(row.id, row.text, row.speaker, row.split) for row in rows] == [(n, TEXT, "7", "train") for n in names]
    for seed, row in enumerate(rows):
        soundfile_samples = sound(0.5, seed)
        np.testing.assert_allclose(read_row_audio(row), soundfile_samples, atol=1e-4)
    with pytest.raises(UserError, match="has no cell 'audio/9'"):
        read_row_audio(AudioRef(place, member="audio/9"))
    place.write_bytes(place.read_bytes()[:200])
    assert "cannot be read as a Parquet file" in found(tmp_path)[1][0]


def test_kaldi_folders_with_segments_and_without(tmp_path: Path) -> None:
    write_audio(tmp_path / "audio" / "r.wav", 2.0)
    train, dev = tmp_path / "data" / "train", tmp_path / "data" / "dev"
    write(train / "wav.scp", "r1 audio/r.wav\nr2 sph2pipe -f wav a.sph |\n")
    write(train / "text", "s-u1 one two\ns-u2  three\ns-u3 four\ns-u4 five\n")
    write(train / "segments", "s-u1 r1 0.5 1.25\ns-u2 r1 1.25 -1\ns-u3 r2 0 1\ns-u4 r9 0 1\n")
    write(train / "utt2spk", "s-u1 ann\n")
    write(train / "spk2utt", "bea s-u1 s-u9\nann s-u2\n")
    write(dev / "wav.scp", f"u.9 {tmp_path / 'audio' / 'r.wav'}\n")
    write(dev / "text", "u.9\tone two\n")
    rows, problems, layout = found(tmp_path)
    assert layout == "kaldi"
    assert [(row.id, row.text, row.speaker, row.split, row.start_s, row.duration_s) for row in rows] == [
        ("u_9", "one two", "unknown", "valid", 0.0, None),
        ("s-u1", "one two", "ann", "train", 0.5, 0.75),
        ("s-u2", "three", "ann", "train", 1.25, None),
    ]
    assert len(read_row_audio(rows[2])) == 0.75 * RATE_HZ
    assert "commands are not run" in problems[0]
    assert "wav.scp has no recording 'r9'" in problems[1]


@pytest.mark.parametrize("suffix", [".lab", ".txt", ".normalized.txt", ".TXT", ".LAB"])
def test_transcripts_beside_audio(tmp_path: Path, suffix: str) -> None:
    for name in ("train-clean/ann/u1", "train-clean/ben/u1", "test-clean/cat/103_1240_000000_000001"):
        write_audio(tmp_path / f"{name}.wav")
        write(tmp_path / f"{name}{suffix}", f"{TEXT}\n")
    write_audio(tmp_path / "train-clean" / "ben" / "u9.wav")
    layout, rows, problems = facts(tmp_path)
    assert layout == "text_beside"
    assert rows == [
        ("103_1240_000000_000001", TEXT, "103", "valid"),
        ("train-clean_ann_u1", TEXT, "ann", "train"),
        ("train-clean_ben_u1", TEXT, "ben", "train"),
    ]
    assert len(problems) == 1
    assert "u9" in problems[0]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_gigaspeech_and_wenetspeech(tmp_path: Path, indent: int | None, suffix: str) -> None:
    write_audio(tmp_path / "audio" / "p.wav", 3.0)
    segments = [
        {"sid": "P_1", "begin_time": 0.5, "end_time": 1.5, "text_tn": "ONE <COMMA> TWO", "subsets": ["{XL}"]},
        {"sid": "P_2", "begin_time": 2, "end_time": 1, "text": "x"},
        {"sid": "P_3", "begin_time": 1.5, "end_time": 3, "text": "three", "subsets": ["DEV"]},
    ]
    content = json.dumps(
        {"dataset": "x", "audios": [{"aid": "P", "path": "audio/p.wav", "segments": segments}]}, indent=indent
    )
    place = tmp_path / f"Giga{suffix}"
    place.write_bytes(gzip.compress(content.encode()) if suffix.endswith("gz") else content.encode())
    layout, rows, problems = facts(tmp_path)
    assert (layout, rows) == (
        "gigaspeech",
        [("P_1", "ONE <COMMA> TWO", "unknown", "train"), ("P_3", "three", "unknown", "valid")],
    )
    assert "the end after the start" in problems[0]


def test_a_common_voice_release_is_found_below_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cv-corpus-17.0" / "en"
    write_audio(folder / "clips" / "c1.mp3")
    write(folder / "train.tsv", f"client_id\tpath\tsentence\nann\tc1.mp3\t{TEXT}\n")
    assert facts(tmp_path) == ("common_voice", [("c1", TEXT, "ann", "train")], [])
    write_audio(folder.parent / "de" / "clips" / "c1.mp3")
    write(folder.parent / "de" / "train.tsv", "client_id\tpath\tsentence\nann\tc1.mp3\teins\n")
    with pytest.raises(UserError, match=r"name one of them: cv-corpus-17.0/de, cv-corpus-17.0/en"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "layout"), [("list.json", "path", "manifest"), ("dev.json", "audio_filepath", "nemo")]
)
def test_arrays_of_json_objects(tmp_path: Path, name: str, key: str, layout: str) -> None:
    write_audio(tmp_path / "a.wav")
    write_audio(tmp_path / "b.wav")
    records: list[Any] = [{key: "a.wav", "text": "one [two], {three}"}, 5, {key: "b.wav", "text": "two"}]
    write(tmp_path / name, json.dumps(records, indent=2))
    found_layout, rows, problems = facts(tmp_path)
    assert (found_layout, [row[:2] for row in rows]) == (layout, [("a", "one [two], {three}"), ("b", "two")])
    assert "line 2: not a JSON object: '5'" in problems[0]
    write(tmp_path / name, json.dumps(records)[:-20])
    assert "does not go on from here" in facts(tmp_path)[2][1]


def lhotse_files(folder: Path) -> Any:
    """Recordings, supervisions and cuts that lhotse itself writes; a word alignment in the time of the recording."""
    lhotse = pytest.importorskip("lhotse")
    write_audio(folder / "r.wav", 3.0)
    item = lhotse.supervision.AlignmentItem
    segments = [
        lhotse.SupervisionSegment(
            "s1", "r", 0.5, 1.0, text="one two", alignment={"word": [item("one", 0.6, 0.2), item("two", 0.9, 0.3)]}
        ),
        lhotse.SupervisionSegment(
            "s2", "r", 1.7, 1.0, text="three", speaker="ben", alignment={"word": [item("three", 2.0, 0.3)]}
        ),
    ]
    recordings = lhotse.RecordingSet.from_recordings([lhotse.Recording.from_file(folder / "r.wav", recording_id="r")])
    return recordings, lhotse.SupervisionSet.from_segments(segments), lhotse


def test_word_times_of_trimmed_lhotse_cuts(tmp_path: Path) -> None:
    recordings, supervisions, lhotse = lhotse_files(tmp_path)
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions)
    expected = [(TimedWord("one", 0.1, 0.3), TimedWord("two", 0.4, 0.7)), (TimedWord("three", 0.3, 0.6),)]
    trimmed = cuts.trim_to_supervisions(keep_overlapping=False).to_eager()
    for name, some in {
        "cuts": cuts,
        "trimmed": trimmed,
        "padded": trimmed.extend_by(duration=0.2, direction="left"),
    }.items():
        (tmp_path / name).mkdir()
        some.to_file(tmp_path / name / "cuts.jsonl")
        rows, problems, _ = found(tmp_path / name)
        assert (problems, [row.words for row in rows], [row.start_s for row in rows]) == ([], expected, [0.5, 1.7]), (
            name
        )
    (tmp_path / "plain").mkdir()
    recordings.to_file(tmp_path / "plain" / "mini_recordings_train.jsonl.gz")
    supervisions.to_file(tmp_path / "plain" / "mini_supervisions_train.jsonl.gz")
    rows, problems, layout = found(tmp_path / "plain")
    assert (layout, problems, [row.words for row in rows]) == ("lhotse", [], expected)
    assert [(row.id, row.speaker, row.split) for row in rows] == [("s1", "unknown", "train"), ("s2", "ben", "train")]
    (tmp_path / "shar").mkdir()
    trimmed.to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=1)
    rows, problems, _ = found(tmp_path / "shar")
    assert (problems, [(row.id, row.member, row.words) for row in rows]) == (
        [],
        [("s1", "s1.flac", ()), ("s2", "s2.flac", ())],
    )
    np.testing.assert_allclose(read_row_audio(rows[0]), sound(3.0)[RATE_HZ // 2 : RATE_HZ * 3 // 2], atol=1e-4)


def test_texts_of_tar_samples_have_several_suffixes(tmp_path: Path) -> None:
    audio = audio_bytes("flac")
    members = {
        "a.flac": audio,
        "a.trans.txt": b"one",
        "b.flac": audio,
        "b.original.txt": b"1",
        "b.normalized.txt": b"two",
    }
    write_tar(tmp_path / "x.tar", members)
    write(tmp_path / "y.tar.gz", "x")
    layout, rows, problems = facts(tmp_path)
    assert (layout, [row[:2] for row in rows]) == ("webdataset", [("a", "one"), ("b", "two")])
    assert problems == [
        "y.tar.gz: is a compressed tar, whose samples would be left out. Unpack it (gunzip FILE), or move it away"
    ]


def test_ids_are_told_apart_by_one_rule(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / "tars" / f"s-{number}.tar", {"000.flac": audio_bytes("flac"), "000.txt": b"one"})
    assert [row.id for row in found(tmp_path / "tars")[0]] == ["s-0_000", "s-1_000"]
    names = ["早上/长信.wav", "早上/钥匙.wav", "x/a b.wav", "x/a#b.wav", "y/c.wav", "z/c.wav", f"{'n' * 200}.wav"]
    for name in names:
        write_audio(tmp_path / "files" / name)
    write_lines(tmp_path / "files" / "manifest.jsonl", [{"path": name, "text": "one"} for name in names])
    rows, problems, _ = found(tmp_path / "files")
    ids = [row.id for row in rows]
    assert (problems, ids[4:6]) == ([], ["y_c", "z_c"])
    assert len({*ids}) == len(names)
    assert all(1 <= len(name) <= MAX_ID_CHARS and name == id_of(name) for name in ids)
    # The order and number of other rows tell nothing.
    write_lines(tmp_path / "files" / "manifest.jsonl", [{"path": name, "text": "one"} for name in reversed(names)])
    assert [row.id for row in found(tmp_path / "files")[0]] == ids[::-1]


@pytest.mark.parametrize("name", ["clip#t=1,4.wav", "take #0 100% done.wav", "a#", "b#channel=1", "c#t=1,2", "d##"])
def test_any_name_survives_as_a_reference(name: str) -> None:
    for place in (AudioRef(Path("/x") / name), AudioRef(Path("/x") / name, 1.5, 2.0, True, 1, "m#t=1.flac")):
        assert parse_audio_ref(format_audio_ref(place)) == place


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_on_disk_may_have_another_unicode_form(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    listed, there = (unicodedata.normalize(one, "café/é.wav") for one in (form, other))
    write_audio(tmp_path / there)
    write_lines(tmp_path / "manifest.jsonl", [{"path": listed, "text": TEXT}])
    rows, problems, _ = found(tmp_path)
    assert ([row.path for row in rows], problems) == ([tmp_path / there], [])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_layouts_find_names_in_another_unicode_form(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    listed, there = (unicodedata.normalize(name, "caf\u00e9") for name in (form, other))
    write_audio(tmp_path / "clips" / f"{there}.mp3")
    write(tmp_path / "train.tsv", f"client_id\tpath\tsentence\nann\t{listed}.mp3\t{TEXT}\n")
    assert [row.path for row in found(tmp_path)[0]] == [tmp_path / "clips" / f"{there}.mp3"]
    for name in ("lhotse", "peoples", "tar"):
        write_audio(tmp_path / name / f"{there}.wav")
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": f"{listed}.wav"}]}
    supervision = {"id": "r", "start": 0.0, "duration": 0.5, "text": TEXT}
    cut = {"id": "c", "start": 0.0, "duration": 0.5, "recording": recording, "supervisions": [supervision]}
    write_lines(tmp_path / "lhotse" / "cuts.jsonl", [cut])
    write_lines(
        tmp_path / "peoples" / "a.json",
        [{"training_data": {"duration_ms": [500], "label": [TEXT], "name": [f"{listed}.wav"]}}],
    )
    for name in ("lhotse", "peoples"):
        assert [row.path for row in found(tmp_path / name)[0]] == [tmp_path / name / f"{there}.wav"]
    write_tar(tmp_path / "tar" / "a.tar", {f"./x/{there}.wav": audio_bytes("wav", 0.5)})
    write_lines(tmp_path / "tar" / "m.jsonl", [{"path": "a.tar", "member": f"x/{listed}.wav", "text": TEXT}])
    assert len(read_row_audio(found(tmp_path / "tar" / "m.jsonl")[0][0])) == RATE_HZ // 2


@pytest.mark.parametrize("writer", ["pandas", "excel", "all", "none"])
def test_quotes_of_a_tsv(tmp_path: Path, writer: str) -> None:
    said = ['she put "the" cup', "one, two", "three"]
    quoted = {
        "pandas": ['"she put ""the"" cup"', "one, two", "three"],
        "excel": ['"she put ""the"" cup"', '"one, two"', "three"],
        "all": ['"she put ""the"" cup"', '"one, two"', '"three"'],
        "none": said,
    }[writer]
    head, path = ('"path"\t"text"', '"{}.wav"') if writer == "all" else ("path\ttext", "{}.wav")
    lines = [f"{path.format(number)}\t{text}" for number, text in enumerate(quoted)]
    write(tmp_path / "manifest.tsv", "\n".join([head, *lines]) + "\n")
    assert [row.text for row in found(tmp_path / "manifest.tsv")[0]] == said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.csv", 'path;text\na.wav;"one; two,\nthree"\n'),
        ("manifest.csv", 'sep=;\npath;text\na.wav;"one; two,\nthree"\n'),
        ("manifest.csv", 'sep=,\npath,text\na.wav,"one; two,\nthree"\n'),
        ("manifest.csv", 'path\ttext\na.wav\t"one; two,\nthree"\n'),
        ("manifest.csv", 'path|text\na.wav|"one; two,\nthree"\n'),
        ("manifest.tsv", 'path,text\na.wav,"one; two,\nthree"\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_header_tells_the_separator_where_the_name_does_not(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    (tmp_path / name).write_bytes(content.encode(encoding))
    rows, problems, _ = found(tmp_path / name)
    assert ([row.text for row in rows], problems) == (["one; two,\nthree"], [])


def test_a_packed_manifest_is_read_in_preference_to_other_tables(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    write(tmp_path / "speakers.tsv", "name\tage\nann\t30\n")
    for name in ("manifest.jsonl.gz", "manifest.json.gz"):
        (tmp_path / name).write_bytes(gzip.compress(json.dumps([{"path": "a.wav", "text": TEXT}]).encode()))
        assert facts(tmp_path) == ("manifest", [("a", TEXT, "unknown", "")], [])
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("line", "speaker"), [("u{}|spk{}|one two three", "spk0"), ("u{}|one two three|spk{}", "spk0")]
)
def test_speakers_in_a_table_of_ljspeech(
    tmp_path: Path, line: str, speaker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        write_audio(tmp_path / "wavs" / f"u{number}.wav")
    write(tmp_path / "metadata.csv", "".join(line.format(number, number % 2) + "\n" for number in range(4)))
    layout, rows, problems = facts(tmp_path)
    assert (layout, rows[0], problems) == ("ljspeech", ("u0", TEXT, speaker, ""), [])
    assert "is taken for the speaker" in capsys.readouterr().err


def test_splits_are_kept_or_said(capsys: pytest.CaptureFixture[str]) -> None:
    held_out = [ManifestRow(f"u{number}", "a.wav", TEXT, split="valid") for number in range(8)]
    assert {row.split for row in assign_splits(held_out, 1.0, 0)} == {"valid"}
    assert capsys.readouterr().err == ""
    assert {row.split for row in assign_splits(held_out, 0.25, 0)} == {"valid", "train"}
    assert "data.valid_share=1 holds out all" in capsys.readouterr().err
    train = [ManifestRow(f"u{number}", "a.wav", TEXT, split="train") for number in range(8)]
    assert {row.split for row in assign_splits(train, 0.0, 0)} == {"train"}
    assert sum(row.split == "valid" for row in assign_splits(train, 0.25, 0)) == 2
    assert "2 of its training utterances are held out" in capsys.readouterr().err


SEP = "<LST MODE SEP>"
LINES = [
    {
        "file_id": "dir/é 1.flac",
        "interleaved": f"{SEP}TEXT [SIL]{SEP}TEXT a{SEP}HUBERT 1 2{SEP}TEXT [SIL]{SEP}HUBERT 3",
    },
    {
        "file_id": "dir_e_1_flac",
        "interleaved": f"{SEP}TEXT a{SEP}HUBERT 1 2{SEP}TEXT [SIL]{SEP}HUBERT 3{SEP}TEXT [SIL]{SEP}HUBERT 4",
    },
    {"file_id": "u", "interleaved": f"{SEP}TEXT a{SEP}TEXT b{SEP}HUBERT {SEP}TEXT c{SEP}HUBERT 7{SEP}TEXT [SIL]"},
]


def test_on_the_fly_survives_import_shards_and_export(tmp_path: Path) -> None:
    place = write_lines(tmp_path / "a.on_the_fly", LINES)
    rows, problems, _ = check_on_the_fly([place], 25, 0.0, 60.0, 0)
    assert ([str(problem) for problem in problems], len({row.id for row in rows})) == ([], 3)
    for row, line in zip(rows, LINES, strict=True):
        utterance = read_row(row, 25)
        again = Utterance.from_record(json.loads(json.dumps(utterance.to_record())), utterance.units)
        assert json.loads(format_line(again)) == line
        assert again.id == row.id == id_of(row.id)
    plain = parse_line(json.dumps({"file_id": "u", "interleaved": f"{SEP}TEXT a{SEP}HUBERT 1"}).encode(), 25)
    assert not {"source_id", "source_segments"} & set(plain.to_record())
