"""Files in a local folder or behind any URL that fsspec knows (``s3://``, ``gs://`` …), by one interface.

A place is a ``pathlib.Path`` where it is local (``file://`` too), else a URL: a ``str``, and a ``Url`` where names are
to be joined to it with ``/``. Writes are whole or absent everywhere:

- local: written beside its place, flushed, renamed (see ``lst.files.staged``);
- object stores (``s3``, ``gs``, ``abfs`` …) and ``memory``: made in a local temporary file and put in one request or
  multipart upload, which such stores show only once it is complete;
- any other file system: put under a temporary name beside the place and moved there.

Strings become places here and nowhere else (``locate``, ``Url``), within the allow-list of ``lst.access``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from lst import access, files
from lst.access import PlaceError
from lst.errors import UserError
from lst.files import is_url

ATOMIC_PUT = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory")
# fsspec's protocols whose packages are extras of this project.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class StorageError(UserError):
    """A storage that cannot be reached or written: the fault of no file in it."""


class Url(str):
    """A URL to which names are joined with ``/``, as to a ``Path``.

    Raises:
        PlaceError: its protocol or host is not allowed, or it holds a chain or options; see ``lst.access``.
    """

    __slots__ = ()

    def __new__(cls, url: str) -> Url:
        if problem := access.place_problem(url):
            raise PlaceError(problem)
        return super().__new__(cls, url)

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Url:
        return Url(self.rstrip("/").rpartition("/")[0])


Folder: TypeAlias = Path | Url
Location: TypeAlias = Path | str


def expanded(place: str) -> str:
    """``place`` with the home folder for ``~``, which a shell leaves as it is behind ``corpus=``; a URL stays."""
    return place if is_url(place) else os.path.expanduser(place)


def locate(place: Location) -> Folder:
    """A path or a URL, told by ``://``; ``file://`` is a path, and ``~`` the home folder."""
    if isinstance(place, Path):
        return place
    if place.startswith("file://"):
        return Path(place.removeprefix("file://"))
    return Url(place) if is_url(place) else Path(expanded(place))


def named_in(folder: Path, name: str) -> Folder:
    """The place that a file in ``folder`` names: a URL, or a path from that folder.

    Raises:
        PlaceError: it is a URL that may not be opened.
    """
    return Url(name) if is_url(name) else folder / name


def absolute(place: Location) -> Folder:
    """The same place whatever the current folder is."""
    found = locate(place)
    return found.absolute() if isinstance(found, Path) else found


