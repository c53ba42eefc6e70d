"""One process prepares a folder at a time; a second one is told who does, and a dead one holds nothing.

In a local folder ``.lock`` is locked by the operating system (``flock``), which lets go when the process ends, however
that comes. Parts of one preparation (``part=i/n``) share that lock, and each holds one of its own.

Behind a URL there are no such locks: ``lock.json`` is a lease that its owner renews; one that was not renewed for
``LEASE_S`` seconds, or whose process is gone on this host, is void. Who finds another's in place of its own leaves it
and ends with an error. Two processes that begin within the same second may both pass where the storage shows writes
late: they would make the same bytes twice, and harm nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lst import storage
from lst.errors import UserError
from lst.storage import Folder, Url

LOCK_FILE, LEASE_FILE = ".lock", "lock.json"
LEASE_S, RENEW_S, SETTLE_S = 180.0, 30.0, 0.5


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
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        held.enter_context(_file_lock(folder / LOCK_FILE, shared=part is not None))
        if part is not None:
            held.enter_context(_file_lock(folder / f"{LOCK_FILE}{name}", shared=False))
        yield


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Holds a local lock file for a moment, after waiting for other processes that hold it; removes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(path, shared=False, waits=True):
        yield


@contextlib.contextmanager
def _file_lock(path: Path, shared: bool, waits: bool = False) -> Iterator[None]:
    descriptor = _acquire(path, shared, waits)
    try:
        if not shared:
            # Who holds it is told for people; a full disk is met, and named, where it matters.
            with contextlib.suppress(OSError):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_owner()).encode(), 0)
        yield
    finally:
        # Only who holds it alone may take the file away: all who wait for it look at the file again.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, shared: bool, waits: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _held(path.parent, _file_owners(path)) from None
        except BaseException:
            os.close(descriptor)
            raise
        # The former owner took the file away between opening and locking.
        os.close(descriptor)


def _file_owners(path: Path) -> list[dict[str, Any]]:
    """Who wrote into a lock's file, or into those of the parts that share it."""
    owners = []
    for candidate in [path, *sorted(path.parent.glob(f"{path.name}-part-*"))]:
        with contextlib.suppress(OSError, ValueError):
            owners.append(json.loads(candidate.read_text()))
    return owners


def _owner() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _held(folder: Folder, owners: list[dict[str, Any]]) -> UserError:
    who = "; ".join(f"process {o.get('pid')} on {o.get('host')} since {o.get('since')}" for o in owners[:3])
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
    if owner is None or owner.get("token") != token:
        raise _held(folder, [owner] if owner else [])
    renewal = _Renewal(place, token)
    try:
        with renewal:
            yield
    except KeyboardInterrupt:
        if renewal.usurper is None:
            raise
    finally:
        renewal.look()
        if renewal.usurper is None:
            storage.remove(place)
    if renewal.usurper is not None:
        raise UserError(
            f"this process could not renew its hold on {folder} for {LEASE_S:g} seconds, and another one has taken it "
            f"over. {_held(folder, [renewal.usurper])} Then run the same command again."
        )


class _Renewal:
    """Renews a lease in a thread; once it is another's, interrupts the work where that is the main thread's.

    Attributes:
        usurper: who holds the lease instead.
    """

    def __init__(self, place: Url, token: str) -> None:
        self.place, self.token = place, token
        self.usurper: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._is_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._keep_renewing, daemon=True)

    def __enter__(self) -> None:
        # A shell has its background commands ignore interrupts, and then ours would be ignored, too.
        self._ignored = self._is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if self._ignored:
            signal.signal(signal.SIGINT, self._interrupt_for_usurper)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _interrupt_for_usurper(self, *_: object) -> None:
        if self.usurper is not None:
            raise KeyboardInterrupt

    def look(self) -> None:
        """Finds out whether the lease is another's by now."""
        owner = _read_lease(self.place)
        if owner is not None and owner.get("token") != self.token:
            self.usurper = owner

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_S):
            # A failure is met again, and reported, by the next write of the work itself.
            with contextlib.suppress(Exception):
                self.look()
                if self.usurper is not None:
                    break
                _renew(self.place, self.token)
        if self.usurper is not None and self._is_main and not self._ended.is_set():
            _thread.interrupt_main()


def _lease_files(folder: Url) -> list[str]:
    stem = LEASE_FILE.removesuffix(".json")
    return [name for name in storage.list_sizes(folder, ".json") if name == LEASE_FILE or name.startswith(f"{stem}-")]


def _renew(place: Url, token: str) -> None:
    storage.write_json(place, {**_owner(), "token": token, "renewed_s": time.time()})


def _read_lease(place: Url) -> dict[str, Any] | None:
    try:
        found = json.loads(storage.read_bytes(place))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_alive(owner: dict[str, Any]) -> bool:
    if time.time() - float(owner.get("renewed_s", 0)) > LEASE_S:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(owner.get("pid", -1)), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
