"""Manifests as JSON lines, TSV and CSV: rows of any values, then damaged bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import BYTE_EDITS, BYTES, JSON_EDITS, VALUES, edits
from fuzzing import fuzzed, run, sampled, told
from hypothesis import given
from hypothesis import strategies as st
from layout_files import write_audio

from lst.commands import COMMANDS
from lst.configs.compose import build_config
from lst.configs.schema import Config

COLUMNS = {
    "id": ["u1", "u2", "a/b", "../x"],
    "path": ["a.wav", "b.flac", "a.wav", "b.flac", "nowhere.wav", ".", "..", "pipe.wav", "a.wav::0:100", "text.wav"],
    "text": ["hello there", "good day to you", "½ of 3,000", "\u0301", "a\tb"],
    "speaker": ["ann", "ben"],
    "split": ["train", "dev", "valid", "other"],
    "duration_s": [1.0, 0.5, 2.0],
    "start_s": [0, 0.5, 0.9999999],
    "channel": [0, 1],
    "member": ["a.wav", "../a.wav"],
    "words": ['[["hello", 0, 0.5], ["there", 0.5, 0.9]]', [["hello", 0.5, 0.1]], [["hello", 0, 1e9]]],
    "ending_start_word": [1, 0],
    "audio_filepath": ["b.flac"],
    "shard_id": [0],
    "offset": [0.1],
    "recording": [{"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]}],
    "supervisions": [[{"id": "s", "recording_id": "r", "start": 0, "duration": 1, "channel": 0, "text": "hello"}]],
}
SUFFIXES = (".jsonl", ".tsv", ".csv", ".jsonl.gz", ".json", ".on_the_fly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound files, and two files that are none."""
    path = tmp_path_factory.mktemp("fuzz") / "corpus"
    write_audio(path / "a.wav")
    write_audio(path / "b.flac", 1.5, seed=1)
    (path / "text.wav").write_text("no sound")
    return path


@pytest.fixture(scope="module")
def config() -> Config:
    """Changed by each example."""
    return build_config(["experiment=smoke", "num_workers=1"])


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows that are good at first, in which some values are others."""

    def value(name: str) -> st.SearchStrategy[Any]:
        right = st.sampled_from(COLUMNS[name])
        return st.one_of(right, right, right, st.sampled_from(VALUES))

    needed = {name: value(name) for name in ("path", "text")}
    more = {name: value(name) for name in COLUMNS if name not in needed}
    return st.lists(st.fixed_dictionaries(needed, optional=more), min_size=1, max_size=4)


def written(suffix: str, found: list[dict[str, Any]]) -> bytes:
    """A manifest's content; surrogates as they come."""
    if suffix in (".tsv", ".csv"):
        names = list(dict.fromkeys(name for row in found for name in row))
        table = io.StringIO()
        writer = csv.writer(table, delimiter="\t" if suffix == ".tsv" else ",")
        writer.writerows([names, *([row.get(name, "") for name in names] for row in found)])
        return table.getvalue().encode(errors="surrogatepass")
    return "".join(f"{json.dumps(row)}\n" for row in found).encode()


@st.composite
def manifests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix and a content."""
    suffix = draw(st.sampled_from(SUFFIXES))
    content = written(suffix, draw(rows()))
    kinds = BYTE_EDITS if suffix in (".tsv", ".csv") else (*BYTE_EDITS, *JSON_EDITS)
    for edit in draw(st.lists(edits(kinds), max_size=2)):
        content = edit.apply(content)
    if draw(st.integers(0, 9)) == 9:
        content = b"".join(draw(st.lists(st.sampled_from([*BYTES, b"path", b"text", b"a.wav"]), max_size=20)))
    return suffix, gzip.compress(content) if suffix.endswith(".gz") else content


@fuzzed
@given(
    manifest=manifests(),
    is_plan=st.booleans(),
    on_error=st.sampled_from(["raise", "skip"]),
    decode=st.booleans(),
)
def test_manifests(
    folder: Path, config: Config, manifest: tuple[str, bytes], is_plan: bool, on_error: str, decode: bool
) -> None:
    path = folder / f"manifest{manifest[0]}"
    path.write_bytes(manifest[1])
    config.corpus, config.run_dir, config.on_error = str(path), str(folder.parent / "run"), on_error
    config.check.decode = decode
    statuses: list[object] = []
    try:
        if is_plan:
            told(lambda: COMMANDS["prepare"].plan(config, []), folder)
        else:
            error = told(lambda: statuses.append(COMMANDS["check"].run(config, [])), folder)
            assert not error, "check lists what it finds"
    finally:
        path.unlink()


@sampled
@given(manifest=manifests(), words=st.sampled_from([["check"], ["prepare", "--dry-run"], ["tokenizer", "fit-text"]]))
def test_manifests_by_whole_commands(folder: Path, manifest: tuple[str, bytes], words: list[str]) -> None:
    path = folder / f"manifest{manifest[0]}"
    path.write_bytes(manifest[1])
    out = folder.parent / "out"
    to = {"prepare": f"run_dir={out}", "tokenizer": f"out={out}/text.model"}
    try:
        run([*words, f"corpus={path}", *([to[words[0]]] if words[0] in to else [])], folder)
    finally:
        path.unlink()
        shutil.rmtree(out, ignore_errors=True)
