"""Preparing that is stopped, killed or short of disk ends with the same data when run again; damage is made anew."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from processes import descendants
from repository import ROOT

from lst import storage
from lst.cli import main
from lst.data.prepare.prepare import prepare
from lst.data.shards import VERSION, ShardReader, entries_of, load_index, verify_shards
from lst.errors import ProblemsError, StorageError, UserError
from lst.storage import Url
from tests.data.conftest import MakeCorpus, files_in, hashes, is_alive, options, times

ARTEFACTS = ["text.model", "units.safetensors", "vocabulary.json"]


def command_line(corpus: Path, run: Path, num_workers: int) -> list[str]:
    """The same options for the command ``lst``."""
    return [
        "prepare",
        f"run_dir={run}",
        f"corpus={corpus}",
        f"num_workers={num_workers}",
        "data.valid_share=0.25",
        "data.shard_utterances=2",
        "tokenizer.num_units=16",
        "tokenizer.text_vocab_size=300",
    ]


def damage_file(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:middle])
    else:
        content[middle] ^= 1
        path.write_bytes(content)


def shards_made_since(before: dict[str, int], folder: Path) -> list[str]:
    """Names of shards and receipts that were written after ``before`` was taken."""
    return [Path(name).name for name, time in times(folder).items() if "shards/" in name and before.get(name) != time]


def stop_at_replace(monkeypatch: pytest.MonkeyPatch, error: Callable[[str], BaseException | None]) -> None:
    """Makes every renaming into place ask ``error`` for what to raise instead, given the file's name."""
    replace = os.replace

    def replace_or_stop(source: Any, target: Any) -> None:
        if (raised := error(Path(target).name)) is not None:
            raise raised
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_stop)


