"""Files that are whole or absent, at any place: staged beside it, flushed, renamed.

- local: written beside its place, flushed, renamed;
- object stores (``s3``, ``gs``, ``abfs`` …) and ``memory``: made in a local temporary file and put in one request or
  multipart upload, which such stores show only once it is complete;
- any other file system: put under a temporary name beside the place and moved there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from lst.errors import DiskFullError, StorageError, UserError
from lst.storage import access
from lst.storage.fingerprints import sha256_of
from lst.storage.places import ATOMIC_PUT, Location, Url, file_system, locate, named_errors, remote

STAGING_SUFFIX = ".partial"
# What may stand where a regular file is wanted.
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def fsync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename inside it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_full_error(path: Path) -> DiskFullError:
    """The error for a full disk, naming the place and the way out."""
    return DiskFullError(
        f"the disk that holds {path.parent} is full: {path.name} was not written, nothing earlier was lost. "
        "Free some space and run the same command again, or choose another place with run_dir=FOLDER."
    )


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Context manager: a full disk is a ``UserError`` that names what was not written."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full_error(path) from error
        raise


def check_free_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raises ``UserError`` before work starts when ``folder``'s disk cannot hold ``needed_bytes``."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise UserError(
            f"{what} needs about {needed_bytes / 1e6:,.0f} MB in {folder}, but {free_bytes / 1e6:,.0f} MB are free. "
            "Free some space or choose another place with run_dir=FOLDER."
        )


def open_regular(path: Path) -> BinaryIO:
    """Opens a local regular file for reading bytes; see ``open_descriptor``."""
    return os.fdopen(open_descriptor(path), "rb")


def open_descriptor(path: Path) -> int:
    """The descriptor of a local regular file, opened for reading; links are followed.

    Raises:
        FileNotFoundError: it is absent.
        OSError: it is a folder, a FIFO, a device or a socket; none of these is opened, so nothing waits for a writer.
    """
    check_regular(path, os.stat(path).st_mode)
    # Opened without waiting and looked at again: another process may have put something else there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        check_regular(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: Path, mode: int) -> None:
    """Raises ``OSError`` unless the mode that ``os.stat`` gives is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
        raise OSError(errno.EINVAL, f"is {kind}, a regular file is needed", str(path))


def open_binary(place: Location) -> BinaryIO:
    """Opens a file for reading bytes; ``FileNotFoundError`` where it is absent, ``OSError`` where it is no file."""
    found = locate(place)
    if isinstance(found, Path):
        return open_regular(found)
    with remote(found) as (system, path):
        return cast(BinaryIO, system.open(path, "rb"))


def read_bytes(place: Location) -> bytes:
    """A file's content; ``FileNotFoundError`` where it is absent."""
    found = locate(place)
    if isinstance(found, Path):
        with open_regular(found) as file:
            return file.read()
    with remote(found) as (system, path):
        return bytes(system.cat_file(path))


def read_foreign(place: Location) -> bytes:
    """The content of a file that may come from anywhere: at most ``storage.max_file_bytes``.

    Raises:
        FileNotFoundError: it is absent.
        UserError: it is larger.
    """
    with open_binary(place) as file:
        # Read from the file and not told by its size: it may grow, and a storage may tell another.
        content = file.read(access.max_file_bytes() + 1)
    if too_large := access.size_problem(len(content)):
        raise UserError(f"{place} {too_large}.")
    return content


def read_range(place: Location, offset: int, num_bytes: int) -> bytes:
    """``num_bytes`` bytes from ``offset`` on, by one request; fewer where the file ends before."""
    found = locate(place)
    if isinstance(found, Path):
        with open_regular(found) as file:
            return os.pread(file.fileno(), num_bytes, offset)
    with remote(found) as (system, path):
        return bytes(system.cat_file(path, start=offset, end=offset + num_bytes))


def read_text(place: Location) -> str:
    """A file's content as UTF-8."""
    return read_bytes(place).decode("utf-8")


def fetch(files_wanted: Mapping[Url, Path]) -> None:
    """Copies files of one storage to local paths whose folders exist, as many at a time as its client can."""
    if not files_wanted:
        return
    with named_errors(next(iter(files_wanted))):
        found = [file_system(url) for url in files_wanted]
        with full_disk_named(next(iter(files_wanted.values()))):
            found[0][0].get([path for _, path in found], [str(path) for path in files_wanted.values()])


def exists(place: Location) -> bool:
    """Whether a file or a folder is there."""
    found = locate(place)
    if isinstance(found, Path):
        return found.exists()
    with remote(found, fresh=True) as (system, path):
        return bool(system.exists(path))


def size(place: Location) -> int:
    """A file's bytes; ``FileNotFoundError`` where it is absent."""
    found = locate(place)
    if isinstance(found, Path):
        return found.stat().st_size
    with remote(found, fresh=True) as (system, path):
        return int(system.size(path))


def modified_s(place: Location) -> float:
    """When a file was last written, in seconds since 1970; 0 where the storage does not tell."""
    found = locate(place)
    if isinstance(found, Path):
        return found.stat().st_mtime
    with remote(found, fresh=True) as (system, path):
        try:
            return float(system.modified(path).timestamp())
        except (NotImplementedError, AttributeError):
            return 0.0


