"""Run folders in which a file or two are damaged: every command that reads one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import Damage, Pristine, damages
from fuzzing import fuzzed, run, sampled, told
from hypothesis import given
from hypothesis import strategies as st

from lst.commands import COMMANDS, job_of
from lst.configs.reads import reads_of
from lst.data.shards.files import write_index
from lst.model.hashes import write_hashes
from lst.storage import read_bytes, sha256

COMMON = ["report", "eval", "export", "card"]
WORDS = {
    "generate": ["name=static", "generate.text=hello there", "generate.max_new_tokens=2"],
    "report": ["report.num_audio=1"],
    "export": ["export.folder=/nowhere"],
    "card": ["card.max_utterances=9"],
}


class Calls:
    """What each command does once its words are read: its plan, or its work where that takes milliseconds.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.words = {name: [f"run_dir={folder}", *WORDS.get(name, [])] for name in ("check", "generate", *COMMON)}
        self.configs = {name: job_of(name).build(words, reads_of(name, True)) for name, words in self.words.items()}

    def __call__(self, name: str) -> object:
        call = COMMANDS[name].run if name in ("check", "generate") else COMMANDS[name].plan
        return call(self.configs[name], self.words[name])


@pytest.fixture(scope="module")
def calls(made: Pristine) -> Calls:
    return Calls(made.folder)


def is_nonsense(made: Pristine, damage: Damage) -> bool:
    """Whether a hash says that a file is not as it was written."""
    name, path = damage.file, made.folder / damage.file
    if not made.is_changed(name):
        return False
    if name.endswith("index.json"):
        return not path.is_file() or means(path.read_bytes()) != means(made.contents[name])
    if name.startswith("data/"):
        return True
    # Without its configuration, a model is none yet; without hashes, nothing can be compared.
    has_hashes = (path.parent / "hashes.json").exists()
    return "/final/" in name and not name.endswith(("README.md", "hashes.json")) and path.exists() and has_hashes


def means(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content


def seal(folder: Path) -> None:
    """Makes hashes agree with the damage, as one would who means harm: only the content can tell then."""
    data = folder / "data"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        index = json.loads(read_bytes(data / "index.json"))
        index["files"] = {name: sha256(data / name) for name in index["files"]}
        for entry in (entry for entries in index["splits"].values() for entry in entries):
            path = data / "shards" / f"{entry['name']}.json"
            tar = path.with_suffix(".tar")
            entry["num_bytes"], entry["sha256"] = tar.stat().st_size, sha256(tar)
            entry["receipt_sha256"] = sha256(path)
        write_index(data, index)
    for final in folder.glob("models/*/final"):
        with contextlib.suppress(OSError):
            write_hashes(final, {})


@contextlib.contextmanager
def damaged(made: Pristine, found: list[Damage], is_sealed: bool) -> Iterator[None]:
    """The run with some damage; put right at the end."""
    try:
        for damage in found:
            damage.do(made.folder)
        if is_sealed:
            seal(made.folder)
        yield
    finally:
        made.restore()


def some_damage(data: st.DataObject, made: Pristine, names: list[str]) -> list[Damage]:
    """One or two files' damage."""
    one = damages(names, made.contents)
    found: list[Damage] = data.draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda damage: damage.file))
    return found


@fuzzed
@given(data=st.data())
def test_damaged_runs(made: Pristine, calls: Calls, data: st.DataObject) -> None:
    found = some_damage(data, made, made.names)
    command, is_sealed = data.draw(st.sampled_from(sorted(calls.words))), data.draw(st.booleans())
    with damaged(made, found, is_sealed):
        if not is_sealed and any(is_nonsense(made, damage) for damage in found):
            statuses: list[object] = []
            assert told(lambda: statuses.append(calls("check")), made.folder) or statuses == [1]
        told(lambda: calls(command), made.folder)


@sampled
@given(data=st.data())
def test_whole_commands_on_damaged_runs(made: Pristine, data: st.DataObject) -> None:
    """Pages and scores read what no plan reads: rows of metrics and of items, and audio."""
    names = [name for name in made.names if not name.endswith((".tar", ".safetensors", "index.json"))]
    found = some_damage(data, made, names)
    command = data.draw(st.sampled_from(COMMON))
    with damaged(made, found, is_sealed=True):
        run([command, f"run_dir={made.folder}", *WORDS.get(command, [])], made.folder)
