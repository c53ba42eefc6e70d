"""One process prepares a folder at a time; a second one is told who does, and a dead one holds nothing.

In a local folder ``.lock`` is locked by the operating system (``flock``), which lets go when the process ends, however
that comes. Parts of one preparation (``part=i/n``) share that lock, and each holds one of its own.

Behind a URL there are no such locks: ``lock.json`` is a lease that its owner renews; one that was not renewed for
``LEASE_S`` seconds, or whose process is gone on this host, is void. Two processes that begin within the same second may
both pass where the storage shows writes late: they would make the same bytes twice, and harm nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
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
def _file_lock(path: Path, shared: bool) -> Iterator[None]:
    descriptor = _acquire(path, shared)
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


def _acquire(path: Path, shared: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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
    ended = threading.Event()

    def keep_renewing() -> None:
        while not ended.wait(RENEW_S):
            # A failure is met again, and reported, by the next write of the work itself.
            with contextlib.suppress(Exception):
                _renew(place, token)

    thread = threading.Thread(target=keep_renewing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        storage.remove(place)


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
