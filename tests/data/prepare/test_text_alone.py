"""``corpus=none``: files of text become shards of tokenised documents, the same bytes however they were made."""

from __future__ import annotations

import functools
import json
import os
import threading
import tracemalloc
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from made_texts import prepare_words, write_stories
from places import names_below

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.config import TextConfig
from lst.data.corpora.text_files import list_texts, read_texts
from lst.data.prepare import text_alone
from lst.data.prepare.options import find_origin
from lst.data.prepared import PreparedData
from lst.data.shards import SHARD_FOLDER
from lst.runs.preparing import prepare_options
from lst.storage import Url, sha256


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stories(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def prepared(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("prepared")
    assert main(prepare_words(run, stories)) == 0
    return run


def hashes(run: Path) -> dict[str, str]:
    data = run / "data"
    return {name: sha256(data / name) for name in names_below(data) if not name.startswith(".")}


def test_every_document_is_there_once_with_its_pieces(stories: Path, prepared: Path) -> None:
    data = PreparedData(prepared / "data")
    assert data.is_text_alone
    assert len(data.train) == 0
    assert data.index["aligner"] == "none (text alone)"
    lines = (stories / "a.txt").read_text().splitlines()
    lines += [json.loads(line)["text"] for line in (stories / "b.jsonl").read_text().splitlines()]
    held_out, training = [one.text for one in data.valid], [one.text for one in data.text]
    assert sorted(held_out + training) == sorted(lines)
    assert 0.1 < len(held_out) / len(lines) < 0.35
    # Equal documents are on one side.
    assert not set(held_out) & set(training)
    for text in (data.text[0], data.valid[-1]):
        assert text.pieces is not None
        assert text.pieces.tolist() == data.tokenizer.encode(text.text)
    counted = sum(entry["num_pieces"] for entries in data.index["splits"].values() for entry in entries)
    assert counted == sum(len(data.tokenizer.encode(line)) for line in lines)
    assert main(["check", f"run_dir={prepared}"]) == 0


def test_the_bytes_depend_neither_on_workers_nor_on_parts(
    stories: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lst.parallel.ordered.START_S", 0.0)
    assert main([*prepare_words(tmp_path / "two", stories), "num_workers=2"]) == 0
    assert hashes(tmp_path / "two") == hashes(prepared)
    for part in ("plan", "1/2", "0/2"):
        assert main(prepare_words(tmp_path / "parts", stories, f"part={part}")) == 0
    assert main(prepare_words(tmp_path / "parts", stories)) == 0
    assert hashes(tmp_path / "parts") == hashes(prepared)


def test_a_stopped_run_makes_only_what_is_missing(
    stories: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = text_alone.make_text_shard

    def stopping(task: Any) -> Any:
        made.append(task.name)
        if len(made) == 4:
            raise KeyboardInterrupt
        return make(task)

    monkeypatch.setattr(text_alone, "make_text_shard", stopping)
    words = prepare_words(tmp_path, stories)
    assert main(words) == 130
    monkeypatch.setattr(text_alone, "_scan", None)  # the files are not gone through again
    assert main(words) == 0
    assert hashes(tmp_path) == hashes(prepared)
    assert made[3] == made[4]
    assert len(made) == 1 + len(list((tmp_path / "data" / SHARD_FOLDER).glob("*.tar")))
    (tmp_path / "data" / SHARD_FOLDER / "text-000001.tar").write_bytes(b"damaged")
    (tmp_path / "data" / "text.model").write_bytes(b"damaged")
    assert main(words) == 0
    assert hashes(tmp_path) == hashes(prepared)


def test_text_behind_a_url(stories: Path, prepared: Path, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for name in ("a.txt", "b.jsonl"):
        system.pipe(f"/stories/{name}", (stories / name).read_bytes())
    allowed = "storage.allow_protocols=[memory]"
    assert main(prepare_words(tmp_path, "memory://stories", allowed)) == 0
    shards = [(run / "data" / SHARD_FOLDER / "text-000000.tar").read_bytes() for run in (tmp_path, prepared)]
    assert shards[0] == shards[1]
    assert main(prepare_words(tmp_path / "one", "memory://stories/a.txt", allowed)) == 0
    assert names_below(Url("memory://stories")) == ["a.txt", "b.jsonl"]


def test_one_file_behind_http(stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(stories))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            assert main([*prepare_words(tmp_path, f"{base}/a.txt"), "--dry-run"]) == 0
            assert "1 files of text" in capsys.readouterr().out
            assert [
                part.text for file in list_texts(f"{base}/a.txt").files for part in read_texts(file, TextConfig())
            ] == (stories / "a.txt").read_text().splitlines()
            assert main([*prepare_words(tmp_path, f"{base}/absent.txt"), "--dry-run"]) == 2
        finally:
            server.shutdown()


def test_every_fault_is_named_before_work_starts_or_skipped_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_stories(tmp_path / "text", 20)
    (folder / "c.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    (folder / "d.txt").write_bytes(b"one line\n\xff\n")
    words = prepare_words(tmp_path, folder)
    assert main(words) == 2
    told = capsys.readouterr().err
    for part in ("2 problems", "c.jsonl, line 2: lacks the field 'text'", "d.txt, line 2: is not UTF-8", "on_error=sk"):
        assert part in told
    assert not (tmp_path / "data" / SHARD_FOLDER).exists()
    assert main([*words, "on_error=skip", "max_skipped_share=0.5"]) == 0
    left_out = [json.loads(line)["id"] for line in (tmp_path / "data" / "left_out.jsonl").read_text().splitlines()]
    assert left_out == ["c.jsonl, line 2", "d.txt, line 2"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "does not exist: name a file, a folder"),
        ("one document\n", "has 1 documents, of which data.text.valid_share holds out"),
        ("", "a.txt: is empty"),
    ],
)
def test_too_little_text(tmp_path: Path, content: str | None, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_text(content)
    assert main(prepare_words(tmp_path / "run", tmp_path / "a.txt")) == 2
    assert told in capsys.readouterr().err


def test_options_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["corpus=none"], "corpus=none: there is no speech, so name the text with text="),
        (["corpus=none", "text=a.txt", "data.num_spoken_stories=9"], "data.num_spoken_stories=9: has no effect"),
        (["text=https://example.org/a.txt"], "folders and URLs are for corpus=none"),
        (["text=."], "folders and URLs are for corpus=none"),
        (["text=a.txt", "data.text.field=body"], "data.text.field=body: has no effect"),
        (["corpus=a", "text=a.txt", "data.voice=none"], "data.voice=none: has no effect"),
    ):
        assert main(["prepare", f"run_dir={tmp_path}", *words]) == 2
        assert told in capsys.readouterr().err
    assert main(["quickstart", f"run_dir={tmp_path}", "corpus=none", "text=a.txt"]) == 2
    assert "quickstart compares models of speech" in capsys.readouterr().err


def test_one_held_out_document_where_the_share_gives_none(tmp_path: Path) -> None:
    write_stories(tmp_path / "text", 12)
    assert main(prepare_words(tmp_path, tmp_path / "text" / "a.txt", "data.text.valid_share=1e-9")) == 0
    data = PreparedData(tmp_path / "data")
    assert (len(data.valid), len(data.text)) == (1, 5)


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    line = "the small boat went over the lake to the other shore before night " * 30
    with open(tmp_path / "large.txt", "w") as file:
        for number in range(2000):
            file.write(f"{number} {line}\n")
    words = prepare_words(tmp_path, tmp_path / "large.txt", "data.text.shard_bytes=16384")
    options = prepare_options(build_config(words[1:]))
    origin = find_origin(options)
    files = text_alone.named_texts(origin, options)
    tracemalloc.start()
    try:
        facts = text_alone._scan(files, options).facts
        lines = sum(1 for _ in text_alone.training_lines(origin, options, facts))
        names = [name for name, _ in text_alone._tasks(text_alone.texts_of(files, options, facts), options)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert facts["num_bytes"] > 3_900_000
    assert lines == facts["num_documents"] - facts["num_held_out"]
    assert len(names) > 200
    assert peak < 1_000_000


def test_a_plan_names_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "good.txt").write_text("a line\nanother line\n")
    (folder / "empty.txt").write_text("")
    words = [*prepare_words(tmp_path, str(folder)), "--dry-run"]
    assert main(words) == 2
    assert "empty.txt: is empty" in capsys.readouterr().err
    (folder / "empty.txt").unlink()
    os.mkfifo(folder / "pipe.txt")
    assert main(words) == 2
    assert "pipe.txt cannot be read: is a FIFO" in capsys.readouterr().err
