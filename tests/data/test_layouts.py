"""Layouts of public corpora: told by their files, read into rows, and what is faulty named with its place."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.data.audio import read_row_audio
from lst.data.config import LAYOUT_NAMES
from lst.data.corpora import load_corpus
from lst.data.layouts import LAYOUTS
from lst.data.manifest import ManifestProblem, ManifestRow, TimedWord, read_manifest, write_manifest
from lst.data.row_checks import check_rows
from lst.errors import UserError

RATE_HZ = 16_000


def sound(duration_s: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(duration_s * RATE_HZ)).astype(np.float32)


def write_audio(path: Path, duration_s: float = 1.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, sound(duration_s, seed), RATE_HZ, **options)
    return path


def audio_bytes(suffix: str, duration_s: float = 1.0, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(duration_s, seed), RATE_HZ, format=suffix)
    return buffer.getvalue()


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def write_lines(path: Path, records: list[Any]) -> Path:
    content = "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def check_that_a_url_gives_the_same(
    path: Path, rows: list[ManifestRow], problems: list[ManifestProblem], layout: str
) -> None:
    """``local://`` is a file system like any other to fsspec."""

    def remote(item: Any) -> Any:
        if item.path is None or not str(item.path).startswith(str(path.parent)):
            return item
        return replace(item, path=f"local://{item.path}")

    found = load_corpus(f"local://{path}")
    assert found[0] == list(map(remote, rows))
    assert found[2] == layout
    shown = [str(problem).replace(f"local://{path.parent}", str(path.parent)) for problem in found[1]]
    assert shown == [str(problem) for problem in problems]
    assert [problem.path for problem in found[1]] == [remote(problem).path for problem in problems]


def load(path: Path, expected: str) -> tuple[list[ManifestRow], list[str]]:
    """Rows and problems, which are the same whether the layout is found or forced, and do not change when written."""
    rows, problems, layout = load_corpus(path)
    assert layout == expected
    assert load_corpus(path, expected) == (rows, problems, layout)
    assert all(problem.place for problem in problems)
    check_that_a_url_gives_the_same(path, rows, problems, layout)
    good, faults = check_rows(rows, 0.05, 60.0)
    if good:
        write_manifest(path.parent / "kept" / "all.jsonl", good)
        assert read_manifest(path.parent / "kept" / "all.jsonl") == good
    for row in good:
        samples = read_row_audio(row)
        assert len(samples) == pytest.approx(row.duration_s * RATE_HZ, abs=1)
    return rows, [str(problem) for problem in [*problems, *faults]]


def test_every_layout_can_be_named() -> None:
    assert set(LAYOUT_NAMES) == {"auto", *LAYOUTS}


