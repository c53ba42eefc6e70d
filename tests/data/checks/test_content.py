"""``lst check`` looks at what recordings and transcripts hold: levels, channels, copies, language, labels."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.audio import probe_audio
from lst.data.checks.corpus import check_corpus
from lst.data.checks.report import CheckReport
from lst.errors import UserError

RATE_HZ = 16_000
ENGLISH = "the man was at the door of the house and she had not seen him"
GERMAN = "der morgenzug hatte wieder verspätung und niemand schien sich daran zu stören"


def tone(amplitude: float = 0.3, seed: int = 0) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).uniform(-1, 1, RATE_HZ // 2)).astype(np.float32)


def checked(folder: Path, texts: list[str], decode: bool = True, splits: list[str] | None = None) -> CheckReport:
    rows = [
        {"path": f"u{number}.wav", "text": text, "split": (splits or [""] * len(texts))[number]}
        for number, text in enumerate(texts)
    ]
    (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return check_corpus(folder, "auto", 0.1, 60.0, decode=decode, max_examples=0)


def write(folder: Path, *sounds: np.ndarray, subtype: str = "FLOAT") -> None:
    for number, samples in enumerate(sounds):
        soundfile.write(folder / f"u{number}.wav", samples, RATE_HZ, subtype=subtype)


def test_levels_are_told_where_audio_is_decoded(tmp_path: Path) -> None:
    clipped = np.clip(tone(2.0), -0.4, 0.4)
    faulty = {
        "peak is 3e+04": tone() * 1e5,
        "peak is 1.5": tone() * 5,
        "digital silence": tone() * 0,
        "silent or mis-scaled": tone() * 1e-5,
        "has an offset: its samples are +0.1": tone() * 0.2 + 0.1,
        "is clipped": clipped,
        "channels are opposite": np.stack([tone(), -tone()], axis=1),
    }
    write(tmp_path, *faulty.values(), tone(0.9, 1), np.stack([tone(0.3, 2), tone(0.3, 3)], axis=1))
    texts = [f"{ENGLISH} {number}" for number in range(len(faulty) + 2)]
    report = checked(tmp_path, texts)
    assert len(report.examples["level"]) == len(faulty)
    for message, reason in zip(report.examples["level"], faulty, strict=True):
        assert reason in message
    assert set(report.counts) == {"level"}
    assert checked(tmp_path, texts, decode=False).num_problems == 0


def test_one_recording_in_two_splits_is_told(tmp_path: Path) -> None:
    write(tmp_path, tone(), tone(seed=1), tone(), tone(seed=1))
    splits = ["train", "train", "dev", "train"]
    report = checked(tmp_path, [ENGLISH] * 4, splits=splits)
    assert "its audio is that of 'u0': one recording is in train and valid" in report.examples["same audio"][0]
    assert report.counts["same audio"] == 1
    assert any("1 utterances have the audio and the transcript of another one" in note for note in report.notes)
    assert "same audio" not in checked(tmp_path, [ENGLISH] * 4, splits=splits, decode=False).counts


@pytest.mark.parametrize(
    ("texts", "kind", "reason"),
    [
        ([f"{GERMAN} {word}" for word in ("eins", "zwei", "drei", "vier", "fünf")], "language", "are not English"),
        ([*[ENGLISH] * 5, "one", "two words"], "transcript", "5 of 7 utterances have the same transcript"),
        (["spk0", "spk1"] * 4, "transcript", "look like names of speakers"),
        ([f"{ENGLISH} {number}" for number in range(5)], "", ""),
        (["yes", "no", "stop", "go"] * 3, "", ""),
    ],
)
def test_transcripts_are_looked_at_as_a_whole(tmp_path: Path, texts: list[str], kind: str, reason: str) -> None:
    write(tmp_path, *(tone(seed=number) for number in range(len(texts))))
    report = checked(tmp_path, texts, decode=False)
    assert set(report.counts) == ({kind} if kind else set())
    assert not kind or reason in report.examples[kind][0]


def test_missing_values_labels_and_files_passed_over_are_told(tmp_path: Path) -> None:
    write(tmp_path, *(tone(seed=number) for number in range(4)))
    rows = [
        {"path": "u0.wav", "text": float("nan")},
        {"path": "u1.wav", "text": "<NA>"},
        {"path": "u2.wav", "text": "hello [laughter] <unk>", "speaker": "None"},
        {"path": "u3.wav", "text": "none of it &amp; more", "speaker": "(null)"},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "more.zip").write_bytes(b"x")
    report = check_corpus(tmp_path, "auto", 0.1, 60.0, decode=False, max_examples=0)
    assert dict(report.counts) == {"transcript": 2, "speaker": 2}
    notes = "\n".join(report.notes)
    assert "2 transcripts have labels or entities: [laughter] (1), <unk> (1), &amp; (1)" in notes
    assert "files that are not read: 1 .zip (the first is more.zip)" in notes


def wav(num_bytes: int, stated: int, after: bytes = b"", form: bytes = b"RIFF") -> bytes:
    """A WAV file whose data chunk states another size than it has."""
    order = ">" if form == b"RIFX" else "<"
    head = struct.pack(f"{order}4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    values = np.random.default_rng(0).integers(-9999, 9999, num_bytes // 2).astype(f"{order}i2").tobytes()
    body = b"WAVE" + head + struct.pack(f"{order}4sI", b"data", stated) + values + after
    return form + struct.pack(f"{order}I", len(body)) + body


@pytest.mark.parametrize("form", [b"RIFF", b"RIFX"])
@pytest.mark.parametrize("stated", [0, 2, 24_000, 31_998])
def test_a_wav_that_holds_more_than_its_header_says_is_refused(tmp_path: Path, stated: int, form: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(wav(32_000, stated, form=form))
    with pytest.raises(UserError, match=rf"holds 32,000 bytes of audio, but its header says {stated:,}: its end would"):
        probe_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "after",
    [
        b"",
        b"_PMX\x04\0\0\0<x/>",
        b"LIST\x04\0\0\0INFO",
        b"id3 \x03\0\0\0abc\0",
        b"TAG" + bytes(125),
        b"\0\0",
        bytes(4000),
        b"ID3\x03" + bytes(99),
    ],
)
def test_what_may_follow_the_audio_of_a_wav(tmp_path: Path, after: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(wav(32_000, 32_000, after))
    assert probe_audio(tmp_path / "a.wav").num_frames == RATE_HZ


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_chained_ogg_streams_are_refused(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.ogg", tone(), RATE_HZ, format="OGG", subtype=subtype)
    assert probe_audio(tmp_path / "a.ogg").duration_s == pytest.approx(0.5, abs=0.01)
    (tmp_path / "two.ogg").write_bytes(2 * (tmp_path / "a.ogg").read_bytes())
    with pytest.raises(UserError, match="holds 2 Ogg streams"):
        probe_audio(tmp_path / "two.ogg")