def test_an_interrupted_run_that_lacks_the_index_alone_makes_no_shard_again(copy: Path, corpus: Path) -> None:
    before, content = times(copy), hashes(copy)
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    after = times(copy)
    kept = [name for name in before if name.startswith("shards/") or name in ("units.safetensors", "text.model")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert hashes(copy) == content


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped byte"])
def test_only_the_damaged_shard_is_made_again(copy: Path, corpus: Path, damage: str, has_index: bool) -> None:
    before, content = times(copy), hashes(copy)
    damage_file(copy / "shards/train-000001.tar", damage)
    if not has_index:
        (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content
    assert shards_made_since(before, copy) == ["train-000001.json", "train-000001.tar"]


@pytest.mark.parametrize("damage", ["missing", "cut", "missing with its shard"])
def test_shard_without_a_receipt_is_made_again(copy: Path, corpus: Path, damage: str) -> None:
    """Once the index is gone: it holds the receipts too."""
    before, content = times(copy), hashes(copy)
    damage_file(copy / "shards/train-000001.json", damage.split()[0])
    if damage == "missing with its shard":
        (copy / "shards/train-000001.tar").unlink()
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content
    assert shards_made_since(before, copy) == ["train-000001.json", "train-000001.tar"]


@pytest.mark.parametrize("damage", ["count", "sample", "without a check", "no object"])
def test_altered_receipt_of_a_whole_shard_is_made_again(copy: Path, corpus: Path, damage: str) -> None:
    """Once the index is gone nothing else would tell, and it would go into the next one."""
    before, content = times(copy), hashes(copy)
    path = copy / "shards/train-000001.json"
    receipt = json.loads(path.read_text())
    if damage == "count":
        receipt["num_utterances"] += 1
    elif damage == "sample":
        receipt["samples"]["key"][0] = "utt_x"
    else:
        del receipt["check"]
    path.write_text(json.dumps(3 if damage == "no object" else receipt))
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content
    assert shards_made_since(before, copy) == ["train-000001.json", "train-000001.tar"]


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("name", [*ARTEFACTS[:2], "train-000001.json", "train-000001.tar"])
def test_storage_out_of_reach_is_no_damage(
    prepared: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, has_index: bool
) -> None:
    """The error is the storage's, and nothing is taken away or made again."""
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    folder = shutil.copytree(prepared, tmp_path / "data")
    if not has_index:
        (folder / "index.json").unlink()
    always_written = ("vocabulary.json", "made_from.json")
    before = {path: time_ns for path, time_ns in times(folder).items() if path not in always_written}

    def unreachable(read: Callable[..., Any]) -> Callable[..., Any]:
        def read_or_fail(place: Any, *rest: Any) -> Any:
            if str(place).endswith(name):
                raise StorageError(f"{place} cannot be reached (TimeoutError)")
            return read(place, *rest)

        return read_or_fail

    for function in ("read_bytes", "open_binary"):
        failing = unreachable(getattr(storage, function))
        # The door's name, and that by which the room's own functions call it.
        monkeypatch.setattr(storage, function, failing)
        monkeypatch.setattr(storage.files, function, failing)
    with pytest.raises(StorageError, match=rf"{name} cannot be reached"):
        prepare(Url(f"local://{folder}"), options(corpus))
    after = times(folder)
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("verify", ["hash", "size"])
def test_damage_behind_the_index_is_named_and_made_again(
    copy: Path, corpus: Path, verify: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, content = times(copy), hashes(copy)
    damage_file(copy / "shards/valid-000000.tar", "missing")
    damage_file(copy / "shards/train-000002.tar", "flipped byte")
    prepare(copy, options(corpus, verify=verify))
    said = capsys.readouterr().err
    assert "valid-000000.tar is missing" in said
    # By its size it passes; found it is all the same, for now every shard is looked at.
    assert ("train-000002.tar was altered" in said) == (verify == "hash")
    assert "train-000000" not in said
    assert hashes(copy) == content
    assert [name for name in shards_made_since(before, copy) if "tar" in name] == [
        "train-000002.tar",
        "valid-000000.tar",
    ]


def test_doing_as_a_reader_of_damaged_shards_says_mends_the_data(copy: Path, corpus: Path) -> None:
    path = copy / "shards/train-000002.tar"
    content = bytearray(path.read_bytes())
    content[content.find(list(ShardReader(copy, "train"))[-1].units.tobytes())] ^= 1
    path.write_bytes(content)
    remedy = (
        r"train-000002\.tar was altered.*\nRun lst prepare again with the same settings: it makes anew what is damaged"
    )
    with pytest.raises(ProblemsError, match=remedy):
        verify_shards(copy, entries_of(load_index(copy)), full=True)
    with pytest.raises(UserError, match=r"train-000002\.tar: sample 'utt_\d' was altered.*Run lst prepare again"):
        list(ShardReader(copy, "train"))
    prepare(copy, options(corpus))
    assert len(list(ShardReader(copy, "train"))) == 6


@pytest.mark.parametrize("name", ARTEFACTS)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped byte"])
def test_damaged_tokenizers_are_named_and_made_again(
    copy: Path, corpus: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, content = times(copy), hashes(copy)
    damage_file(copy / name, damage)
    prepare(copy, options(corpus))
    said = capsys.readouterr().err
    assert [other for other in ARTEFACTS if other in said] == [name]
    assert hashes(copy) == content
    after = times(copy)
    assert shards_made_since(before, copy) == []
    # The vocabulary is written whenever anything is.
    assert all(after[other] == before[other] for other in ARTEFACTS[:2] if other != name)
    prepare(copy, options(corpus))
    assert times(copy) == after


@pytest.mark.parametrize("name", ARTEFACTS)
def test_damaged_tokenizers_of_a_run_that_was_stopped_are_made_again(copy: Path, corpus: Path, name: str) -> None:
    """As where the run that was to mend them was stopped once it had taken the index away."""
    content = hashes(copy)
    (copy / "index.json").unlink()
    damage_file(copy / name, "cut")
    prepare(copy, options(corpus))
    assert hashes(copy) == content


def test_all_that_is_damaged_is_named_at_once_and_made_again(
    copy: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = hashes(copy)
    for name in ARTEFACTS:
        damage_file(copy / name, "cut")
    (copy / "shards/train-000001.tar").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content
    said = capsys.readouterr().err
    assert [name for name in (*ARTEFACTS, "train-000001.tar") if name not in said] == []


@pytest.mark.parametrize("name", ["made_from.json", "source.json", "manifest.jsonl", "texts.jsonl", "left_out.jsonl"])
def test_lists_that_are_gone_are_made_again(
    corpus: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("A line that nobody says.\nAnother one of them.\n")
    wanted = options(corpus, tmp_path / "texts.txt")
    prepare(tmp_path / "data", wanted)
    content = hashes(tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    (tmp_path / "data/index.json").unlink()
    prepare(tmp_path / "data", wanted)
    assert "train 6, valid 2, text 2 utterances" in capsys.readouterr().err.splitlines()[-1]
    assert hashes(tmp_path / "data") == content


def test_damaged_index_is_named_and_made_again(copy: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever reads it says to prepare again."""
    before, content = times(copy), hashes(copy)
    damage_file(copy / "index.json", "cut")
    with pytest.raises(UserError, match=r"index\.json is not JSON.*Run lst prepare \(again\)"):
        ShardReader(copy, "train")
    prepare(copy, options(corpus))
    assert "index.json is not JSON" in capsys.readouterr().err
    assert hashes(copy) == content
    assert shards_made_since(before, copy) == []


def test_index_of_another_version_is_refused_and_left_as_it_is(copy: Path, corpus: Path) -> None:
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**index, "version": VERSION + 1}))
    before = times(copy)
    told = rf"index\.json has version {VERSION + 1}, this project reads {VERSION}: use .* in another run_dir"
    with pytest.raises(UserError, match=told):
        prepare(copy, options(corpus))
    assert times(copy) == before


def test_stopped_after_every_few_files_it_still_ends_with_the_same(
    prepared: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is stopped before its fifth or sixth renaming, in turn, until one gets through."""
    left = 0

    def stop(name: str) -> BaseException | None:
        nonlocal left
        left -= 1
        return KeyboardInterrupt() if left < 0 else None

    stop_at_replace(monkeypatch, stop)
    for num_runs in range(1, 30):
        left = 4 + num_runs % 2
        try:
            prepare(tmp_path, options(corpus))
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "index.json").exists()
            assert not any("partial" in name for name in files_in(tmp_path))
    assert num_runs > 4
    assert hashes(tmp_path) == hashes(prepared)


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The folder of a run with two workers, killed once its first shard was there; and those of its processes that
    were still alive half a minute later."""
    for _ in range(3):
        run = tmp_path_factory.mktemp("killed")
        command = [sys.executable, "-m", "lst", *command_line(corpus, run, 2)]
        process = forked.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        receipts, deadline = run / "data/shards", time.monotonic() + 120
        while not list(receipts.glob("[!.]*.json")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        children = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        alive = [child for child in children if is_alive(child)]
        for child in alive:
            os.kill(child, signal.SIGKILL)
        if list(receipts.glob("[!.]*.json")) and not (run / "data/index.json").exists():
            return run, alive
    pytest.fail("a machine too busy to be killed in time: three runs had finished before")


def test_killed_in_the_middle_and_run_again_it_ends_with_the_same(
    prepared: Path, corpus: Path, killed: tuple[Path, list[int]]
) -> None:
    run, _ = killed
    # A file that was being written when the kill came begins with a dot, and is removed.
    before = {path: path.stat().st_mtime_ns for path in (run / "data/shards").glob("[!.]*.json")}
    assert before
    # The card is the command's own, and prepare() alone, which made the other data, writes none.
    assert main([*command_line(corpus, run, 1), "card.after_prepare=false"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = {name: digest for name, digest in hashes(run / "data").items() if "partial" not in name}
    assert found == hashes(prepared)


def test_killed_run_leaves_no_process_behind(killed: tuple[Path, list[int]]) -> None:
    _, alive = killed
    assert alive == []


def test_stopped_before_the_settings_are_recorded_a_folder_does_not_mix_two_corpora(
    corpus: Path, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_corpus(tmp_path / "other")
    lines = (other / "manifest.jsonl").read_text().splitlines(keepends=True)
    (other / "manifest.jsonl").write_text("".join(lines[:-1]))
    (other / "utt_7.wav").unlink()
    with monkeypatch.context() as patch:
        stop_at_replace(patch, lambda name: KeyboardInterrupt() if name == "made_from.json" else None)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "data", options(corpus))
    lists = ["manifest.jsonl", "plan.jsonl", "source.json", "texts.jsonl"]
    assert files_in(tmp_path / "data") == sorted(["audio_hashes.npy", "seen.json", *lists])
    prepare(tmp_path / "data", options(other))
    prepare(tmp_path / "fresh", options(other))
    assert hashes(tmp_path / "data") == hashes(tmp_path / "fresh")


@pytest.mark.parametrize(
    "full_at", ["manifest.jsonl", "units.safetensors", "train-000001.tar", "train-000001.json", "index.json"]
)
def test_full_disk_is_named_and_leaves_no_partial_file(
    copy: Path, prepared: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    """What was written before stays, and with space again the run ends with the same files."""
    for name in files_in(copy):
        if name not in ("units.safetensors", "text.model") or full_at in ("manifest.jsonl", "units.safetensors"):
            (copy / name).unlink()
    with monkeypatch.context() as patch:
        stop_at_replace(patch, lambda name: OSError(errno.ENOSPC, "No space left") if name == full_at else None)
        with pytest.raises(
            UserError, match=rf"the disk that holds .* is full: {full_at} was not written.*run the same"
        ):
            prepare(copy, options(corpus))
    assert not any("partial" in name for name in files_in(copy))
    assert full_at not in {Path(name).name for name in files_in(copy)}
    prepare(copy, options(corpus))
    assert hashes(copy) == hashes(prepared)


def test_disk_that_fills_while_flushing_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"the disk that holds .* is full: manifest\.jsonl was not written"):
        prepare(tmp_path / "data", options(corpus))
    assert files_in(tmp_path / "data") == []


def test_disk_that_fills_while_a_shard_is_written_is_named(
    copy: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes from the write itself, in the middle of the tar."""
    (copy / "index.json").unlink()
    (copy / "shards/train-000001.tar").unlink()

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tarfile.TarFile.addfile", no_space)
    with pytest.raises(UserError, match=r"is full: train-000001\.tar was not written"):
        prepare(copy, options(corpus))
    assert not any("partial" in name for name in files_in(copy))
