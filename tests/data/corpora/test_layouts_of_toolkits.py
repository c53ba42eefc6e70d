"""Manifests and shards as toolkits write them, Lhotse, NeMo and webdataset: rows, and faults with their place."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from layout_files import RATE_HZ, audio_bytes, load, sound, write_audio, write_lines, write_tar

from lst.data.audio.read import read_row_audio
from lst.data.utterance import TimedWord


def cut(name: str, start_s: float = 0.0, duration_s: float = 1.0, **changes: Any) -> dict[str, Any]:
    supervision = {"id": f"{name}-0", "start": 0.0, "duration": duration_s, "text": "one two", "speaker": "ann"}
    recording = {
        "id": "r",
        "sampling_rate": RATE_HZ,
        "num_samples": 3 * RATE_HZ,
        "duration": 3.0,
        "sources": [{"type": "file", "channels": [0], "source": "audio/r.wav"}],
    }
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
    # lhotse counts words from the start of the recording, also in a cut that starts at 1.5 s of it.
    words = [["one", 1.6, 0.3, -1.5], ["", 1.9, 0.2, None], ["two", 2.1, 0.2]]
    several = [
        {"id": "s.1", "start": 0.0, "duration": 1.0, "text": "one two", "speaker": "ann", "alignment": {"word": words}},
        {
            "id": "s.2",
            "start": 0.5,
            "duration": 0.5,
            "text": "three",
            "speaker": "ben",
            "alignment": {"word": [{"symbol": "three", "start": 2.1, "duration": 0.2, "score": None}]},
        },
    ]
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
    ]
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
        [
            "Speed would change",
            "source type 'command'",
            "no supervision",
            "MixedCut",
            "start must be",
            "channel 2 is in none",
            "has no transcript",
            "not JSON",
            "2.5 to 3.5 s, is not within the audio of 3 s",
        ],
        strict=True,
    ):
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
        "part/utt-0.flac": audio_bytes("FLAC"),
        "part/utt-0.txt": b"zero\n",
        "utt-1.json": b'{"text": "one", "speaker": "ann", "split": "dev"}',
        "utt-1.wav": audio_bytes("WAV"),
        "utt-2.mp3": audio_bytes("MP3"),
        "utt-2.cls": b"5",
        "utt-2.txt": b"two",
        "utt-2.json": b'{"id": "named"}',
        "utt-3.ogg": audio_bytes("OGG"),
        "utt-4.txt": b"four",
        "utt-5.wav": audio_bytes("WAV"),
        "utt-5.txt": b"caf\xe9",
        "utt-6.wav": audio_bytes("WAV"),
        "utt-6.json": b"[1]",
        "utt-7.wav": b"no audio",
        "utt-7.txt": b"seven",
        "utt-2.x.txt": b"two",
    }
    write_tar(root / "train-000000.tar", members)
    rows, problems = load(root, "webdataset")
    assert [(row.id, row.member, row.text, row.speaker, row.split) for row in rows] == [
        ("part_utt-0", "part/utt-0.flac", "zero", "unknown", "train"),
        ("utt-1", "utt-1.wav", "one", "ann", "valid"),
        ("named", "utt-2.mp3", "two", "unknown", "train"),
        ("utt-7", "utt-7.wav", "seven", "unknown", "train"),
    ]
    for key, reason in (
        ("utt-3", "has no transcript"),
        ("utt-4", "has no audio"),
        ("utt-5", "not UTF-8"),
        ("utt-6", "not a JSON object"),
        ("utt-2", "in two places"),
        ("utt-7", "cannot be read as audio"),
    ):
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
        ("gzip", gzip.compress(whole), "not an uncompressed tar"),
        ("noise", b"noise" * 1000, "not an uncompressed tar"),
    ):
        path = tmp_path / name / "a.tar"
        path.parent.mkdir()
        path.write_bytes(content)
        rows, problems = load(path, "webdataset")
        assert len(rows) == (2 if name in ("inside", "boundary") else 0)
        assert len([problem for problem in problems if reason in problem and problem.startswith("a.tar: ")]) == 1, name
