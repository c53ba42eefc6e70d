"""The corpus is listed once: fingerprint, layout and lists of units come from one listing, which travels forward."""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lst import storage
from lst.data.corpora import load_corpus, on_the_fly_files
from lst.data.corpora.layouts.listing import Listing
from lst.data.prepare import prepare
from lst.data.prepare.options import find_origin
from lst.storage import files_fingerprint, list_files
from tests.data.conftest import MakeCorpus, options

LINE = '{"file_id": "%s", "interleaved": "<LST MODE SEP>TEXT so<LST MODE SEP>HUBERT 1 2 3 4 5 6 7 8"}\n'


class Calls:
    """Counts, below a root, listings of folders and looks at files other than those of reading audio."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.listings, self.stats = root, Counter[str](), Counter[str]()
        for name, counter in (("scandir", self.listings), ("listdir", self.listings), ("stat", self.stats)):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name), counter))

    def counted(self, function: Any, counter: Counter[str]) -> Any:
        def call(path: Any = ".", *rest: Any, **named: Any) -> Any:
            is_below = not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(self.root)
            if is_below and not any("/lst/data/audio/" in frame.filename for frame in traceback.extract_stack()):
                counter[Path(os.fsdecode(path)).relative_to(self.root).as_posix()] += 1
            return function(path, *rest, **named)

        return call


@pytest.fixture
def librispeech(make_corpus: MakeCorpus, tmp_path: Path) -> Path:
    """Eight recordings in the folders of two chapters."""
    flat, corpus = make_corpus(tmp_path / "flat"), tmp_path / "corpus"
    for number in range(8):
        chapter = corpus / "train-clean-100" / str(number % 2) / "7"
        chapter.mkdir(parents=True, exist_ok=True)
        (flat / f"utt_{number}.wav").rename(chapter / f"{number % 2}-7-{number:04d}.wav")
    for line in (flat / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        number = int(row["id"][4:])
        with open(corpus / f"train-clean-100/{number % 2}/7/{number % 2}-7.trans.txt", "a") as file:
            file.write(f"{number % 2}-7-{number:04d} {row['text']}\n")
    return corpus


def test_preparing_lists_each_folder_of_the_corpus_once(
    librispeech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(librispeech)
    with monkeypatch.context() as patch:
        calls = Calls(librispeech, patch)
        prepare(tmp_path / "data", wanted)
    part = "train-clean-100"
    assert calls.listings == dict.fromkeys((".", part, f"{part}/0", f"{part}/0/7", f"{part}/1", f"{part}/1/7"), 1)
    assert not any(name.endswith(".wav") for name in calls.stats)
    # The same once more: the listing alone finds that nothing has changed.
    with monkeypatch.context() as patch:
        calls = Calls(librispeech, patch)
        prepare(tmp_path / "data", wanted)
        (tmp_path / "data/index.json").unlink()
        prepare(tmp_path / "data", wanted)
    assert set(calls.listings.values()) == {2}
    assert not any(name.endswith(".wav") for name in calls.stats)


def test_lists_of_units_are_found_in_the_same_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.on_the_fly").write_text(LINE % "a" + LINE % "b")
    (corpus / "dev.on_the_fly").write_text(LINE % "c")
    with monkeypatch.context() as patch:
        calls = Calls(corpus, patch)
        prepare(tmp_path / "data", options(corpus))
    assert calls.listings == {".": 1}


def test_a_corpus_behind_a_url_is_listed_once(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    corpus = make_corpus(tmp_path / "corpus")
    url = f"local://{corpus}"
    asked: list[str] = []
    for name in ("find", "ls"):
        function = getattr(LocalFileSystem, name)

        def call(system: Any, path: str, *rest: Any, function: Any = function, name: str = name, **named: Any) -> Any:
            if str(path).rstrip("/") == str(corpus):
                asked.append(name)
            return function(system, path, *rest, **named)

        monkeypatch.setattr(LocalFileSystem, name, call)
    prepare(tmp_path / "data", options(url))  # type: ignore[arg-type]
    # fsspec's ``find`` asks ``ls`` for each folder that it walks through.
    assert asked == ["find", "ls"]


def tree(root: Path) -> Path:
    """Hidden files, folders behind links, a link to a file, and a broken one."""
    for name in ("a.wav", "z/b.wav", "z/deep/c.wav", ".hidden/d.wav", ".e.wav", "A/f.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root.parent / "outside").mkdir()
    (root.parent / "outside/g.wav").write_text("g")
    (root / "linked").symlink_to(root.parent / "outside")
    (root / "an_alias_of_z").symlink_to(root / "z")
    (root / "h.wav").symlink_to(root / "a.wav")
    (root / "gone.wav").symlink_to(root / "nowhere")
    return root


def test_one_walk_finds_what_two_found(tmp_path: Path) -> None:
    root = tree(tmp_path / "corpus")
    (root / "z/loop").symlink_to(root)
    found = list_files(root)
    # Fingerprints are those of ``rglob``: hidden files too, nothing behind links to folders.
    files = sorted(path for path in root.rglob("*") if path.is_file() and not is_behind_a_link(path, root))
    marks = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    assert list(found.marks or ()) == marks
    assert found.fingerprint == files_fingerprint(str(root)) == storage.fingerprint(marks)
    # Layouts see no hidden file, but those behind links, each folder once, in the order of a walk.
    assert list(found.names) == [
        "a.wav",
        "gone.wav",
        "h.wav",
        "A/f.txt",
        "an_alias_of_z/b.wav",
        "an_alias_of_z/deep/c.wav",
        "linked/g.wav",
    ]
    assert found.special == {"gone.wav"}
    assert found.top == ["a.wav", "h.wav"]
    assert [path.name for path in Listing(root, found).top] == ["a.wav", "h.wav"]
    assert Listing(root, found).files == Listing(root).files


def is_behind_a_link(path: Path, root: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent.is_relative_to(root))


def test_a_subfolder_is_taken_from_the_listing_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "corpus")
    listing = Listing(root)
    assert listing.files
    alone = {name: Listing(root / name).files for name in ("an_alias_of_z", "A", "z")}
    with monkeypatch.context() as patch:
        calls = Calls(root, patch)
        assert [listing.below(root / name).files for name in ("an_alias_of_z", "A")] == [
            alone["an_alias_of_z"],
            alone["A"],
        ]
    assert calls.listings == {}
    # What was seen by another way before is looked through again.
    assert listing.below(root / "z").files == alone["z"] != []


def test_absent_empty_and_single_places(tmp_path: Path) -> None:
    assert list_files(tmp_path / "absent").fingerprint is None
    (tmp_path / "empty").mkdir()
    assert list_files(tmp_path / "empty").fingerprint == storage.fingerprint([])
    (tmp_path / "a.txt").write_text("a")
    assert [mark[:2] for mark in list_files(tmp_path / "a.txt").marks or ()] == [(".", 1)]
    assert on_the_fly_files(str(tmp_path), list_files(tmp_path)) == []
    assert find_origin(options(tmp_path / "absent")).files["corpus_files"] is None


def test_listing_handed_in_gives_the_same_rows(librispeech: Path) -> None:
    assert load_corpus(librispeech, files=list_files(librispeech)) == load_corpus(librispeech)
