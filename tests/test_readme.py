"""README and the pages that took over parts of it: their commands work as written, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from documentation import commands_of
from repository import ROOT

from lst.cli import main

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Pages whose commands all run with the default data or with the folder ``my_audio``.
PAGES = ("README.md", "CONTRIBUTING.md", "guides/corpora.md", "guides/training.md", "start/quickstart.md")
PAGES += ("start/own-audio.md", "concepts/state-space.md", "guides/evaluation.md", "benchmarks/synthetic.md")
# Each once: pages repeat commands.
COMMANDS = list(
    {
        tuple(words): None
        for name in PAGES
        for words in commands_of(ROOT / name if (ROOT / name).exists() else ROOT / "docs" / name)
    }
)


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
def test_lst_commands_are_accepted_as_written(words: tuple[str, ...], my_audio: Path) -> None:
    """With ``--dry-run``, which composes the configuration and checks the corpus as the command itself would."""
    shown_only = {"--help", "--dry-run", "--cfg"} & set(words)
    assert main([*words[1:], *([] if shown_only else ["--dry-run"])]) == 0
    assert not (my_audio.parent / "runs").exists()


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_make_targets_exist(words: tuple[str, ...]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_is_one_of_ours() -> None:
    assert {words[0] for words in COMMANDS} <= {"lst", "make"}
    assert len(COMMANDS) >= 12


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `(lst/\w+|tests)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_continuous_integration_runs_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("make test", "make wheel", "make docs"):
        # The wheel is built beside the documentation, and waited for.
        assert re.search(rf"^{command}( &\nwheel=\$!\nmake docs\nwait \"\$wheel\")?$", script, re.MULTILINE), command
