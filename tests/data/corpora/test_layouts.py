"""Layouts of public corpora: told by their files, read into rows, and what is faulty named with its place."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from layout_files import audio_bytes, load, write, write_audio, write_lines, write_tar
from repository import ROOT

from lst.data.config import LAYOUT_NAMES
from lst.data.corpora.layouts import LAYOUTS
from lst.data.corpora.load import load_corpus
from lst.errors import UserError


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
    nested = {
        "duration_ms": [1000, 2000],
        "label": ["first words", "and more"],
        "name": ["./talk_1/0.flac", "talk_1/1.flac"],
    }
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


def test_the_layout_of_the_page_on_extending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``docs/extend/layout.md`` has a whole module; here it is listed and named as the page says."""
    page = (ROOT / "docs" / "extend" / "layout.md").read_text(encoding="utf-8")
    module = ModuleType("festvox")
    exec(page.partition("```python\n")[2].partition("```")[0], module.__dict__)
    monkeypatch.setitem(LAYOUTS, "festvox", module.LAYOUT)
    monkeypatch.setattr("lst.data.corpora.load.LAYOUT_NAMES", (*LAYOUT_NAMES, "festvox"))
    root = tmp_path / "arctic"
    for voice in ("cmu_us_bdl_arctic", "cmu_us_slt_arctic"):
        for name in ("arctic_a0001", "arctic_a0003"):
            write_audio(root / voice / "wav" / f"{name}.wav")
        write(root / voice / "etc" / "txt.done.data", '( arctic_a0001 "Author of the \\"trail\\", etc." )\n')
    with open(root / "cmu_us_slt_arctic" / "etc" / "txt.done.data", "ab") as table:
        table.write(b'( arctic_a0002 "Gone." )\n( arctic_a0003 no quotes )\n( arctic_a0004 "caf\xe9" )\n')
    rows, problems = load(root, "festvox")
    assert [(row.id, row.text, row.speaker) for row in rows] == [
        (f"{voice}_wav_arctic_a0001", 'Author of the "trail", etc.', voice)
        for voice in ("cmu_us_bdl_arctic", "cmu_us_slt_arctic")
    ]
    assert [problem.partition(" (id")[0].partition(": ")[0] for problem in problems] == [
        "cmu_us_slt_arctic/etc/txt.done.data line 2",
        "cmu_us_slt_arctic/etc/txt.done.data line 3",
        "cmu_us_slt_arctic/etc/txt.done.data line 4",
        "cmu_us_bdl_arctic/wav/arctic_a0003.wav",
        "cmu_us_slt_arctic/wav/arctic_a0003.wav",
    ]
    assert "transcript without audio" in problems[0]
    assert "is not of the form" in problems[1]
    assert "is not UTF-8" in problems[2]
    assert "audio without transcript: no line of txt.done.data" in problems[3]
    # One voice alone, whose folder is no speaker.
    rows, _ = load(root / "cmu_us_bdl_arctic", "festvox")
    assert [(row.id, row.speaker) for row in rows] == [("arctic_a0001", "unknown")]
