"""Locks: one process prepares a folder at a time. A second one is told which process does; a dead one holds no lock.

In a local folder the operating system locks ``.lock`` (``flock``) and unlocks it when the process ends, for whatever
reason. Parts of one preparation (``part=i/n``) share that lock, and each part has a lock of its own.

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


class Owner(TypedDict):
    """The content of a lock's file: the process that holds it, and since when."""

    pid: int
    host: str
    since: str


class Lease(Owner):
    """``lock.json``: an owner, its drawn token, and when it renewed the lease, in seconds since 1970."""

    token: str
    renewed_s: float


@contextlib.contextmanager
def folder_lock(folder: Folder, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Holds ``folder`` for this process, or only part i of n of it.

    Raises:
        UserError: another process holds it, or this part of it.
    """
    name = "" if part is None else f"-part-{part[0]}-of-{part[1]}"
    if isinstance(folder, Url):
        with _lease(folder, name):
            yield
        return
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with contextlib.ExitStack() as held:
        held.callback(_remove_empty, made)
        held.enter_context(_file_lock(folder / LOCK_FILE, shared=part is not None))
        if part is not None:
            held.enter_context(_file_lock(folder / f"{LOCK_FILE}{name}", shared=False))
        yield


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
def _file_lock(path: Path, shared: bool, waits: bool = False) -> Iterator[None]:
    descriptor = _acquire(path, shared, waits)
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
        except BlockingIOError:
            os.close(descriptor)
            raise _held(path.parent, _file_owners(path)) from None
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


def _file_owners(path: Path) -> list[Owner]:
    """Owners that wrote into a lock's file, or into the files of the parts that share it."""
    owners: list[Owner] = []
    for candidate in [path, *sorted(path.parent.glob(f"{path.name}-part-*"))]:
        with contextlib.suppress(OSError, ValueError):
            owners.append(parse_json(storage.read_bytes(candidate), Owner))
    return owners


def _owner() -> Owner:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _held(folder: Folder, owners: Sequence[Owner]) -> UserError:
    who = "; ".join(f"process {owner['pid']} on {owner['host']} since {owner['since']}" for owner in owners[:3])
    return UserError(
        f"{folder} is being prepared by another process ({who or 'it has not said which yet'}). Wait until it has "
        "ended, or choose another place with run_dir=FOLDER or data_dir=FOLDER."
    )


@contextlib.contextmanager
def _lease(folder: Url, name: str) -> Iterator[None]:
    place = folder / f"{LEASE_FILE.removesuffix('.json')}{name}.json"
    token = uuid.uuid4().hex
    rivals = [folder / LEASE_FILE, place] if name else [folder / file for file in _lease_files(folder)]
    owners = [owner for owner in map(_read_lease, rivals) if owner is not None and _is_alive(owner)]
    if owners:
        raise _held(folder, owners)
    _renew(place, token)
    time.sleep(SETTLE_S)
    owner = _read_lease(place)
    if owner is None or owner["token"] != token:
        raise _held(folder, [owner] if owner else [])
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
            f"over. {_held(folder, [renewal.taken_by])} Then run the same command again."
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