def test_a_layout_that_is_unknown_or_not_there_is_named(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    with pytest.raises(UserError, match=r"layout=librispech: allowed are auto, manifest, librispeech"):
        load_corpus(tmp_path, "librispech")
    for layout in LAYOUTS:
        with pytest.raises(UserError) as raised:
            load_corpus(tmp_path, layout)
        assert str(tmp_path) in str(raised.value), layout


def test_vctk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "VCTK-Corpus-0.92"
    audio = root / "wav48_silence_trimmed"
    for name in ("p225/p225_001_mic1", "p225/p225_001_mic2", "p280/p280_001_mic2", "p315/p315_001_mic1"):
        write_audio(audio / f"{name}.flac")
    write(root / "txt" / "p225" / "p225_001.txt", "Please call  Stella.\n")
    write(root / "txt" / "p280" / "p280_001.txt", "Ask her to bring these things.\n")
    write(root / "txt" / "p225" / "p225_002.txt", "Not recorded.\n")
    (root / "txt" / "p280" / "p280_003.txt").write_bytes(b"caf\xe9")
    write_audio(audio / "p280" / "p280_003_mic1.flac")
    write(root / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION\np225  23  F    English    Southern  England\n")
    rows, problems = load(root, "vctk")
    assert [(row.id, Path(row.path).name, row.text, row.speaker, row.split) for row in rows] == [
        ("p225_001", "p225_001_mic1.flac", "Please call Stella.", "p225", ""),
        ("p280_001", "p280_001_mic2.flac", "Ask her to bring these things.", "p280", ""),
    ]
    assert [problem.partition(": ")[0] for problem in problems] == [
        "txt/p225/p225_002.txt (id 'p225_002')",
        "txt/p280/p280_003.txt (id 'p280_003')",
        "wav48_silence_trimmed/p315/p315_001_mic1.flac (id 'p315_001_mic1')",
    ]
    assert "transcript without audio" in problems[0]
    assert "not UTF-8" in problems[1]
    assert "audio without transcript" in problems[2]
    assert "1 recordings by the second microphone are not used" in capsys.readouterr().err


def test_vctk_of_the_first_release(tmp_path: Path) -> None:
    write_audio(tmp_path / "wav48" / "p225" / "p225_001.wav")
    write(tmp_path / "txt" / "p225" / "p225_001.txt", "Please call Stella.")
    rows, problems = load(tmp_path, "vctk")
    assert ([row.id for row in rows], problems) == (["p225_001"], [])


HEADER = "client_id\tpath\tsentence\tup_votes\tage\n"


def test_common_voice(tmp_path: Path) -> None:
    root = tmp_path / "cv-corpus" / "en"
    for number in range(6):
        write_audio(root / "clips" / f"common_voice_en_{number}.mp3")
    write(
        root / "train.tsv",
        f'{HEADER}c1\tcommon_voice_en_0.mp3\tHe said "no\t2\t\nc1\tcommon_voice_en_1\tOld form.\t2\t\n',
    )
    write(root / "dev.tsv", f"{HEADER}c2\tcommon_voice_en_2.mp3\tTwo.\t2\t\nc2\tcommon_voice_en_9.mp3\tGone.\t2\t\n")
    write(root / "test.tsv", f"{HEADER}c3\tcommon_voice_en_3.mp3\tThree.\nc3\t\tNo name.\t2\t\n")
    write(root / "validated.tsv", f"{HEADER}c1\tcommon_voice_en_4.mp3\tFour.\t2\t\n")
    rows, problems = load(root, "common_voice")
    assert [(row.id, row.text, row.speaker, row.split) for row in rows] == [
        ("common_voice_en_0", 'He said "no', "c1", "train"),
        ("common_voice_en_1", "Old form.", "c1", "train"),
        ("common_voice_en_2", "Two.", "c2", "valid"),
        ("common_voice_en_9", "Gone.", "c2", "valid"),
    ]
    assert [problem.partition(" (id")[0] for problem in problems] == [
        "test.tsv line 2: has 3 cells, the header has 5",
        "test.tsv line 3: names no audio file",
        "dev.tsv line 3",
    ]
    # A table that is named stands for its rows alone; validated.tsv is read where there is no other.
    assert [row.id for row in load(root / "validated.tsv", "common_voice")[0]] == ["common_voice_en_4"]
    for name in ("train", "dev", "test"):
        (root / f"{name}.tsv").unlink()
    assert [(row.id, row.split) for row in load(root, "common_voice")[0]] == [("common_voice_en_4", "")]
    write(root / "validated.tsv", "client_id\tpath\nc1\ta.mp3\n")
    with pytest.raises(UserError, match=r"validated\.tsv, line 1: no column sentence"):
        load_corpus(root)


@pytest.mark.parametrize("suffix", [".flac", ".opus"])
def test_mls(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "mls_english"
    for part, name in (("train", "4800_10003_000000"), ("train", "4800_10003_000001"), ("dev", "10_2_000003")):
        speaker, book, _ = name.split("_")
        write_audio(root / part / "audio" / speaker / book / f"{name}{suffix}")
    write(
        root / "train" / "transcripts.txt",
        "4800_10003_000000\toh my dear\n4800_10003_000001\tyou must see him\n4800_10003_000002\tgone\nno tab here\n",
    )
    write(
        root / "train" / "segments.txt",
        "4800_10003_000000\thttp://x/a.mp3\t401.76\t402.76\n4800_10003_000001\thttp://x/a.mp3\t1.0\t9.0\n"
        "4800_10003_000002\thttp://x/a.mp3\tone\n",
    )
    write(root / "dev" / "transcripts.txt", "10_2_000003\tdeep water\n")
    write(root / "metainfo.txt", "SPEAKER | GENDER | PARTITION\n")
    rows, problems = load(root, "mls")
    assert [(row.id, row.speaker, row.split, row.duration_s) for row in rows] == [
        ("4800_10003_000000", "4800", "train", 1.0),
        ("4800_10003_000001", "4800", "train", 8.0),
        ("10_2_000003", "10", "valid", None),
    ]
    assert [problem.partition(" (id")[0].partition(":")[0] for problem in problems] == [
        "train/segments.txt line 3",
        "train/transcripts.txt line 3",
        "train/transcripts.txt line 4",
        "train/transcripts.txt line 2",
    ]
    assert "stated as 8.00 s, but the audio has 1.00 s" in problems[3]
    # One part alone, and one table alone.
    assert [row.split for row in load(root / "dev", "mls")[0]] == ["valid"]
    assert [row.id for row in load(root / "dev" / "transcripts.txt", "mls")[0]] == ["10_2_000003"]


def test_peoples_speech(tmp_path: Path) -> None:
    root = tmp_path / "peoples_speech"
    write_audio(root / "train" / "clean" / "talk_1" / "0.flac")
    write_audio(root / "train" / "clean" / "talk_1" / "1.flac", 2.0)
    write_tar(root / "validation" / "validation" / "part_0.tar", {"./talk_2/0.flac": audio_bytes("FLAC")})
    nested = {"duration_ms": [1000, 2000], "label": ["first words", "and more"], "name": ["./talk_1/0.flac", "talk_1/1.flac"]}  # fmt: skip # noqa: E501
    write_lines(
        root / "train" / "clean.json",
        [
            {"audio_document_id": "talk 1.mp3", "identifier": "talk-1", "training_data": nested},
            {"identifier": "talk-3", "training_data": {**nested, "label": ["one"]}},
            {"identifier": "talk-4", "training_data": [{"name": 5, "label": "x", "duration_ms": 1}, "junk"]},
            {"identifier": "talk-5", "training_data": {"name": ["a"], "label": ["b"], "duration_ms": ["c"]}},
            "{broken",
        ],
    )
    flat = {"id": "talk_2/0.flac", "audio": {"path": "talk_2/0.flac"}, "text": "held out", "duration_ms": 1000}
    write_lines(root / "validation" / "validation.json", [flat])
    rows, problems = load(root, "peoples_speech")
    assert [(row.id, row.text, row.speaker, row.split, row.member, row.duration_s) for row in rows] == [
        ("talk_1_0", "first words", "talk-1", "train", "", 1.0),
        ("talk_1_1", "and more", "talk-1", "train", "", 2.0),
        ("talk_2_0", "held out", "unknown", "valid", "./talk_2/0.flac", 1.0),
    ]
    assert [problem.partition(":")[0] for problem in problems] == [
        "train/clean.json line 2, item 0",
        "train/clean.json line 3, item 0",
        "train/clean.json line 3, item 1",
        "train/clean.json line 4, item 0",
        "train/clean.json line 5",
    ]
    assert "differ in length: name 2, label 1, duration_ms 2" in problems[0]


def cut(name: str, start_s: float = 0.0, duration_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    supervision = {"id": f"{name}-0", "start": 0.0, "duration": duration_s, "text": "one two", "speaker": "ann"}
    recording = {
        "id": "r", "sampling_rate": RATE_HZ, "num_samples": 3 * RATE_HZ, "duration": 3.0,
        "sources": [{"type": "file", "channels": [0], "source": "audio/r.wav"}],
    }  # fmt: skip
    found = {"id": name, "start": start_s, "duration": duration_s, "channel": 0, "type": "MonoCut"}
    return {**found, "recording": recording, "supervisions": [supervision], **changes}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_lhotse_cuts(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "manifests"
    root.mkdir()
    stereo = np.stack([sound(3.0, 1), sound(3.0, 2)], axis=1)
    (root / "audio").mkdir()
    soundfile.write(root / "audio" / "r.wav", stereo[:, 0], RATE_HZ, subtype="FLOAT")
    soundfile.write(root / "audio" / "two.wav", stereo, RATE_HZ, subtype="FLOAT")
    words = [["one", 0.1, 0.3, -1.5], ["", 0.4, 0.2, None], ["two", 0.6, 0.2]]
    several = [
        {"id": "s.1", "start": 0.0, "duration": 1.0, "text": "one two", "speaker": "ann", "alignment": {"word": words}},
        {"id": "s.2", "start": 0.5, "duration": 0.5, "text": "three", "speaker": "ben",
         "alignment": {"word": [{"symbol": "three", "start": 0.6, "duration": 0.2, "score": None}]}},
    ]  # fmt: skip
    two = {"id": "t", "duration": 3.0, "sources": [{"type": "file", "channels": [0, 1], "source": "audio/two.wav"}]}
    sped = {**cut("x")["recording"], "transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}
    command = {**cut("x")["recording"], "sources": [{"type": "command", "channels": [0], "source": "cat a.wav"}]}
    write_lines(
        root / f"cuts_train{suffix}",
        [
            cut("whole", 0.0, 3.0),
            cut("parts", 1.5, 1.0, supervisions=several),
            cut("right", 0.25, 1.0, recording=two, channel=1),
            cut("sped", recording=sped),
            cut("command", recording=command),
            cut("silent", supervisions=[]),
            {**cut("mixed"), "type": "MixedCut"},
            cut("early", start_s=-1.0),
            cut("third", channel=2),
            cut("mute", supervisions=[{"id": "m", "start": 0, "duration": 1, "text": None}]),
            cut("beyond", 2.5, 1.0),
            "{",
        ],
    )
    write_lines(root / f"cuts_dev{suffix}", [cut("held", 2.0, 1.0)])
    rows, problems = load(root, "lhotse")
    found = [(row.id, row.split, row.speaker, row.start_s, row.duration_s, row.is_segment, row.channel) for row in rows]
    assert found == [
        ("held-0", "valid", "ann", 2.0, 1.0, True, None),
        ("whole-0", "train", "ann", 0.0, 3.0, False, None),
        ("s_1", "train", "ann", 1.5, 1.0, True, None),
        ("s_2", "train", "ben", 2.0, 0.5, True, None),
        ("right-0", "train", "ann", 0.25, 1.0, True, 1),
        ("beyond-0", "train", "ann", 2.5, 1.0, True, None),
    ]  # fmt: skip
    assert rows[2].words == (TimedWord("one", 0.1, 0.4, -1.5), TimedWord("two", 0.6, 0.8))
    assert rows[3].words == (TimedWord("three", 0.1, 0.3),)
    np.testing.assert_array_equal(read_row_audio(rows[3]), stereo[2 * RATE_HZ : 5 * RATE_HZ // 2, 0])
    np.testing.assert_array_equal(read_row_audio(rows[4]), stereo[RATE_HZ // 4 : RATE_HZ * 5 // 4, 1])
    name = f"cuts_train{suffix} line"
    assert [int(problem.removeprefix(name).split()[0].strip(",:")) for problem in problems] == [
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        12,
        11,
    ]
    for problem, reason in zip(
        problems,
        ["Speed would change", "source type 'command'", "no supervision", "MixedCut", "start must be",
         "channel 2 is in none",
         "has no transcript", "not JSON", "2.5 to 3.5 s, is not within the audio of 3 s"],
        strict=True,
    ):  # fmt: skip
        assert reason in problem


def test_a_cut_gzip_file_keeps_what_could_be_read(tmp_path: Path) -> None:
    write_audio(tmp_path / "audio" / "r.wav", 3.0)
    path = write_lines(tmp_path / "cuts.jsonl.gz", [cut(f"c{number}-{'x' * number}") for number in range(200)])
    path.write_bytes(path.read_bytes()[:-100])
    rows, problems = load(path, "lhotse")
    assert 0 < len(rows) < 200
    assert len(problems) == 1
    assert problems[0].startswith(f"cuts.jsonl.gz line {len(rows) + 1}: cannot be unpacked")


def test_nemo(tmp_path: Path) -> None:
    write_audio(tmp_path / "talks" / "a.b.wav", 4.0)
    write_audio(tmp_path / "x" / "same.wav")
    write_audio(tmp_path / "y" / "same.wav", seed=1)
    write_lines(
        tmp_path / "train_manifest.json",
        [
            {"audio_filepath": "talks/a.b.wav", "offset": 0.0, "duration": 1.5, "text": "one", "speaker": "ann"},
            {"audio_filepath": "talks/a.b.wav", "offset": 1.5, "duration": 2.5, "text": "two", "speaker": 7},
            {"audio_filepath": "x/same.wav", "duration": 1.0, "text": "three"},
            {"audio_filepath": "y/same.wav", "duration": 1.0, "text": "four"},
            {"audio_filepath": "talks/a.b.wav", "duration": 1.0, "text": "no offset, so the whole file"},
            {"audio_filepath": "talks/a.b.wav", "offset": "soon", "duration": 1.0, "text": "x"},
            {"audio_filepath": "talks/a.b.wav", "offset": 3.9, "duration": 1.0, "text": "x"},
            "nothing",
        ],
    )
    write_lines(tmp_path / "dev.json", [{"audio_filepath": "x/same.wav", "text": "five"}])
    rows, problems = load(tmp_path, "nemo")
    assert [(row.id, row.split, row.speaker, row.start_s, row.is_segment) for row in rows] == [
        ("x_same", "valid", "unknown", 0.0, False),
        ("a_b-0000000", "train", "ann", 0.0, True),
        ("a_b-0001500", "train", "7", 1.5, True),
        ("x_same", "train", "unknown", 0.0, False),
        ("y_same", "train", "unknown", 0.0, False),
        ("a_b", "train", "unknown", 0.0, False),
        ("a_b-0003900", "train", "unknown", 3.9, True),
    ]
    assert [problem.partition(" (id")[0] for problem in problems] == [
        "train_manifest.json line 6",
        "train_manifest.json line 8: not JSON (Expecting value: line 1 column 1 (char 0)): 'nothing'",
        "train_manifest.json line 3",
        "train_manifest.json line 5",
        "train_manifest.json line 7",
    ]


def test_nemo_tarred(tmp_path: Path) -> None:
    root = tmp_path / "tarred"
    write_tar(root / "audio_0.tar", {"a.flac": audio_bytes("FLAC", 1.0), "b.wav": audio_bytes("WAV", 3.0, 1)})
    write_lines(
        root / "tarred_audio_manifest.json",
        [
            {"audio_filepath": "a.flac", "duration": 1.0, "text": "one", "shard_id": 0},
            {"audio_filepath": "b-sub1.wav", "offset": 1.0, "duration": 2.0, "text": "two", "shard_id": 0},
            {"audio_filepath": "c.wav", "duration": 1.0, "text": "three", "shard_id": 0},
            {"audio_filepath": "d.wav", "duration": 1.0, "text": "four", "shard_id": 1},
        ],
    )
    rows, problems = load(root, "nemo")
    assert [(Path(row.path).name, row.member) for row in rows] == [
        ("audio_0.tar", "a.flac"),
        ("audio_0.tar", "b.wav"),
        ("audio_0.tar", "c.wav"),
    ]
    np.testing.assert_allclose(read_row_audio(rows[1]), sound(3.0, 1)[RATE_HZ:], atol=1e-4)
    assert len(problems) == 2
    assert "line 4" in problems[0]
    assert "audio_1.tar does not exist" in problems[0]
    assert "has no member 'c.wav'" in problems[1]


def test_webdataset(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    members = {
        "part/utt-0.flac": audio_bytes("FLAC"), "part/utt-0.txt": b"zero\n",
        "utt-1.json": b'{"text": "one", "speaker": "ann", "split": "dev"}', "utt-1.wav": audio_bytes("WAV"),
        "utt-2.mp3": audio_bytes("MP3"), "utt-2.cls": b"5", "utt-2.txt": b"two", "utt-2.json": b'{"id": "named"}',
        "utt-3.ogg": audio_bytes("OGG"),
        "utt-4.txt": b"four",
        "utt-5.wav": audio_bytes("WAV"), "utt-5.txt": b"caf\xe9",
        "utt-6.wav": audio_bytes("WAV"), "utt-6.json": b"[1]",
        "utt-7.wav": b"no audio", "utt-7.txt": b"seven",
        "utt-2.x.txt": b"two",
    }  # fmt: skip
    write_tar(root / "train-000000.tar", members)
    rows, problems = load(root, "webdataset")
    assert [(row.id, row.member, row.text, row.speaker, row.split) for row in rows] == [
        ("part_utt-0", "part/utt-0.flac", "zero", "unknown", "train"),
        ("utt-1", "utt-1.wav", "one", "ann", "valid"),
        ("named", "utt-2.mp3", "two", "unknown", "train"),
        ("utt-7", "utt-7.wav", "seven", "unknown", "train"),
    ]
    for key, reason in (("utt-3", "has no transcript"), ("utt-4", "has no audio"), ("utt-5", "not UTF-8"),
                        ("utt-6", "not a JSON object"), ("utt-2", "in two places"),
                        ("utt-7", "cannot be read as audio"),
                        ):  # fmt: skip
        assert any(reason in problem and f"key '{key}'" in problem for problem in problems), reason


def test_a_tar_that_is_cut_or_compressed_is_named(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(3):
        members |= {f"u{number}.flac": audio_bytes("FLAC"), f"u{number}.txt": b"hi"}
    whole = write_tar(tmp_path / "whole" / "a.tar", members).read_bytes()
    with tarfile.open(tmp_path / "whole" / "a.tar") as tar:
        boundary = tar.getmember("u2.flac").offset
    for name, content, reason in (
        ("inside", whole[: boundary + 2000], "damaged or cut short"),
        ("boundary", whole[:boundary], "no end mark"),
        ("gzip", gzip.compress(whole), "no uncompressed tar"),
        ("noise", b"noise" * 1000, "no uncompressed tar"),
    ):
        path = tmp_path / name / "a.tar"
        path.parent.mkdir()
        path.write_bytes(content)
        rows, problems = load(path, "webdataset")
        assert len(rows) == (2 if name in ("inside", "boundary") else 0)
        assert len([problem for problem in problems if reason in problem and problem.startswith("a.tar: ")]) == 1, name
