"""README and the pages beside it: their commands work as written, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from repository import ROOT

from lst.cli import main

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for page in (
        README,
        *((ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/corpora.md")),
    )
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture
def my_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the README's commands name, in the current folder."""
    folder = tmp_path / "my_audio"
    folder.mkdir()
    rows = ["path\ttext"]
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", 0.1 * np.sin(np.arange(16_000) / (5 + number)), 16_000)
        rows.append(f"{number}.wav\ta sound of one second")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "lst"], ids=" ".join)
def test_lst_commands_are_accepted_as_written(words: list[str], my_audio: Path) -> None:
    """With ``--dry-run``, which composes the configuration and checks the corpus as the command itself would."""
    shown_only = {"--help", "--dry-run", "--cfg"} & set(words)
    assert main(words[1:] + ([] if shown_only else ["--dry-run"])) == 0
    assert not (my_audio.parent / "runs").exists()


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_make_targets_exist(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_is_one_of_ours() -> None:
    assert {words[0] for words in COMMANDS} <= {"lst", "make"}
    assert len(COMMANDS) >= 12


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `(lst/\w+|tests)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_continuous_integration_runs_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^make test$", script, re.MULTILINE)
