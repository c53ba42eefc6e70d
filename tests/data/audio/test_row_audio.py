"""The audio of a row: a segment is the slice of the whole file, a channel is that channel, a member is that member."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.audio import AUDIO_SUFFIXES, probe_audio, read_audio, read_row_audio
from lst.data.audio.places import AudioRef, audio_exists, format_audio_ref, parse_audio_ref
from lst.data.audio.read import read_audio_ref
from lst.data.corpora.manifest import parse_manifest, read_manifest, write_manifest
from lst.data.corpora.row_checks import check_rows
from lst.data.corpora.rows import ManifestRow
from lst.data.utterance import TimedWord
from lst.errors import UserError

FORMATS = {
    "wav": {"subtype": "FLOAT"},
    "flac": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {},
}


def write(path: Path, suffix: str, rate_hz: int, duration_s: float = 6.0, num_channels: int = 1) -> Path:
    generator = np.random.default_rng(rate_hz)
    samples = generator.uniform(-0.4, 0.4, (round(duration_s * rate_hz), num_channels)).astype(np.float32)
    with soundfile.SoundFile(path, "w", rate_hz, num_channels, **FORMATS[suffix]) as file:
        for start in range(0, len(samples), 1 << 15):  # libsndfile's Vorbis encoder fails on long blocks
            file.write(samples[start : start + (1 << 15)])
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_segment_is_the_slice_of_the_whole_file(tmp_path: Path, suffix: str, rate_hz: int) -> None:
    if suffix == "opus" and rate_hz == 44_100:
        pytest.skip("Opus has no 44.1 kHz")
    path = write(tmp_path / f"a.{suffix}", suffix, rate_hz)
    whole = read_audio(path)
    generator = np.random.default_rng(0)
    places = [(0.0, 1.0), (5.0, 1.0), (0.0, 6.0), (2.5, 0.001)]
    places += [(round(float(start), 3), 0.777) for start in generator.uniform(0, 5.2, 12)]
    worst = 0.0
    for start_s, duration_s in places:
        row = ManifestRow("u", path, "one", start_s=start_s, duration_s=duration_s, is_segment=True)
        segment = read_row_audio(row)
        expected = whole[round(start_s * 16_000) : round((start_s + duration_s) * 16_000)]
        assert segment.dtype == np.float32
        assert segment.shape == expected.shape
        worst = max(worst, float(np.abs(segment - expected).max()))
    print(f"{suffix} {rate_hz} Hz: largest difference {worst:.2e}")
    if rate_hz == 16_000:
        assert worst == 0.0
    else:
        assert worst < 2e-6


def test_little_more_than_the_segment_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.flac", "flac", 44_100, 20.0)
    decoded = []
    real = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, **options: object) -> np.ndarray:
        samples = real(self, frames, **options)
        decoded.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    read_row_audio(ManifestRow("u", path, "one", start_s=15.0, duration_s=1.0))
    assert 44_100 <= sum(decoded) < 44_100 * 1.1


def test_segments_of_an_mp3_in_order_decode_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp3", "mp3", 16_000, 20.0)
    decoded = []
    real = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, **options: object) -> np.ndarray:
        samples = real(self, frames, **options)
        decoded.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    rows = [ManifestRow("u", path, "one", start_s=float(start), duration_s=1.0, is_segment=True) for start in range(19)]
    forward = [read_row_audio(row) for row in rows]
    assert sum(decoded) == 19 * 16_000
    backward = [read_row_audio(row) for row in reversed(rows)][::-1]
    np.testing.assert_array_equal(np.concatenate(forward), np.concatenate(backward))
    # Another file in between, and a file changed under the same name.
    write(path, "mp3", 16_000, 5.0, num_channels=2)
    changed = read_row_audio(ManifestRow("u", path, "one", start_s=4.0, duration_s=1.0))
    np.testing.assert_array_equal(changed, read_audio(path)[64_000:])


@pytest.mark.parametrize("is_segment", [False, True])
def test_one_channel_of_several_or_their_mean(tmp_path: Path, is_segment: bool) -> None:
    path = write(tmp_path / "a.wav", "wav", 16_000, 2.0, num_channels=3)
    samples, _ = soundfile.read(path, dtype="float32")
    part = samples[8_000:24_000] if is_segment else samples
    where = {"start_s": 0.5, "duration_s": 1.0} if is_segment else {}
    for channel in range(3):
        row = ManifestRow("u", path, "one", channel=channel, **where)
        np.testing.assert_array_equal(read_row_audio(row), part[:, channel])
    mean = read_row_audio(ManifestRow("u", path, "one", **where))
    np.testing.assert_allclose(mean, part.mean(axis=1), atol=1e-7)
    with pytest.raises(UserError, match=r"channel 3 is asked for, the audio has 3"):
        read_row_audio(ManifestRow("u", path, "one", channel=3, **where))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_member_of_a_tar_is_read_as_the_file_it_was(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", suffix, 48_000, 3.0)
    write(tmp_path / "b.wav", "wav", 16_000, 1.0)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("b.wav", f"a.{suffix}"):
            tar.add(tmp_path / name, f"folder/{name}")
    member = f"folder/a.{suffix}"
    assert probe_audio(tmp_path / "all.tar", member) == probe_audio(tmp_path / f"a.{suffix}")
    for where in ({}, {"start_s": 1.25, "duration_s": 1.5}):
        row = ManifestRow("u", tmp_path / "all.tar", "one", member=member, **where)
        alone = ManifestRow("u", tmp_path / f"a.{suffix}", "one", **where)
        np.testing.assert_array_equal(read_row_audio(row), read_row_audio(alone))
    with pytest.raises(UserError, match=r"all\.tar has no member 'a\.wav'; it has 2 others"):
        read_row_audio(ManifestRow("u", tmp_path / "all.tar", "one", member="a.wav"))
    (tmp_path / "cut.tar").write_bytes((tmp_path / "all.tar").read_bytes()[:30_000])
    with pytest.raises(UserError, match=r"cut\.tar is damaged or cut short"):
        read_row_audio(ManifestRow("u", tmp_path / "cut.tar", "one", member="folder/b.wav"))


def test_audio_behind_a_url_is_read_as_a_local_file(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write(tmp_path / "a.flac", "flac", 44_100, 2.0)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(tmp_path / "a.flac", "a.flac")
    for name, content in (("a.flac", (tmp_path / "a.flac").read_bytes()), ("a.tar", buffer.getvalue())):
        with fsspec.open(f"memory://row-audio/{name}", "wb") as file:
            file.write(content)
    for where in ({}, {"start_s": 0.5, "duration_s": 1.0}):
        expected = read_row_audio(ManifestRow("u", tmp_path / "a.flac", "one", **where))
        for path, member in (("memory://row-audio/a.flac", ""), ("memory://row-audio/a.tar", "a.flac")):
            row = ManifestRow("u", path, "one", member=member, **where)
            np.testing.assert_array_equal(read_row_audio(row), expected)
            np.testing.assert_array_equal(read_audio_ref(row.audio_ref), expected)
    with pytest.raises(UserError, match=r"memory://row-audio/b\.flac does not exist"):
        read_row_audio(ManifestRow("u", "memory://row-audio/b.flac", "one"))


def test_places_that_are_not_in_the_file_are_faults_of_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "wav", 16_000, 3.0, num_channels=2)
    cases = {
        "fine": ({"start_s": 1.0, "duration_s": 2.0}, ""),
        "rounded": ({"start_s": 1.0, "duration_s": 2.01}, ""),
        "to_the_end": ({"start_s": 2.0}, ""),
        "first_second": ({"is_segment": True, "duration_s": 1.0}, ""),
        "beyond": ({"start_s": 1.0, "duration_s": 2.1}, "the segment, 1 to 3.1 s, is not within the audio of 3 s"),
        "after": ({"start_s": 3.0}, "the segment, from 3 s on, is not within"),
        "huge": ({"start_s": 1e300, "duration_s": 1e300}, "is not within the audio"),
        "short": ({"start_s": 1.0, "duration_s": 0.1}, "is too short: 0.10 s"),
        "channel": ({"channel": 2}, "channel 2 is asked for, the audio has 2 (counted from 0)"),
        "last_channel": ({"channel": 1}, ""),
        "whole_but_stated_short": ({"duration_s": 1.0}, "duration is stated as 1.00 s"),
        "no_tar": ({"member": "x.wav"}, "not an uncompressed tar"),
        "word_beyond": (
            {"start_s": 1.0, "duration_s": 1.0, "words": (TimedWord("hi", 0.5, 1.2),)},
            "ends after the utt",
        ),
        "words_rounded": ({"words": (TimedWord("a", 0.5, 0.9), TimedWord("b", 0.86, 0.86))}, ""),
        "words_back": ({"words": (TimedWord("a", 0.5, 0.9), TimedWord("b", 0.4, 1.0))}, "starts before the one before"),
        "word_empty": ({"words": (TimedWord("a", 0.5, 0.4),)}, "ends before it starts"),
    }
    rows = [ManifestRow(name, path, "hello", **where) for name, (where, _) in cases.items()]
    good, problems = check_rows(rows, 0.2, 5.0)
    assert [row.id for row in good] == [name for name, (_, fault) in cases.items() if not fault]
    for name, (_, fault) in cases.items():
        assert [fault in str(problem) for problem in problems if problem.id == name] == ([True] if fault else []), name
    assert {row.id: row.duration_s for row in good} == {
        "fine": 2.0,
        "rounded": 2.0,
        "to_the_end": 1.0,
        "first_second": 1.0,
        "last_channel": 3.0,
        "words_rounded": 3.0,
    }
    for row in good:
        assert len(read_row_audio(row)) == round(row.duration_s * 16_000)
    for row in rows:
        if row.id in ("beyond", "after", "huge", "channel"):
            with pytest.raises(UserError, match=r"a\.wav: "):
                read_row_audio(row)


def test_rows_keep_their_place_when_written(tmp_path: Path) -> None:
    rows = [
        ManifestRow("whole", tmp_path / "a.wav", "one", duration_s=2.0),
        ManifestRow("first", tmp_path / "a.wav", "one", duration_s=1.0, is_segment=True, channel=0),
        ManifestRow("later", tmp_path / "a.wav", "one", start_s=1 / 3, duration_s=2 / 3, channel=1),
        ManifestRow("inside", tmp_path / "a.tar", "one", member="x/y é.wav", start_s=0.5),
        ManifestRow(
            "far", "s3://bucket/a.wav", "one two", words=(TimedWord("one", 0.0, 0.5), TimedWord("two", 0.5, 1, -3.5))
        ),
    ]
    write_manifest(tmp_path / "a.jsonl", rows)
    assert read_manifest(tmp_path / "a.jsonl") == rows
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [sorted(set(record) & {"start_s", "channel", "member", "words"}) for record in records] == [
        [],
        ["channel", "start_s"],
        ["channel", "start_s"],
        ["member", "start_s"],
        ["words"],
    ]


def test_columns_of_places_in_tables_and_their_faults(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_text(
        "path\ttext\toffset\tduration\tchannel\tmember\n"
        "a.wav\tone\t0\t1.5\t\t\n"
        "a.wav\ttwo\t1.5\t1\t1.0\t\n"
        "a.tar\tthree\t\t\t\tb/c.flac\n"
        "a.wav\tfour\t-1\t1\t\t\n"
        "a.wav\tfive\t\t1\t0.5\t\n"
        "gs://bucket/x.wav\tsix\t\t\t\t\n"
    )
    rows, problems = parse_manifest(table)
    assert [(row.id, row.start_s, row.is_segment, row.channel, row.member) for row in rows] == [
        ("a-0000000", 0.0, True, None, ""),
        ("a-0001500", 1.5, True, 1, ""),
        ("c", 0.0, False, None, "b/c.flac"),
        ("x", 0.0, False, None, ""),
    ]
    assert rows[3].path == "gs://bucket/x.wav"
    assert [str(problem).partition(": ")[2] for problem in problems] == [
        "start_s '-1' is not a number of at least 0",
        "channel '0.5' is not a whole number of at least 0",
    ]
    (tmp_path / "b.jsonl").write_text('{"path": "a.wav", "text": "x", "words": [["x", 0, 1], ["y", 2], 3]}\n')
    assert [problem.message for problem in parse_manifest(tmp_path / "b.jsonl")[1]] == [
        "words: item 1 must be [word, start_s, end_s] or with a score, times numbers of at least 0, not ['y', 2]",
        "words: item 2 must be [word, start_s, end_s] or with a score, times numbers of at least 0, not 3",
    ]


def test_a_reference_names_the_same_audio(tmp_path: Path) -> None:
    for place in (
        AudioRef(tmp_path / "a.wav"),
        AudioRef(tmp_path / "a#1.wav"),
        AudioRef(tmp_path / "a b#t.wav", 1.5, 2.25, True, 1),
        AudioRef(tmp_path / "a.tar", member="x/ä&=#.wav"),
        AudioRef("s3://bucket/a.tar", 0.0, None, True, None, "x.wav"),
    ):
        assert parse_audio_ref(format_audio_ref(place)) == place
    path = write(tmp_path / "a#t=9.wav", "wav", 16_000, 2.0)
    assert audio_exists(format_audio_ref(AudioRef(path, 0.5, 1.0, True)))
    assert not audio_exists("")
    assert not audio_exists(str(tmp_path / "absent.wav"))
    assert len(read_audio_ref(format_audio_ref(AudioRef(path, 0.5, 1.0, True)))) == 16_000


def test_a_header_is_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "wav", 16_000, 1.0)
    assert probe_audio(path).duration_s == 1.0
    write(path, "wav", 16_000, 2.0)
    assert probe_audio(path).duration_s == 2.0
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        probe_audio(path)
    assert AUDIO_SUFFIXES[0] == ".flac"
