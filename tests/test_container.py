"""The Dockerfile, read without a builder: what it copies is there and let through, and its versions are ours."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from repository import ROOT

INSTRUCTIONS = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its argument, continued lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def is_let_through(name: str) -> bool:
    """Whether .dockerignore lets a file or folder at the top through: the last line that matches decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if line and not line.startswith("#") and fnmatch.fnmatch(name, pattern):
            passes = line.startswith("!")
    return passes


def test_all_that_is_copied_is_there_and_let_through() -> None:
    copied = [shlex.split(rest) for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    sources = [name for words in copied for name in words[:-1]]
    assert {"pyproject.toml", "setup.py", "lst"} <= set(sources)
    for name in sources:
        assert (ROOT / name).exists(), name
        assert is_let_through(name), name
    assert not is_let_through(".venv")
    assert not is_let_through("runs")


def test_instructions_are_known_and_stages_are_defined_before_they_are_named() -> None:
    found = instructions()
    assert {word for word, _ in found} <= INSTRUCTIONS
    stages: list[str] = []
    for word, rest in found:
        stages += re.findall(r" AS (\w+)$", rest) if word == "FROM" else []
        assert word != "COPY" or all(name in stages for name in re.findall(r"--from=(\w+)", rest))
    given = {name for word, rest in found if word == "ARG" for name in [rest.partition("=")[0]]}
    text = "\n".join(rest for word, rest in found if word != "ARG")
    assert given <= set(re.findall(r"\$\{?(\w+)", text))


def test_versions_are_those_of_the_package() -> None:
    text, project = (ROOT / "Dockerfile").read_text(), (ROOT / "pyproject.toml").read_text()
    for package in ("torch", "torchaudio"):
        wanted = re.search(rf'"({package}>=[^"]+)"', project)
        assert wanted is not None
        assert f"'{wanted[1]}'" in text
    minor = re.search(r"PYTHON_VERSION=3\.(\d+)", text)
    assert minor is not None
    assert 10 <= int(minor[1]) <= 13


def test_shell_lines_parse(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    if shell is None:
        pytest.skip("no sh")
    for word, rest in instructions():
        if word == "RUN":
            checked = subprocess.run([shell, "-n", "-c", rest], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
