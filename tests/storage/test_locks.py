"""Who holds a folder is named to whoever comes second; a dead process holds nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

from lst import storage
from lst.errors import UserError
from lst.storage import Url, locks
from lst.storage.locks import LEASE_FILE, LOCK_FILE, folder_lock, reading_lock

HOLD = """
import sys, time
from pathlib import Path
from lst.storage.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_told_the_first_ones_number_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        who = rf"process {process.pid} on {socket.gethostname()} since 2.*run_dir=FOLDER or data_dir"
        with pytest.raises(UserError, match=who), folder_lock(tmp_path):
            pytest.fail("it must not be let in")
        with pytest.raises(UserError, match=who), folder_lock(tmp_path, (0, 2)):
            pytest.fail("nor may a part")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with folder_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_removes_the_lock_of_one_that_was_killed_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / f"{LOCK_FILE}-reader-0123456789ab").write_text("")
    with reading_lock(tmp_path), reading_lock(tmp_path):
        names = [path.name for path in tmp_path.iterdir()]
        assert len(names) == 3
        assert f"{LOCK_FILE}-reader-0123456789ab" not in names
    assert list(tmp_path.iterdir()) == []


def test_parts_share_a_folder_each_has_one_owner_and_the_whole_waits(tmp_path: Path) -> None:
    with folder_lock(tmp_path, (0, 2)), folder_lock(tmp_path, (1, 2)):
        with pytest.raises(UserError, match=f"process {os.getpid()}"), folder_lock(tmp_path, (1, 2)):
            pytest.fail("the part has an owner")
        with pytest.raises(UserError, match=f"process {os.getpid()} .*; process {os.getpid()} "), folder_lock(tmp_path):
            pytest.fail("parts are being made")
    with folder_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_lets_go(tmp_path: Path) -> None:
    def fail() -> None:
        with folder_lock(tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with folder_lock(tmp_path):
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Url:
    monkeypatch.setattr(locks, "SETTLE_S", 0.0)
    return Url(f"memory://test_locks/{tmp_path.name}")


def test_a_lease_behind_a_url_holds_it(url: Url) -> None:
    with folder_lock(url):
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()}"), folder_lock(url):
            pytest.fail("it has an owner")
        with pytest.raises(UserError, match="being prepared"), folder_lock(url, (0, 2)):
            pytest.fail("it has an owner")
    assert not storage.exists(url / LEASE_FILE)
    with folder_lock(url, (0, 2)), folder_lock(url, (1, 2)):
        with pytest.raises(UserError, match="being prepared"), folder_lock(url, (0, 2)):
            pytest.fail("the part has an owner")
        with pytest.raises(UserError, match="being prepared"), folder_lock(url):
            pytest.fail("parts are being made")
    with folder_lock(url):
        pass
    assert storage.list_sizes(url) == {}


