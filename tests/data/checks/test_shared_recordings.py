"""Recordings and ids that several corpora share are told, by ``lst check`` and while they are prepared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.cli import main
from lst.data.config import AlignConfig
from lst.data.corpora import ManifestRow
from lst.data.prepare import prepare
from lst.data.prepare.leaks import leaks
from tests.data.conftest import options

WORDS = [[word, 0.1 + 0.2 * place, 0.2 + 0.2 * place] for place, word in enumerate(("one", "two", "three"))]


def write_corpus(folder: Path, split: str, seed: int) -> Path:
    """Four recordings of noise with times of their words."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(4):
        name = f"{folder.name}{number}"
        soundfile.write(folder / f"{name}.wav", 0.1 * generator.standard_normal(16_000 + 160 * number), 16_000)
        rows.append({"id": name, "path": f"{name}.wav", "text": "one two three", "words": WORDS, "split": split})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def corpora(tmp_path: Path) -> str:
    """A corpus for training and a held-out one; two recordings and an id are in both."""
    read, talks = write_corpus(tmp_path / "read", "train", 0), write_corpus(tmp_path / "talks", "valid", 1)
    shutil.copy(read / "read1.wav", talks / "talks2.wav")
    sound, rate_hz = soundfile.read(read / "read3.wav")
    soundfile.write(talks / "talks3.flac", sound, rate_hz)
    text = (talks / "manifest.jsonl").read_text()
    (talks / "manifest.jsonl").write_text(text.replace('"talks0"', '"read0"').replace("talks3.wav", "talks3.flac"))
    return f"[read={read},talks={talks}]"


def test_check_compares_corpora(corpora: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", f"corpus={corpora}", "data.align.method=manifest", "num_workers=1"]
    assert main(words) == 1
    told = capsys.readouterr().out
    assert "corpora read, talks together" in told
    assert "1 ids are in several corpora (the first is 'read0')" in told
    assert "same audio: 1\n" in told
    assert "one recording is in train of read (read1) and valid of talks (talks2)" in told
    # A copy in another format has other bytes, and the same samples.
    assert main([*words, "check.decode=true"]) == 1
    told = capsys.readouterr().out
    assert "same audio: 2\n" in told
    assert "train of read (read3) and valid of talks (talks3)" in told
    manifest = Path(corpora.partition("talks=")[2][:-1]) / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"valid"', '"train"'))
    assert main(words) == 0
    assert "recordings that are in two corpora: 1 in read and talks (read1, talks2)" in capsys.readouterr().out


def test_preparing_tells_what_is_held_out_and_trained_on(
    corpora: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = options(Path(corpora), align=AlignConfig(method="manifest"), max_unaligned_share=0.9)
    prepare(tmp_path / "data", own)
    told = "1 held-out recordings are trained on as well: talks2 of talks is read1 of read."
    assert told in capsys.readouterr().err


def test_segments_of_one_file_are_a_leak_where_they_overlap() -> None:
    def row(name: str, split: str, start_s: float, end_s: float, channel: int | None = None) -> ManifestRow:
        times = {"start_s": start_s, "duration_s": end_s - start_s, "is_segment": True}
        return ManifestRow(name, Path("a.wav"), "", split=split, channel=channel, **times)  # type: ignore[arg-type]

    rows = [
        *(row("a", "train", 0, 10), row("b", "valid", 10, 20), row("c", "train", 19, 30)),
        *(row("d", "train", 40, 50, 0), row("e", "valid", 45, 55, 1), row("f", "valid", 46, 47)),
    ]
    hashes = np.tile(np.arange(32, dtype=np.uint8), (len(rows), 1))
    assert [(held_out.id, trained.id) for held_out, trained in leaks(rows, hashes)] == [("b", "c"), ("f", "d")]
    hashes[1] += 1
    hashes[5] += 2
    assert not list(leaks(rows, hashes))
    assert not list(leaks(rows, np.zeros_like(hashes)))


def test_every_held_out_row_that_overlaps_one_for_training_is_found_once() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        rows = [
            ManifestRow(
                *(f"u{number}", Path("a.wav"), ""),
                split=str(draw.choice(["train", "valid"])),
                channel=[None, 0, 1][draw.integers(3)],
                start_s=float(draw.integers(20)),
                duration_s=[None, 1.0, 3.0, 8.0][draw.integers(4)],
                is_segment=True,
            )
            for number in range(12)
        ]
        spans = {row.id: (row.start_s, row.start_s + (row.duration_s or np.inf)) for row in rows}
        wanted = [
            one.id
            for one in rows
            if one.split == "valid"
            and any(
                other.split == "train"
                and (one.channel == other.channel or None in (one.channel, other.channel))
                and max(spans[one.id][0], spans[other.id][0]) < min(spans[one.id][1], spans[other.id][1])
                for other in rows
            )
        ]
        hashes = np.full((len(rows), 32), 7, np.uint8)
        assert [held_out.id for held_out, _ in leaks(rows, hashes)] == wanted
