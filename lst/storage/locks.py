"""Locks: one process writes a folder at a time. A second one is told which process does; a dead one holds no lock.

In a local folder the operating system locks ``.lock`` (``flock``) and unlocks it when the process ends, for whatever
reason. Parts of one preparation (``part=i/n``) share that lock, and so do readers; each has a lock of its own besides.

Behind a URL there are no such locks: ``lock.json`` is a lease that its owner renews; one that was not renewed for
``LEASE_S`` seconds, or whose process on this host has ended, is void. A process that finds another's lease in place of
its own leaves it and ends with an error. Two processes that begin within the same second may both pass where the
storage shows writes late. They then make the same bytes twice, which does no harm.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from lst import storage
from lst.errors import UserError
from lst.storage import Folder, FormatError, Url, parse_json

LOCK_FILE, LEASE_FILE = ".lock", "lock.json"
LEASE_S, RENEW_S, SETTLE_S = 180.0, 30.0, 0.5
MAX_OWNER_BYTES = 4096
_READER = "-reader-"
DATA_REMEDY = "or choose another place with run_dir=FOLDER or data_dir=FOLDER"


class Owner(TypedDict):
    """The content of a lock's file: the process that holds it, and since when."""

    pid: int
    host: str
    since: str


class Lease(Owner):
    """``lock.json``: an owner, its drawn token, and when it renewed the lease, in seconds since 1970."""

    token: str
    renewed_s: float


class HeldError(UserError):
    """A folder that another process holds.

    Args:
        folder: that is held.
        owners: processes that hold it, as far as they are known.
        work: what they do with it.
        remedy: what to do instead of waiting.
    """

    def __init__(
        self, folder: Folder, owners: Sequence[Owner], work: str = "prepared", remedy: str = DATA_REMEDY
    ) -> None:
        who = "; ".join(f"process {owner['pid']} on {owner['host']} since {owner['since']}" for owner in owners[:3])
        super().__init__(
            f"{folder} is being {work} by another process ({who or 'it has not said which yet'}). Wait until it has "
            f"ended, {remedy}."
        )


class HeldByReadersError(HeldError):
    """A folder that other processes read."""


@contextlib.contextmanager
def folder_lock(
    folder: Folder, part: tuple[int, int] | None = None, work: str = "prepared", remedy: str = DATA_REMEDY
) -> Iterator[None]:
    """Holds ``folder`` for this process, or only part i of n of it.

    Args:
        folder: a local folder, which is made, or a URL.
        part: i and n; None for the whole.
        work: what is done with it, for the error of others.
        remedy: what to do instead of waiting, for the error.

    Raises:
        HeldError: another process holds it, or this part of it.
    """
    name = "" if part is None else f"-part-{part[0]}-of-{part[1]}"
    if isinstance(folder, Url):
        with _lease(folder, name):
            yield
        return
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with contextlib.ExitStack() as held:
        held.callback(_remove_empty, made)
        held.enter_context(_file_lock(folder / LOCK_FILE, part is not None, work, remedy))
        if part is not None:
            held.enter_context(_file_lock(folder / f"{LOCK_FILE}{name}", False, work, remedy))
        yield


@contextlib.contextmanager
def reading_lock(folder: Folder) -> Iterator[None]:
    """Keeps others from preparing a local ``folder`` that is read; readers do not exclude each other.

    Nothing is held where the folder is absent, may not be written, or is a URL.

    Raises:
        HeldError: another process prepares it.
    """
    with contextlib.ExitStack() as held:
        if isinstance(folder, Path) and folder.is_dir() and os.access(folder, os.W_OK):
            held.enter_context(_file_lock(folder / LOCK_FILE, shared=True))
            for path in folder.glob(f"{LOCK_FILE}{_READER}*"):
                _is_locked(path)  # removes what a killed reader left
            # It names this process to others; two readers of one process have two. Another one may look at it.
            own = folder / f"{LOCK_FILE}{_READER}{uuid.uuid4().hex[:12]}"
            held.enter_context(_file_lock(own, shared=False, waits=True))
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds the whole of a local folder. Nothing is changed."""
    return _is_locked(folder / LOCK_FILE, fcntl.LOCK_SH)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders that were made for a lock if work ended before it wrote anything; the innermost comes first."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Holds a local lock file for a moment, after waiting for other processes that hold it; removes the file."""
    with _file_lock(path, shared=False, waits=True):
        yield


@contextlib.contextmanager
def _file_lock(
    path: Path, shared: bool, work: str = "prepared", remedy: str = DATA_REMEDY, waits: bool = False
) -> Iterator[None]:
    try:
        descriptor = _acquire(path, shared, waits)
    except BlockingIOError:
        raise _held(path, work, remedy) from None
    try:
        if not shared:
            # The owner is written for error messages only, so a full disk is ignored here.
            with contextlib.suppress(OSError):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_owner()).encode(), 0)
        yield
    finally:
        # Only the sole holder removes the file. Others that opened it check that it is still the same file.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, shared: bool, waits: bool) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                _check_content(path, descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # The former owner removed the file between opening and locking.
        os.close(descriptor)