@pytest.mark.parametrize("dead", ["lease has run out", "process is gone"])
def test_a_dead_owners_lease_does_not_hold(url: Url, dead: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    elsewhere = {"pid": 1, "host": "elsewhere", "since": "then", "token": "x"}
    alive = {**elsewhere, "renewed_s": time.time() - locks.LEASE_S + 30}
    storage.write_json(url / LEASE_FILE, alive)
    with pytest.raises(UserError, match="process 1 on elsewhere since then"), folder_lock(url):
        pytest.fail("its owner lives")
    here = {**alive, "host": socket.gethostname(), "pid": ended.pid}
    late = {**alive, "renewed_s": time.time() - locks.LEASE_S - 1}
    storage.write_json(url / LEASE_FILE, late if dead == "lease has run out" else here)
    with folder_lock(url):
        pass


def test_a_lease_is_renewed_while_it_is_held(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW_S", 0.01)
    with folder_lock(url):
        first = storage.read_json(url / LEASE_FILE, dict[str, Any], "", "")["renewed_s"]
        deadline = time.monotonic() + 30
        while (now := storage.read_json(url / LEASE_FILE, dict[str, Any], "", "")["renewed_s"]) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert now > first


def test_who_writes_the_lease_last_holds_it(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that saw no lease, the one whose lease was overwritten steps back."""

    def other_writes(_: float) -> None:
        lease = {"pid": 7, "host": "elsewhere", "since": "now", "token": "other", "renewed_s": time.time()}
        storage.write_json(url / LEASE_FILE, lease)

    monkeypatch.setattr(time, "sleep", other_writes)
    with pytest.raises(UserError, match="process 7 on elsewhere"), folder_lock(url):
        pytest.fail("the other holds it")


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("works_on", ["until it is interrupted", "and ends before it is told"])
def test_who_has_lost_the_lease_ends_with_an_error_and_leaves_it_to_its_new_owner(
    url: Url, monkeypatch: pytest.MonkeyPatch, works_on: str, ignored: bool
) -> None:
    """Also where interrupts of people are ignored, as a shell has it for background commands."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    other = {"pid": 7, "host": "elsewhere", "since": "now", "token": "other", "renewed_s": time.time()}
    monkeypatch.setattr(locks, "RENEW_S", 0.01 if works_on.startswith("until") else 60.0)
    finished = []

    def work() -> None:
        with folder_lock(url):
            if ignored:
                signal.raise_signal(signal.SIGINT)
            storage.write_json(url / LEASE_FILE, other)
            for _ in range(3_000 if works_on.startswith("until") else 0):
                time.sleep(0.01)
            finished.append(works_on)

    try:
        with pytest.raises(UserError, match=r"another one has taken it over.*process 7 on elsewhere"):
            work()
        assert signal.getsignal(signal.SIGINT) is (signal.SIG_IGN if ignored else signal.default_int_handler)
    finally:
        signal.signal(signal.SIGINT, before)
    assert finished == ([] if works_on.startswith("until") else [works_on])
    assert storage.read_json(url / LEASE_FILE, dict[str, Any], "", "") == other
    storage.remove(url / LEASE_FILE)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"\xff", b'{"pid": "1"}', b'{"renewed_s": "x", "pid": 1}', b"[" * 100_000]
)
def test_a_damaged_lease_holds_nothing(url: Url, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SETTLE_S", 0.0)
    storage.write_bytes(url / LEASE_FILE, content)
    with folder_lock(url):
        pass
    assert not storage.exists(url / LEASE_FILE)


def test_a_damaged_lock_file_tells_no_owner(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        for content in ("", "[1]", '{"pid": null}', "{"):
            (tmp_path / locks.LOCK_FILE).write_text(content)
            with pytest.raises(UserError, match="it has not said which yet"), folder_lock(tmp_path):
                pass


def test_a_lock_that_is_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("do not touch")
    folder = tmp_path / "data"
    folder.mkdir()
    lock = folder / LOCK_FILE
    makers = {
        "link": lambda: lock.symlink_to(precious),
        "broken link": lambda: lock.symlink_to(tmp_path / "made.txt"),
        "hard link": lambda: lock.hardlink_to(precious),
        "FIFO": lambda: os.mkfifo(lock),
        "device": lambda: lock.symlink_to("/dev/zero"),
        "another file": lambda: lock.write_text("passwords"),
    }
    for name, make in makers.items():
        make()
        with pytest.raises(UserError, match=r"\.lock is no lock of this project"), folder_lock(folder):
            pytest.fail(name)
        assert precious.read_text() == "do not touch"
        assert not (tmp_path / "made.txt").exists()
        assert name != "another file" or lock.read_text() == "passwords"
        lock.unlink()
    (folder / LOCK_FILE).mkdir()
    with pytest.raises(UserError, match="no lock of this project"), folder_lock(folder):
        pytest.fail("a folder")


def test_folders_made_for_a_lock_go_with_it_unless_they_hold_something(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folder_lock(tmp_path / "runs" / "data"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path / "runs" / "data"):
        (tmp_path / "runs" / "kept.txt").touch()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["kept.txt"]
    (tmp_path / "was there").mkdir()
    with folder_lock(tmp_path / "was there"):
        pass
    assert (tmp_path / "was there").exists()
