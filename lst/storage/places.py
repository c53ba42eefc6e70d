"""Places: a ``pathlib.Path`` where it is local (``file://`` too), else a ``Url``. Strings become places here only.

``locate`` and ``Url`` hold every string to the allow-list of ``lst.storage.access``; nothing else in the project hands
a string to fsspec.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from lst.errors import LstError, StorageError, UserError
from lst.storage import access
from lst.storage.access import PlaceError

# Storages that show a file only once its upload is complete.
ATOMIC_PUT = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory")
# fsspec's protocols whose packages are extras of this project.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class Url(str):
    """A URL to which names are joined with ``/``, as to a ``Path``.

    Raises:
        PlaceError: its protocol or host is not allowed, or it holds a chain or options; see ``lst.storage.access``.
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
        """What follows the last ``/``."""
        return self.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """What lies before the last ``/``."""
        return Url(self.rstrip("/").rpartition("/")[0])


Folder: TypeAlias = Path | Url
Location: TypeAlias = Path | str


def is_url(place: object) -> bool:
    """Whether a place is a URL (``s3://…``) and no local path."""
    return isinstance(place, str) and "://" in place


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


def leads_out(name: str) -> bool:
    """Whether a name, of a file in a folder or of a member of a tar, leads out of that folder or tar.

    >>> [name for name in ("a/b.wav", "../b.wav", "/b.wav") if leads_out(name)]
    ['../b.wav', '/b.wav']
    """
    return name.startswith("/") or ".." in name.split("/")


def absolute(place: Location) -> Folder:
    """The same place whatever the current folder is."""
    found = locate(place)
    return found.absolute() if isinstance(found, Path) else found


def file_system(url: Url, fresh: bool = False) -> tuple[Any, str]:
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
def named_errors(url: str) -> Iterator[None]:
    """Context manager: errors of a storage's client, as no credentials or no network, name the URL."""
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
    except (LstError, MemoryError):
        raise
    except Exception as error:
        raise StorageError(
            f"{url} cannot be reached ({type(error).__name__}: {error}). Check the address, the network and the "
            "credentials that its package looks for."
        ) from error


@contextlib.contextmanager
def remote(url: Url, fresh: bool = False) -> Iterator[tuple[Any, str]]:
    """Context manager: ``file_system``, whose errors name the URL."""
    with named_errors(url):
        yield file_system(url, fresh)