def _open(path: Path) -> int:
    """Opens a lock's file, which is made if it is absent; never another file by a link, and never waits for one."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _no_lock(path) from None
    status = os.fstat(descriptor)
    # A file of two names would be emptied under the other one as well.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _check_content(path: Path, descriptor: int) -> None:
    """Raises ``UserError`` for a file that holds anything but an owner: writing an owner would destroy it."""
    content = os.pread(descriptor, MAX_OWNER_BYTES, 0).strip(b"\0")
    if not content:
        return
    try:
        parse_json(content, Owner)
    except FormatError:
        raise _no_lock(path) from None


def _no_lock(path: Path) -> UserError:
    return UserError(
        f"{path} is no lock of this project (it is a link, no regular file, or holds other things): move it"
    )


def _held(path: Path, work: str, remedy: str) -> HeldError:
    """The error for a lock's file that another process has locked."""
    readers = [
        owner for file in path.parent.glob(f"{path.name}{_READER}*") if _is_locked(file) for owner in _read(file)
    ]
    if readers and not _is_locked(path, fcntl.LOCK_SH):
        return HeldByReadersError(path.parent, readers, "read", remedy)
    parts = sorted(path.parent.glob(f"{path.name}-part-*"))
    return HeldError(path.parent, [owner for file in [path, *parts] for owner in _read(file)], work, remedy)


def _is_locked(path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    """Whether a process holds a lock that excludes this kind. A file that a killed one left is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if kind == fcntl.LOCK_EX:
            path.unlink(missing_ok=True)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _read(path: Path) -> list[Owner]:
    """The owner that wrote into a lock's file, if it has done so."""
    try:
        return [parse_json(storage.read_bytes(path), Owner)]
    except (OSError, ValueError):
        return []


def _owner() -> Owner:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


@contextlib.contextmanager
def _lease(folder: Url, name: str) -> Iterator[None]:
    place = folder / f"{LEASE_FILE.removesuffix('.json')}{name}.json"
    token = uuid.uuid4().hex
    rivals = [folder / LEASE_FILE, place] if name else [folder / file for file in _lease_files(folder)]
    owners = [owner for owner in map(_read_lease, rivals) if owner is not None and _is_alive(owner)]
    if owners:
        raise HeldError(folder, owners)
    _renew(place, token)
    time.sleep(SETTLE_S)
    owner = _read_lease(place)
    if owner is None or owner["token"] != token:
        raise HeldError(folder, [owner] if owner else [])
    renewal = _Renewal(place, token)
    try:
        with renewal:
            yield
    except KeyboardInterrupt:
        if renewal.taken_by is None:
            raise
    finally:
        renewal.look()
        if renewal.taken_by is None:
            storage.remove(place)
    if renewal.taken_by is not None:
        raise UserError(
            f"this process could not renew its hold on {folder} for {LEASE_S:g} seconds, and another one has taken it "
            f"over. {HeldError(folder, [renewal.taken_by])} Then run the same command again."
        )


class _Renewal:
    """Renews a lease in a thread. Once another process holds it, interrupts work in the main thread.

    Attributes:
        taken_by: the owner that holds the lease instead; None while it is ours.
    """

    def __init__(self, place: Url, token: str) -> None:
        self.place, self.token = place, token
        self.taken_by: Lease | None = None
        self._ended = threading.Event()
        self._is_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._keep_renewing, daemon=True)

    def __enter__(self) -> None:
        # A shell makes background commands ignore interrupts, and ours would be ignored as well.
        self._ignored = self._is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if self._ignored:
            signal.signal(signal.SIGINT, self._interrupt_if_taken)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _interrupt_if_taken(self, *_: object) -> None:
        if self.taken_by is not None:
            raise KeyboardInterrupt

    def look(self) -> None:
        """Sets ``taken_by`` if another process holds the lease by now."""
        owner = _read_lease(self.place)
        if owner is not None and owner["token"] != self.token:
            self.taken_by = owner

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_S):
            # If the storage fails, the next write of the work itself reports it.
            with contextlib.suppress(Exception):
                self.look()
                if self.taken_by is not None:
                    break
                _renew(self.place, self.token)
        if self.taken_by is not None and self._is_main and not self._ended.is_set():
            _thread.interrupt_main()


def _lease_files(folder: Url) -> list[str]:
    stem = LEASE_FILE.removesuffix(".json")
    return [name for name in storage.list_sizes(folder, ".json") if name == LEASE_FILE or name.startswith(f"{stem}-")]


def _renew(place: Url, token: str) -> None:
    storage.write_json(place, {**_owner(), "token": token, "renewed_s": time.time()})


def _read_lease(place: Url) -> Lease | None:
    """The lease at a place; None where there is none, or where it is damaged."""
    try:
        return parse_json(storage.read_bytes(place), Lease)
    except (FileNotFoundError, FormatError):
        return None


def _is_alive(owner: Lease) -> bool:
    if time.time() - owner["renewed_s"] > LEASE_S:
        return False
    if owner["host"] == socket.gethostname():
        try:
            os.kill(owner["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
    return True