def list_sizes(folder: Location, suffix: str = "") -> dict[str, int]:
    """Bytes of the files directly in a folder, by name, in order; none where it is absent."""
    found = locate(folder)
    if isinstance(found, Path):
        if not found.is_dir():
            return {}
        with os.scandir(found) as entries:
            # Unlike an entry's own is_file, this takes a link that leads to itself for no file.
            sizes = {e.name: e.stat().st_size for e in entries if e.name.endswith(suffix) and os.path.isfile(e.path)}
        return dict(sorted(sizes.items()))
    with remote(found, fresh=True) as (system, path):
        try:
            entries_there = system.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        names = {
            entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries_there if entry["type"] == "file"
        }
        return {name: int(entry["size"]) for name, entry in sorted(names.items()) if name.endswith(suffix)}


@contextlib.contextmanager
def staged(place: Location) -> Iterator[Path]:
    """Context manager: a local temporary path whose content is put at ``place`` on success; else nothing changes.

    Raises:
        UserError: the disk is full, or the storage cannot be written.
    """
    found = locate(place)
    if isinstance(found, Path):
        with _staged_beside(found) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="lst-") as folder:
        temporary = Path(folder) / found.name
        with full_disk_named(temporary):
            yield temporary
        with named_errors(found):
            try:
                _put(temporary, found)
            except FileNotFoundError as error:
                raise StorageError(f"{found} cannot be written ({error}). Make the bucket, or name another.") from error


@contextlib.contextmanager
def _staged_beside(path: Path) -> Iterator[Path]:
    # A drawn name, so that two processes never write into one file. The suffix stays last, as soundfile takes the
    # format from it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}{path.suffix}")
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def clear_partial_files(*folders: Path, stem: str = "") -> None:
    """Removes what killed writers staged directly in local folders. Call it where nobody else writes: under a lock.

    Args:
        folders: they may be absent.
        stem: only what was staged for the file of this name, without its suffix.
    """
    for folder in folders:
        for path in folder.glob(f".{stem and f'{stem}.'}*{STAGING_SUFFIX}*"):
            if path.is_file():
                path.unlink(missing_ok=True)


def _put(source: Path, url: Url) -> None:
    system, path = file_system(url)
    if url.partition("://")[0] in ATOMIC_PUT:
        system.put_file(str(source), path)
        return
    parent, _, name = path.rpartition("/")
    beside = f"{parent}/.{name}.{uuid.uuid4().hex[:12]}{STAGING_SUFFIX}"
    system.makedirs(parent, exist_ok=True)
    try:
        system.put_file(str(source), beside)
        system.mv(beside, path)
    finally:
        with contextlib.suppress(Exception):
            if system.exists(beside):
                system.rm_file(beside)


def save_with(place: Location, save: Callable[[Path], object]) -> None:
    """Saves to any place with ``save``, which writes whole files at local paths."""
    found = locate(place)
    if isinstance(found, Path):
        save(found)
        return
    with staged(found) as temporary:
        save(temporary)


def write_bytes(place: Location, content: bytes) -> None:
    """Writes ``content``, whole or not at all."""
    with staged(place) as temporary:
        temporary.write_bytes(content)


def write_text(place: Location, text: str) -> None:
    """Writes UTF-8 ``text``, whole or not at all."""
    write_bytes(place, text.encode("utf-8"))


def write_json(place: Location, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all."""
    write_text(place, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(place: Location, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_bytes(path: Path, content: bytes) -> None:
    """Adds ``content`` to the end of a local file, which is made if it is absent. A killed process may add a part."""
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)


def remove(place: Location) -> None:
    """Removes a file. An absent file is no error."""
    found = locate(place)
    if isinstance(found, Path):
        found.unlink(missing_ok=True)
        return
    with remote(found, fresh=True) as (system, path), contextlib.suppress(FileNotFoundError):
        system.rm_file(path)


def sha256(place: Location) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    with open_binary(place) as file:
        return sha256_of(file)


def cache_dir() -> Path:
    """The folder ``fetched`` in ``$LST_CACHE_DIR`` or, where that is not set, in ``~/.cache/lst``."""
    root = os.environ.get("LST_CACHE_DIR")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "lst") / "fetched"


def local_copy(place: Location, content_sha256: str | None = None) -> Path:
    """A local file with the content of ``place``: itself, or a copy in the cache, kept by its hash.

    Args:
        place: a file.
        content_sha256: its hash where it is known: a copy that is there already is then not fetched again.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: what was fetched has another hash.
    """
    found = locate(place)
    if isinstance(found, Path):
        return found
    if content_sha256 is not None:
        kept = cache_dir() / content_sha256 / found.name
        if kept.exists() and sha256(kept) == content_sha256:
            return kept
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as folder:
        temporary = Path(folder) / found.name
        with open_binary(found) as source, open(temporary, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        fetched = sha256(temporary)
        if content_sha256 not in (None, fetched):
            raise UserError(
                f"{found} was altered: its SHA-256 is {fetched[:12]}…, {str(content_sha256)[:12]}… is recorded"
            )
        kept = cache_dir() / fetched / found.name
        kept.parent.mkdir(exist_ok=True)
        os.replace(temporary, kept)
    return kept
