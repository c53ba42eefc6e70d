"""Strings from files are plain places: no chain, no template, no option, no host of this machine."""

from __future__ import annotations

import ast
import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fsspec.implementations.http import HTTPFileSystem
from repository import ROOT

from lst import storage
from lst.data.audio.places import open_location
from lst.data.corpora.manifest import read_manifest
from lst.errors import ProblemsError, StorageError, UserError
from lst.storage import Url, access, locate
from lst.storage.access import PlaceError, place_problem

SOURCES = sorted((ROOT / "lst").rglob("*.py"))


@pytest.fixture(autouse=True)
def plain_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in access.VARIABLES:
        monkeypatch.setenv(variable, "")


def poisoned_url(target: Path) -> str:
    """A chained URL whose templates made fsspec before 2026.6 run code."""
    call = f"{{{{ cycler.__init__.__globals__.os.system('touch {target}') }}}}"
    references = {"version": 1, "templates": {"u": call}, "gen": [], "refs": {"a.wav": ["{{u}}", 0, 10]}}
    content = base64.b64encode(json.dumps(references).encode()).decode()
    return f"reference://a.wav::data:application/json;base64,{content}"


def test_a_manifest_runs_no_code(tmp_path: Path) -> None:
    """By the command itself, in a process of its own: the row is a fault, and nothing has run."""
    target = tmp_path / "ran"
    rows = [
        {"id": "one", "path": poisoned_url(target), "text": "one"},
        {"id": "two", "path": f"simplecache::{poisoned_url(target)}", "text": "two"},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "lst", "check", f"corpus={tmp_path}", f"run_dir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert not target.exists()
    assert "chains places by '::'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("reference://x", "protocol 'reference' is not allowed; allowed are file, http, https, s3"),
        ("s3://bucket/a.tar::file://b", "chains places by '::'"),
        ("filecache::s3://bucket/a", "chains places by '::'"),
        ("zip://a.wav", "protocol 'zip' is not allowed"),
        ("HTTP://example.org/a", "protocol 'HTTP' is not allowed"),
        ("local:///etc/passwd", "protocol 'local' is not allowed"),
        ("\0s3://b/a", "is not allowed"),
        ("https://user:secret@example.org/a", "options before '@'"),
        ("s3://key:secret@bucket/a", "options before '@'"),
        ("abfs://c@account.evil.org/a", "options before '@'"),
        ("s3://bucket/a?versionId=3", "options behind '?'"),
        ("https:///a.wav", "names no host"),
        ("http://[::1]/a", "chains places by '::'"),
        ("http://exa mple.org/a", "is no valid address"),
        ("http://example.org\\@127.0.0.1/a", "options before '@'"),
        ("http://127.0.0.1:80/a", "host 127.0.0.1 is this machine"),
        ("http://localhost/a", "allow it by storage.allow_hosts=[localhost]"),
        ("http://LOCALHOST./a", "host localhost is this machine"),
        ("https://a.localhost/a", "is this machine"),
        ("http://169.254.169.254/latest/meta-data", "is this machine or lies in a private network"),
        ("http://10.1.2.3/a", "private network"),
        ("http://[fe80:0:0:0:0:0:0:1]/a", "private network"),
        ("http://[0:0:0:0:0:ffff:7f00:1]/a", "private network"),
        ("http://[0:0:0:0:0:0:7f00:1]/a", "private network"),
        ("http://[fec0:0:0:0:0:0:0:1]/a", "private network"),
        ("http://127。0。0。1/a", "is no valid address"),
        ("http://①②⑦.0.0.①/a", "is no valid address"),
        ("http://１０.0.0.1/a", "is no valid address"),
        ("http://2130706433/a", "is no valid address"),
        ("http://127.1/a", "is no valid address"),
        ("http://0177.0.0.1/a", "is no valid address"),
    ],
)
def test_what_no_string_may_name(place: str, problem: str) -> None:
    assert problem in place_problem(place)
    for make in (Url, locate) if "://" in place else (Url,):
        with pytest.raises(PlaceError):
            make(place)


@pytest.mark.parametrize(
    "place",
    [
        "file:///a/b.wav",
        "https://example.org/a b.wav?token=x%3D&y",
        "http://example.org:8080/a",
        "https://8.8.8.8/a",
        "s3://bucket/key",
        "gs://bucket/key@2x.wav",
        "abfs://box@account.dfs.core.windows.net/a",
        "az://box/a#1.wav",
    ],
)
def test_plain_places_are_allowed(place: str) -> None:
    assert place_problem(place) == ""
    assert str(locate(place)) == place.removeprefix("file://")


def test_the_command_line_allows_more(monkeypatch: pytest.MonkeyPatch) -> None:
    access.allow(["sftp"], ["*.example.org", "10.0.0.7"], ["http://localhost:80/x", "a/b", None, "s3://bucket/x"])
    allowed = ("sftp://host/a", "https://a.example.org/b", "http://10.0.0.7/a", "http://localhost/a")
    assert [place_problem(place) for place in allowed] == [""] * 4
    assert "not among storage.allow_hosts=[*.example.org,10.0.0.7]" in place_problem("https://example.com/a")
    assert "not among" in place_problem("http://127.0.0.1/a")
    assert access.settings() == {variable: os.environ[variable] for variable in access.VARIABLES}
    # A worker of another machine is told, and a later command forgets.
    for variable in access.VARIABLES:
        monkeypatch.setenv(variable, "")
    assert place_problem("sftp://host/a")