def _file_system(url: Url, fresh: bool = False) -> tuple[Any, str]:
    """fsspec's file system of a URL and the path in it; ``fresh`` forgets what it has listed before."""
    import fsspec

    protocol = url.partition("://")[0]
    options = {"get_client": access.http_session} if protocol in ("http", "https") else {}
    try:
        # Asked again: a URL that another process or test made may not be allowed in this one.
        found, path = fsspec.core.url_to_fs(str(Url(url)), **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        install = f"pip install 'latent-speech-text[{extra}]'" if extra else str(error)
        raise UserError(f"{url}: {protocol}:// needs a package that is not installed: {install}") from None
    except ValueError as error:
        raise UserError(f"{url}: {protocol}:// is no storage that fsspec knows ({error})") from None
    if fresh:
        found.invalidate_cache()
    return found, path


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    """Turns what a storage's client raises (no credentials, no network) into an error that names the URL."""
    try:
        yield
    except FileNotFoundError as error:
        # fsspec says that a file is not there whatever its own client met, a refused redirect too.
        met: BaseException | None = error
        while met is not None and not isinstance(met, PlaceError):
            met = met.__cause__ or met.__context__
        if met is not None:
            raise met from None
        raise
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise StorageError(
            f"{url} cannot be reached ({type(error).__name__}: {error}). Check the address, the network and the "
            "credentials that its package looks for."
        ) from error


def open_binary(place: Location) -> BinaryIO:
    """Opens a file for reading bytes; ``FileNotFoundError`` where it is absent."""
    found = locate(place)
    if isinstance(found, Path):
        return open(found, "rb")
    with _named(found):
        system, path = _file_system(found)
        opened: BinaryIO = system.open(path, "rb")
        return opened


def read_bytes(place: Location) -> bytes:
    """A file's content; ``FileNotFoundError`` where it is absent."""
    found = locate(place)
    if isinstance(found, Path):
        return found.read_bytes()
    with _named(found):
        system, path = _file_system(found)
        content: bytes = system.cat_file(path)
        return content


def read_range(place: Location, offset: int, num_bytes: int) -> bytes:
    """``num_bytes`` bytes from ``offset`` on, by one request; fewer where the file ends before."""
    found = locate(place)
    if isinstance(found, Path):
        with open(found, "rb") as file:
            return os.pread(file.fileno(), num_bytes, offset)
    with _named(found):
        system, path = _file_system(found)
        content: bytes = system.cat_file(path, start=offset, end=offset + num_bytes)
        return content


def read_text(place: Location) -> str:
    """A file's content as UTF-8."""
    return read_bytes(place).decode("utf-8")


def fetch(files_wanted: Mapping[Url, Path]) -> None:
    """Copies files of one storage to local paths whose folders exist, as many at a time as its client can."""
    if not files_wanted:
        return
    with _named(next(iter(files_wanted))):
        found = [_file_system(url) for url in files_wanted]
        try:
            found[0][0].get([path for _, path in found], [str(path) for path in files_wanted.values()])
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise files.disk_full_error(next(iter(files_wanted.values()))) from error
            raise


def exists(place: Location) -> bool:
    """Whether a file or a folder is there."""
    found = locate(place)
    if isinstance(found, Path):
        return found.exists()
    with _named(found):
        system, path = _file_system(found, fresh=True)
        return bool(system.exists(path))


def size(place: Location) -> int:
    """A file's bytes; ``FileNotFoundError`` where it is absent."""
    found = locate(place)
    if isinstance(found, Path):
        return found.stat().st_size
    with _named(found):
        system, path = _file_system(found, fresh=True)
        return int(system.size(path))


def modified_s(place: Location) -> float:
    """When a file was last written, in seconds since 1970; 0 where the storage does not tell."""
    found = locate(place)
    if isinstance(found, Path):
        return found.stat().st_mtime
    with _named(found):
        system, path = _file_system(found, fresh=True)
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
            sizes = {e.name: e.stat().st_size for e in entries if e.name.endswith(suffix) and e.is_file()}
        return dict(sorted(sizes.items()))
    with _named(found):
        system, path = _file_system(found, fresh=True)
        try:
            entries_there = system.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        names = {
            entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries_there if entry["type"] == "file"
        }
        return {name: int(entry["size"]) for name, entry in sorted(names.items()) if name.endswith(suffix)}


def find_files(folder: Location) -> list[str]:
    """Names of all files below a folder, relative to it, in order; the file's own name where it is one."""
    found = locate(folder)
    if isinstance(found, Path):
        paths = [path for path in found.rglob("*") if path.is_file()] if found.is_dir() else [found]
        return sorted(str(path.relative_to(found)) for path in paths if path.exists())
    with _named(found):
        system, path = _file_system(found, fresh=True)
        names = sorted(name.removeprefix(path.rstrip("/")).lstrip("/") for name in system.find(path))
        if outside := [name for name in names if ".." in name.split("/")]:
            raise StorageError(f"{found} lists {outside[0][:100]!r}, which leads out of it.")
        return names


def files_fingerprint(place: str | None) -> str | None:
    """Names the files at or below a place by name, size and what tells of a change; None where there is none.

    Behind a URL that is the entity tag, or else the time of change, where the storage keeps one.
    """
    found = None if place is None else locate(place)
    if not isinstance(found, Url):
        return files.files_fingerprint(None if found is None else str(found))
    with _named(found):
        system, path = _file_system(found, fresh=True)
        entries = system.find(path, detail=True)
    marks = [(name, entry["size"], str(next((entry[key] for key in ("ETag", "etag", "LastModified", "mtime", "created")
             if entry.get(key)), ""))) for name, entry in sorted(entries.items())]  # fmt: skip
    return files.fingerprint(marks) if marks else None


@contextlib.contextmanager
def staged(place: Location) -> Iterator[Path]:
    """Yields a local temporary path; on success its content is at ``place``, whole, else nothing has changed.

    Raises:
        UserError: the disk is full, or the storage cannot be written.
    """
    found = locate(place)
    if isinstance(found, Path):
        with files.staged(found) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="lst-") as folder:
        temporary = Path(folder) / found.name
        try:
            yield temporary
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise files.disk_full_error(temporary) from error
            raise
        with _named(found):
            try:
                _put(temporary, found)
            except FileNotFoundError as error:
                raise StorageError(f"{found} cannot be written ({error}). Make the bucket, or name another.") from error


def _put(source: Path, url: Url) -> None:
    system, path = _file_system(url)
    if url.partition("://")[0] in ATOMIC_PUT:
        system.put_file(str(source), path)
        return
    parent, _, name = path.rpartition("/")
    beside = f"{parent}/.{name}.{uuid.uuid4().hex[:12]}{files.STAGING_SUFFIX}"
    system.makedirs(parent, exist_ok=True)
    try:
        system.put_file(str(source), beside)
        system.mv(beside, path)
    finally:
        with contextlib.suppress(Exception):
            if system.exists(beside):
                system.rm_file(beside)


def save_with(place: Location, save: Callable[[Path], object]) -> None:
    """Has ``save``, which writes whole files and knows of local paths only, write a file that is then at ``place``."""
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


def write_jsonl(place: Location, rows: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(place, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(place: Location, what: str, remedy: str) -> Any:
    """Reads a JSON file of this project; ``UserError`` as in ``lst.files.read_json``."""
    found = locate(place)
    if isinstance(found, Path):
        return files.read_json(found, what, remedy)
    try:
        return json.loads(read_text(found))
    except FileNotFoundError:
        raise UserError(f"{what} is missing: {found}. {remedy}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{what} is damaged: {found} is not JSON ({error}). {remedy}") from None


def read_jsonl(place: Location) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; see ``lst.files.read_jsonl``."""
    return files.read_jsonl(local_copy(place)) if exists(place) else []


def remove(place: Location) -> None:
    """Removes a file; one that is absent is none to remove."""
    found = locate(place)
    if isinstance(found, Path):
        found.unlink(missing_ok=True)
        return
    with _named(found), contextlib.suppress(FileNotFoundError):
        system, path = _file_system(found, fresh=True)
        system.rm_file(path)


def sha256(place: Location) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    digest = hashlib.sha256()
    with open_binary(place) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
        if kept.exists() and files.sha256_file(kept) == content_sha256:
            return kept
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as folder:
        temporary = Path(folder) / found.name
        with open_binary(found) as source, open(temporary, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        fetched = files.sha256_file(temporary)
        if content_sha256 not in (None, fetched):
            raise UserError(
                f"{found} was altered: its SHA-256 is {fetched[:12]}…, {str(content_sha256)[:12]}… is recorded"
            )
        kept = cache_dir() / fetched / found.name
        kept.parent.mkdir(exist_ok=True)
        os.replace(temporary, kept)
    return kept
