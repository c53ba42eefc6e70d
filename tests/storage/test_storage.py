"""Places: a folder, ``memory://`` for an object store, ``local://`` for a file system that needs a move, all alike."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from places import names_below

from lst import storage
from lst.errors import StorageError, UserError
from lst.storage import Folder, Url, locate, sha256


@pytest.fixture(params=["folder", "memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "folder":
        return tmp_path / "data"
    return Url(f"memory://test_storage/{tmp_path.name}" if request.param == "memory" else f"local://{tmp_path}/data")


def test_every_function_does_the_same_at_every_place(place: Folder) -> None:
    assert not storage.exists(place / "a.bin")
    assert storage.list_sizes(place) == {}
    content = bytes(range(256)) * 5
    storage.write_bytes(place / "a.bin", content)
    storage.write_json(place / "deep" / "b.json", {"é": [1, None]})
    storage.write_jsonl(place / "c.jsonl", [{"a": 1}, {"a": 2}])
    storage.write_text(place / "d.txt", "ü\n")
    assert storage.read_bytes(place / "a.bin") == content
    assert storage.read_text(place / "d.txt") == "ü\n"
    assert storage.read_range(place / "a.bin", 250, 10) == content[250:260]
    assert storage.read_range(place / "a.bin", 1_275, 10) == content[1_275:]
    with storage.open_binary(place / "a.bin") as file:
        file.seek(1_000)
        assert file.read(3) == content[1_000:1_003]
    assert storage.size(place / "a.bin") == 1_280
    assert storage.sha256(place / "a.bin") == hashlib.sha256(content).hexdigest()
    assert storage.read_json(place / "deep" / "b.json", dict[str, Any], "it", "") == {"é": [1, None]}
    assert storage.read_jsonl(place / "c.jsonl", dict[str, Any]) == [{"a": 1}, {"a": 2}]
    assert storage.read_jsonl(place / "none.jsonl", dict[str, Any]) == []
    assert storage.list_sizes(place) == {"a.bin": 1_280, "c.jsonl": 18, "d.txt": 3}
    assert list(storage.list_sizes(place, ".txt")) == ["d.txt"]
    assert names_below(place) == ["a.bin", "c.jsonl", "d.txt", "deep/b.json"]
    assert storage.modified_s(place / "a.bin") > 1e9
    storage.remove(place / "a.bin")
    storage.remove(place / "a.bin")
    assert not storage.exists(place / "a.bin")
    for read in (storage.read_bytes, storage.size, *([storage.local_copy] if isinstance(place, Url) else [])):
        with pytest.raises(FileNotFoundError):
            read(place / "a.bin")
    with pytest.raises(UserError, match=r"the thing is missing: .*a\.bin\. Make it"):
        storage.read_json(place / "a.bin", dict[str, Any], "the thing", "Make it")
    with pytest.raises(UserError, match=r"the thing is damaged: .*d\.txt is not JSON"):
        storage.read_json(place / "d.txt", dict[str, Any], "the thing", "Make it")


def test_a_write_that_fails_leaves_what_was_there(place: Folder) -> None:
    storage.write_text(place / "a.txt", "old")

    def write_half() -> None:
        with storage.staged(place / "a.txt") as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_half()
    assert storage.read_text(place / "a.txt") == "old"
    assert names_below(place) == ["a.txt"]
    storage.save_with(place / "a.txt", lambda path: storage.write_text(path, "new"))
    assert storage.read_text(place / "a.txt") == "new"
    assert names_below(place) == ["a.txt"]


def test_a_move_that_fails_leaves_nothing_beside_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Url(f"local://{tmp_path}")
    storage.write_text(place / "a.txt", "old")

    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "mv", broken)
    with pytest.raises(StorageError, match=r"a\.txt cannot be reached \(ConnectionError: gone\)"):
        storage.write_text(place / "a.txt", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_what_a_url_holds_is_kept_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path))
    url = Url("memory://test_storage/kept/model.bin")
    storage.write_bytes(url, b"one")
    first = storage.local_copy(url)
    assert (first.read_bytes(), first.name) == (b"one", "model.bin")
    assert first.is_relative_to(tmp_path)
    storage.write_bytes(url, b"two")
    second = storage.local_copy(url)
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    digest = sha256(second)
    storage.remove(url)
    assert storage.local_copy(url, digest) == second
    second.write_bytes(b"2wo")
    storage.write_bytes(url, b"two")
    assert storage.local_copy(url, digest).read_bytes() == b"two"
    storage.write_bytes(url, b"three")
    with pytest.raises(UserError, match=r"model\.bin was altered: its SHA-256 is"):
        storage.local_copy(url, "0" * 64)
    assert storage.local_copy(first) == first
    assert not any(path.name.startswith(".fetch") for path in (tmp_path / "fetched").iterdir())


def test_places_are_told_apart() -> None:
    assert locate("file:///a/b") == Path("/a/b")
    assert locate("a/b") == Path("a/b")
    assert isinstance(locate("s3://bucket/key"), Url)
    url = Url("s3://bucket/key/") / "x.tar"
    assert (url, url.name, url.parent) == ("s3://bucket/key/x.tar", "x.tar", "s3://bucket/key")
    assert storage.absolute("a") == Path.cwd() / "a"


@pytest.mark.parametrize(
    ("url", "install"),
    [("s3://bucket/key", r"latent-speech-text\[s3\]"), ("gs://bucket/key", r"latent-speech-text\[gcs\]")],
)
def test_a_package_that_is_missing_is_named(url: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(UserError, match=rf"needs a package that is not installed: pip install '{install}'"):
        storage.exists(url)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(UserError, match=r"'nowhere://a/b': protocol 'nowhere' is not allowed; allowed are file, http"):
        storage.exists("nowhere://a/b")


def test_an_allowed_protocol_that_fsspec_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LST_ALLOW_PROTOCOLS", "nowhere")
    with pytest.raises(UserError, match=r"nowhere:// is no storage that fsspec knows"):
        storage.exists("nowhere://a/b")


def test_a_disk_that_fills_while_a_url_is_staged_is_named() -> None:
    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"is full: a\.txt was not written"):
        storage.save_with("memory://test_storage/full/a.txt", full)
    assert not storage.exists("memory://test_storage/full/a.txt")


def test_fingerprint_of_files_sees_a_change(place: Folder) -> None:
    assert storage.files_fingerprint(None) is None
    storage.write_text(place / "a.txt", "one")
    before = storage.files_fingerprint(str(place))
    assert before is not None
    assert storage.files_fingerprint(str(place)) == before
    storage.write_text(place / "b.txt", "two")
    assert storage.files_fingerprint(str(place)) != before
    if isinstance(place, Path):
        os.utime(place / "a.txt", (1, 1))
        storage.remove(place / "b.txt")
        assert storage.files_fingerprint(str(place)) != before
