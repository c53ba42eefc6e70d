"""Files of public corpora, written small, and the reading of a corpus in every way that must give the same rows."""

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

from lst.data.audio.read import read_row_audio
from lst.data.corpora.load import load_corpus
from lst.data.corpora.manifest import read_manifest, write_manifest
from lst.data.corpora.row_checks import check_rows
from lst.data.corpora.rows import ManifestProblem, ManifestRow

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