def test_every_faulty_place_of_a_manifest_is_named_at_once(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text(
        "id\tpath\ttext\na\treference://x\tone\nb\thttp://169.254.169.254/a.wav\ttwo\nc\ts3://b/c::d\tthree\n"
    )
    with pytest.raises(ProblemsError) as raised:
        read_manifest(manifest)
    first, second, third = raised.value.problems
    assert "line 2 (id 'a')" in first
    assert "not allowed" in first
    assert "private network" in second
    assert "chains" in third


class Redirects(BaseHTTPRequestHandler):
    """Answers every request with a redirect to what the server's ``target`` says, or with ``b"ok"``."""

    def do_GET(self) -> None:
        target = None if self.path.endswith("plain") else getattr(self.server, "target", None)
        self.send_response(302 if target else 200)
        if target:
            # Headers go out as Latin-1; a hostile server sends UTF-8.
            self.send_header("Location", target.encode().decode("latin-1"))
        self.send_header("Content-Length", "0" if target else "2")
        self.end_headers()
        if not target:
            self.wfile.write(b"ok")
        getattr(self.server, "asked").append(self.path)  # noqa: B009

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Redirects)
    made.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_this_machine_is_asked_only_where_the_command_line_names_it(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/plain"
    with pytest.raises(PlaceError, match=r"host 127\.0\.0\.1 is this machine"):
        storage.read_bytes(url)
    access.allow(named=[url])
    assert storage.read_bytes(url) == b"ok"
    access.allow(hosts=["127.0.0.1"])
    assert storage.read_bytes(url) == b"ok"


def test_a_redirect_leads_to_no_other_place_than_a_string_may_name(server: HTTPServer) -> None:
    start = f"http://127.0.0.1:{server.server_port}/start"
    access.allow(named=[start])
    for target in ("http://localhost:1/a", "http://169.254.169.254/latest", "//10.0.0.1/a", "http://0.0.0.0/plain"):
        server.target = target  # type: ignore[attr-defined]
        for read in (storage.read_bytes, lambda url: open_location(url).read()):
            with pytest.raises(UserError, match=r"redirects: .* is this machine or lies in a private network"):
                read(start)
    server.target = f"http://127。0。0。1:{server.server_port}/plain"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"redirects: .* is no valid address"):
        storage.read_bytes(start)
    server.target = "/plain"  # type: ignore[attr-defined]
    assert storage.read_bytes(start) == b"ok"


@pytest.mark.parametrize("header", ["URI", "Location"])
def test_a_redirect_in_any_header_is_checked(server: HTTPServer, header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is named as localhost; it redirects to its own number, which nobody named."""
    start = f"http://localhost:{server.server_port}/start"
    access.allow(named=[start])
    send = Redirects.send_header
    monkeypatch.setattr(
        Redirects, "send_header", lambda self, name, value: send(self, header if name == "Location" else name, value)
    )
    server.target = f"http://127.0.0.1:{server.server_port}/plain"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"redirects: .* is this machine or lies in a private network"):
        storage.read_bytes(start)


def test_a_number_of_any_spelling_is_refused_when_it_is_connected_to(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a spelling had passed the check of the text; by a client that has approved no address yet."""
    HTTPFileSystem.clear_instance_cache()
    monkeypatch.setattr(access, "place_problem", lambda place: "")
    with pytest.raises(PlaceError, match=r"address 127\.0\.0\.1: host 127\.0\.0\.1 is this machine"):
        storage.read_bytes(f"http://127。0。0。1:{server.server_port}/plain")
    assert server.asked == []  # type: ignore[attr-defined]


def test_a_name_that_resolves_to_this_machine_is_not_asked(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolve_public_name(host: object, *rest: object, **named: object) -> object:
        return resolve("127.0.0.1" if host == "public.example.org" else host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_public_name)
    url = f"http://public.example.org:{server.server_port}/plain"
    assert place_problem(url) == ""
    with pytest.raises(PlaceError, match=r"host public\.example\.org is this machine or lies in a private network"):
        storage.read_bytes(url)
    assert server.asked == []  # type: ignore[attr-defined]
    access.allow(hosts=["*.example.org"])
    assert storage.read_bytes(url) == b"ok"


def test_a_listing_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv(access.PROTOCOLS_VARIABLE, "memory")
    storage.write_text("memory://listing/a.txt", "a")
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: {"/listing/../../etc/cron.d/x": {"size": 1}})
    with pytest.raises(StorageError, match="leads out of it"):
        storage.list_files("memory://listing")


def test_only_one_file_calls_fsspec() -> None:
    """Everything else asks ``lst.storage``, whose places are checked."""
    for path in SOURCES:
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
        # webdataset and smart_open take commands and chains from strings, as fsspec does. The file that writes shards
        # hands webdataset's writer an open local file, and no string.
        allowed = {
            ROOT / "lst/storage/places.py": {"fsspec"},
            ROOT / "lst/data/shards/samples.py": {"webdataset"},
        }
        assert not names & {"fsspec", "smart_open", "webdataset"} - allowed.get(path, set()), path


def test_webdataset_is_used_for_its_writer_alone() -> None:
    text = (ROOT / "lst/data/shards/samples.py").read_text()
    assert text.count("webdataset import") == text.count("from webdataset import TarWriter") == 1
    assert text.count("TarWriter(") == text.count("with TarWriter(file,") == 1
